"""What NATS keeps on the disk is sealed, and stays readable when the keys change."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from mesh.bus.tests.members import entry, member
from mesh.platform.child import Child
from mesh.platform.components.component import ComponentError, until_ready
from mesh.platform.components.nats import Nats
from mesh.stores.keyring import add_key
from mesh.testing import Platform

pytestmark = pytest.mark.store

WORDS = "我的电话是 13800138000, call me Li Lei"
MANY = 40


@pytest.fixture
async def own() -> AsyncIterator[Platform]:
    """A platform of this test's own; NATS alone is started."""
    platform = Platform()
    yield platform
    await platform.stop()


async def say(platform: Platform, tenant: str) -> None:
    """Put messages into the log, into the dead letters, and before a consumer."""
    async with member(platform, "operator") as bus:
        for number in range(MANY):
            message = entry(number, tenant)
            message.message.content.text.text = WORDS
            await bus.publish(f"log.{tenant}.{number}", message, message_id=f"{tenant}-{number}")
            await bus.publish("dead.LOG.bot", message, message_id=f"{tenant}-dead-{number}")


async def kept(platform: Platform, tenant: str) -> int:
    """How many messages of a tenant can be read."""
    async with member(platform, "operator") as bus:
        return sum([len(await bus.read(f"log.{tenant}.{number}", after_seq=0, limit=2)) for number in range(MANY)])


def files_with(folder: Path, *needles: bytes) -> list[str]:
    """Files below a folder that hold one of these."""
    return [
        str(path.relative_to(folder))
        for path in folder.rglob("*")
        if path.is_file() and any(needle in path.read_bytes() for needle in needles)
    ]


async def test_no_text_and_no_name_lies_in_the_clear(own: Platform) -> None:
    data = own.folder.data("nats")
    await own.nats.start()
    await say(own, "qingshan")
    assert files_with(data, b"13800138000", "电话".encode(), b"Li Lei", b"qingshan") == []
    await own.nats.kill()
    assert files_with(data, b"13800138000", "电话".encode(), b"Li Lei", b"qingshan") == []
    assert (await restarted(own, "qingshan")) == MANY


async def restarted(platform: Platform, tenant: str) -> int:
    await platform.nats.start()
    return await kept(platform, tenant)


async def test_a_folder_that_lay_in_the_clear_is_sealed_at_the_next_start(own: Platform) -> None:
    data = own.folder.data("nats")
    await in_the_clear(own)
    assert files_with(data, b"13800138000") != []

    assert await restarted(own, "qingshan") == MANY
    await own.nats.stop()
    assert files_with(data, b"13800138000", "电话".encode(), b"qingshan") == []


async def in_the_clear(platform: Platform) -> None:
    """Fill the folder as a release did that knew no encryption."""
    component = Nats(platform.folder, platform.nats.port, platform.nats.monitor_port)
    await component.prepare()
    (platform.folder.secrets / "nats-encryption.conf").write_text("")
    child = Child(component.command())
    child.start()
    await until_ready(component, child)
    await platform.nats.provision()
    await say(platform, "qingshan")
    await child.stop()


async def test_another_key_is_refused_before_it_can_do_harm(own: Platform) -> None:
    keyring = own.folder.secrets / "keyring-nats"
    await own.nats.start()
    await say(own, "first")
    await own.nats.stop()
    add_key(keyring)
    with pytest.raises(ComponentError, match="must hold one key, 'k1'"):
        await own.nats.start()
    keyring.write_text(keyring.read_text().splitlines()[0] + "\n")
    assert await restarted(own, "first") == MANY


async def test_a_key_that_is_missing_is_named(own: Platform) -> None:
    keyring = own.folder.secrets / "keyring-nats"
    await own.nats.start()
    await own.nats.stop()
    keyring.unlink()
    add_key(keyring)
    keyring.write_text(keyring.read_text().replace("k1 ", "k9 "))
    with pytest.raises(ComponentError, match="must hold one key, 'k1'"):
        await own.nats.start()


async def test_the_key_stands_in_no_settings_file(own: Platform) -> None:
    await own.nats.start()
    key = (own.folder.secrets / "keyring-nats").read_text().split()[1]
    assert files_with(own.folder.config, key.encode()) == []
    assert json.dumps(key) in (own.folder.secrets / "nats-encryption.conf").read_text()
    for path in own.folder.secrets.iterdir():
        assert path.stat().st_mode & 0o077 == 0
