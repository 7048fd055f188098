"""Presence in Valkey; `presence.lua` is the state."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from importlib.resources import files
from typing import Any, Final, NamedTuple

from mesh.stores.valkey import Valkey
from services.presence.domain import LOST_AFTER, Device, Presence, Watch, presence

_MOST_STAFF: Final = 500
# Persons of a lost instance that one call deals with.
_MOST_LOST: Final = 1000


class Person(NamedTuple):
    """Somebody of a shop."""

    tenant_id: str
    user_id: int
    staff: bool


class Presences:
    """Access to the state. Every method raises `mesh.stores.errors.Unavailable` when Valkey cannot be reached."""

    def __init__(self, valkey: Valkey, *, lost_after: timedelta = LOST_AFTER, prefix: str = "presence:{all}") -> None:
        self._prefix = prefix
        self._script = valkey.register_script(files(__package__).joinpath("presence.lua").read_text())
        self._lost_ms = round(lost_after.total_seconds() * 1000)

    async def report(
        self, instance: str, sequence: int, *, first: bool, persons: Mapping[Person, Sequence[Device]]
    ) -> bool:
        """Take over an instance's report; return False when it does not follow on what is known."""
        refused = await self._run(
            "report",
            instance=instance,
            sequence=sequence,
            first=first,
            here={_name(person): json.dumps(devices) for person, devices in persons.items() if devices},
            gone=[_name(person) for person, devices in persons.items() if not devices],
            staff=[[person.tenant_id, str(person.user_id)] for person in persons if person.staff],
        )
        return not refused

    async def lose(self) -> str | None:
        """Give up an instance that has been silent for too long, a thousand persons at once.

        Return its name when it is done, "" when there is more to do, and None when there is no such instance.
        """
        lost: str | None = await self._run("lose", most=_MOST_LOST)
        return lost

    async def of(self, tenant_id: str, user_ids: Sequence[int]) -> list[Presence]:
        """Return the presence of these persons of a shop, in their order."""
        now, reporting, since, answers = await self._run("read", tenant=tenant_id, users=[str(one) for one in user_ids])
        watch = Watch(_moment(now), bool(reporting), _moment(since))
        return [
            presence(
                user_id,
                ([Device(*device) for device in json.loads(devices)] for devices in held),
                _moment(left) if left else None,
                watch,
            )
            for user_id, (held, left) in zip(user_ids, answers, strict=True)
        ]

    async def staff(self, tenant_id: str) -> list[int]:
        """Return the shop's staff who were connected within the last 30 days, the latest first, at most 500."""
        return [int(user) for user in await self._run("staff", tenant=tenant_id, limit=_MOST_STAFF)]

    async def _run(self, operation: str, **arguments: object) -> Any:
        return await self._script(
            keys=[self._prefix], args=[operation, json.dumps(arguments | {"lost_ms": self._lost_ms})]
        )


def _name(person: Person) -> str:
    return f"{person.tenant_id}/{person.user_id}"


def _moment(milliseconds: str) -> datetime:
    return datetime.fromtimestamp(float(milliseconds) / 1000, UTC)
