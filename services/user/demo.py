"""The people of the two demo shops: `python -m services.user.demo --config FILE --logins FILE`.

Safe to repeat. Passwords and the shops' identity secrets are made once and kept in the log-ins file (JSON, for its
owner's eyes only), which is written before anything else: whatever was created, its password is known.

    {"shops": {"qingshan": {"name_zh": ..., "name_en": ..., "identity_secret": ...,
      "staff": [{"login": ..., "password": ..., "display_name": ..., "roles": ["AGENT"]}, ...],
      "partners": [{"client_id": ..., "client_secret": ..., "display_name": ..., "scopes": ["chat.read"]}]}}}
"""

from __future__ import annotations

import argparse
import asyncio
import json
import secrets
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TypedDict

from mesh.atomic_file import write
from mesh.process.config import ConfigError
from mesh.process.member import Member
from mesh.telemetry.logs import configure_logging
from services.user.app import Parts, assemble
from services.user.config import UserConfig
from services.user.credentials import store as credential_store
from services.user.domain import Kind, Role, Tenant
from services.user.people.directory import NewUser


@dataclass(frozen=True, slots=True)
class Person:
    """A member of staff, or with `scopes` a partner."""

    name: str
    display_name: str
    roles: tuple[Role, ...]
    scopes: tuple[str, ...] = ()


SHOPS = (
    Tenant("qingshan", "青衫服饰", "Qingshan Clothing", disabled=False),
    Tenant("xinghe", "星河数码", "Xinghe Digital", disabled=False),
)

PEOPLE = {
    "qingshan": (
        Person("admin", "周店长", (Role.ADMIN,)),
        Person("supervisor", "林主管", (Role.SUPERVISOR,)),
        Person("knowledge", "苏知识", (Role.KNOWLEDGE_ADMIN,)),
        Person("xiaolin", "小林", (Role.AGENT,)),
        Person("xiaozhou", "小周", (Role.AGENT,)),
        Person("xiaoqing", "小青", (Role.AGENT,)),
        Person("erp", "青衫 ERP", (Role.PARTNER,), ("chat.read",)),
    ),
    "xinghe": (
        Person("admin", "陈店长", (Role.ADMIN,)),
        Person("supervisor", "何主管", (Role.SUPERVISOR,)),
        Person("knowledge", "许知识", (Role.KNOWLEDGE_ADMIN,)),
        Person("xiaohe", "小何", (Role.AGENT,)),
        Person("xiaoxing", "小星", (Role.AGENT,)),
        Person("erp", "星河 ERP", (Role.PARTNER,), ("chat.read",)),
    ),
}


class StaffLogin(TypedDict):
    """How a member of staff logs in."""

    login: str
    password: str
    display_name: str
    roles: list[str]


class PartnerLogin(TypedDict):
    """How a partner's system gets a token."""

    client_id: str
    client_secret: str
    display_name: str
    scopes: list[str]


class ShopLogins(TypedDict):
    """All secrets of a demo shop."""

    name_zh: str
    name_en: str
    identity_secret: str
    staff: list[StaffLogin]
    partners: list[PartnerLogin]


class Logins(TypedDict):
    """The log-ins file."""

    shops: dict[str, ShopLogins]


def logins(known: Logins) -> Logins:
    """Return the log-ins of all demo users: existing ones are kept, missing ones are generated."""
    return {"shops": {shop.tenant_id: _shop_logins(shop, known["shops"].get(shop.tenant_id)) for shop in SHOPS}}


def _shop_logins(shop: Tenant, known: ShopLogins | None) -> ShopLogins:
    passwords = {staff["login"]: staff["password"] for staff in known["staff"]} if known else {}
    passwords |= {partner["client_id"]: partner["client_secret"] for partner in known["partners"]} if known else {}
    for person in PEOPLE[shop.tenant_id]:
        passwords.setdefault(person.name, secrets.token_urlsafe(12))
    return {
        "name_zh": shop.name_zh,
        "name_en": shop.name_en,
        "identity_secret": known["identity_secret"] if known else secrets.token_urlsafe(32),
        "staff": [
            {
                "login": person.name,
                "password": passwords[person.name],
                "display_name": person.display_name,
                "roles": [role.name for role in person.roles],
            }
            for person in PEOPLE[shop.tenant_id]
            if not person.scopes
        ],
        "partners": [
            {
                "client_id": person.name,
                "client_secret": passwords[person.name],
                "display_name": person.display_name,
                "scopes": list(person.scopes),
            }
            for person in PEOPLE[shop.tenant_id]
            if person.scopes
        ],
    }


async def load(parts: Parts, wanted: Logins) -> None:
    """Create shops and people that are not there, and give those who are the passwords of the file."""
    for shop in SHOPS:
        found = wanted["shops"][shop.tenant_id]
        async with parts.db.tenant(shop.tenant_id) as conn:
            await parts.users.put_tenant(conn, shop, found["identity_secret"].encode())
        passwords = {staff["login"]: staff["password"] for staff in found["staff"]}
        passwords |= {partner["client_id"]: partner["client_secret"] for partner in found["partners"]}
        people = PEOPLE[shop.tenant_id]
        await asyncio.gather(*(_put(parts, shop.tenant_id, person, passwords[person.name]) for person in people))


async def _put(parts: Parts, tenant_id: str, person: Person, password: str) -> None:
    new = NewUser(
        request_id=f"demo-{tenant_id}-{person.name}",
        kind=Kind.PARTNER if person.scopes else Kind.STAFF,
        external_id=person.name,
        display_name=person.display_name,
        roles=person.roles,
        password=password,
        scopes=person.scopes,
    )
    began = parts.directory.clock()
    user = await parts.directory.create(tenant_id, new)
    if user.created_at >= began:
        return
    async with parts.db.tenant(tenant_id) as conn:
        kept = await credential_store.credential(conn, tenant_id, user.id)
    passwords = parts.directory.passwords
    if not await passwords.verify(kept, password):
        # The user is older than the file, which was lost and written again.
        hashed = await passwords.hash(password)
        async with parts.db.tenant(tenant_id) as conn:
            await credential_store.put_credential(conn, tenant_id, user.id, hashed)


async def fill(config: UserConfig, file: Path) -> None:
    """Write the log-ins file and load the demo."""
    known: Logins = json.loads(file.read_text()) if file.exists() else {"shops": {}}
    wanted = logins(known)
    write(file, json.dumps(wanted, ensure_ascii=False, indent=2) + "\n", mode=0o600)
    # Beside the running service, not instead of it.
    own = config.model_copy(update={"instance": "user-demo", "metrics_port": 0})
    async with Member(own) as member:
        await load(await assemble(member, own), wanted)


def main() -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(description="Fills the two demo shops with people. Safe to repeat.")
    parser.add_argument("--config", type=Path, required=True, metavar="FILE", help="settings of the user service")
    parser.add_argument("--logins", type=Path, required=True, metavar="FILE", help="where the passwords are kept")
    arguments = parser.parse_args()
    try:
        config = UserConfig.read(arguments.config)
    except ConfigError as error:
        sys.exit(str(error))
    configure_logging(config.name, "user-demo", config.log_level)
    asyncio.run(fill(config, arguments.logins))


if __name__ == "__main__":
    main()
