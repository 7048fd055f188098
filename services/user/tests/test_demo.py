"""The demo's people can log in, and loading them again changes nothing."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from mesh.testing import Platform
from services.user import demo
from services.user.app import Parts
from services.user.config import UserConfig
from services.user.demo import Logins

pytestmark = pytest.mark.store


async def test_everybody_in_the_file_can_log_in_however_often_it_is_loaded(
    parts: Parts, config: UserConfig, migrated: Platform, tmp_path: Path
) -> None:
    file = tmp_path / "logins.json"
    await demo.fill(config, file)
    first = file.read_text()
    assert file.stat().st_mode & 0o777 == 0o600
    await demo.fill(config, file)
    assert file.read_text() == first
    await check(parts, json.loads(first))
    people = await migrated.postgres.execute("SELECT count(*) FROM cs_user WHERE request_id LIKE 'demo-%'")
    assert people == [(13,)]

    file.unlink()
    await demo.fill(config, file)
    assert file.read_text() != first
    await check(parts, json.loads(file.read_text()))


async def check(parts: Parts, logins: Logins) -> None:
    assert {tenant: len(shop["staff"]) for tenant, shop in logins["shops"].items()} == {"qingshan": 6, "xinghe": 5}
    for tenant_id, shop in logins["shops"].items():
        for staff in shop["staff"]:
            user, _ = await parts.sign_in.log_in(tenant_id, staff["login"], staff["password"])
            assert user.display_name == staff["display_name"]
        for partner in shop["partners"]:
            await parts.sign_in.client_token(tenant_id, partner["client_id"], partner["client_secret"], ["chat.read"])
        async with parts.db.tenant(tenant_id) as conn:
            assert await parts.users.identity_secret(conn, tenant_id) == shop["identity_secret"].encode()
