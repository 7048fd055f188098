"""The authority as a process: everybody gets a leaf, renewed while it runs, with the addresses it is dialled at."""

from __future__ import annotations

import asyncio
import signal
import sys
from datetime import timedelta
from pathlib import Path

import pytest
from cryptography import x509

from mesh.identity import names
from mesh.identity.authority import Authority
from mesh.identity.files import Identity
from mesh.identity.issuer import issue, leaves, read_hosts
from mesh.manifest import REPOSITORY

pytestmark = pytest.mark.unit


def addresses(identity: Identity) -> list[str]:
    held = identity.certificate().extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    return [str(each) for each in held.get_values_for_type(x509.IPAddress)]


async def until_issued(folder: Path, name: str, host: str) -> Identity:
    identity = Identity(folder, name)
    async with asyncio.timeout(30):
        while not identity.cert.exists() or host not in addresses(identity):
            await asyncio.sleep(0.05)
    return identity


async def test_the_process_issues_for_everybody_and_ends_when_it_is_told_to(tmp_path: Path) -> None:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "mesh.identity.issuer", "--folder", str(tmp_path), "--host", "nats=10.77.0.2"),
        cwd=REPOSITORY,
        stdout=asyncio.subprocess.DEVNULL,
    )
    try:
        await until_issued(tmp_path, "nats", "10.77.0.2")
        async with asyncio.timeout(30):
            while not all(Identity(tmp_path, name).cert.exists() for name in names.everybody()):
                await asyncio.sleep(0.05)
        process.send_signal(signal.SIGTERM)
        async with asyncio.timeout(30):
            assert await process.wait() == 0
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def test_a_leaf_past_half_of_its_life_or_without_its_address_is_replaced(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    old = authority.issue("chat", timedelta(seconds=30)).certificate().serial_number
    authority.issue("control")
    issuing = asyncio.create_task(issue(tmp_path, {"control": ["10.77.0.1"]}, every=0.05))
    await until_issued(tmp_path, "control", "10.77.0.1")
    async with asyncio.timeout(30):
        while Identity(tmp_path, "chat").certificate().serial_number == old:
            await asyncio.sleep(0.05)
    async with asyncio.timeout(30):
        while not all(leaf.usable() for leaf in leaves(authority, {"control": ["10.77.0.1"]})):
            await asyncio.sleep(0.05)
    issuing.cancel()
    await asyncio.gather(issuing, return_exceptions=True)
    assert not any(leaf.identity.due() for leaf in leaves(authority, {}))
    moved = {leaf.identity.name for leaf in leaves(authority, {"control": ["10.77.0.9"]}) if not leaf.usable()}
    assert moved == {"control"}


def test_hosts_are_of_known_names() -> None:
    assert read_hosts(["nats=10.77.0.1", "nats=10.77.0.2"]) == {"nats": ["10.77.0.1", "10.77.0.2"]}
    with pytest.raises(ValueError, match="NAME=ADDRESS"):
        read_hosts(["nats"])
    with pytest.raises(names.UnknownNameError):
        read_hosts(["nuts=10.77.0.1"])
