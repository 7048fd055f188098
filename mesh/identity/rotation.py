"""Replace every leaf at half of its life, while everything runs."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from mesh.identity.files import Identity

# The wall clock is asked this often, in seconds: a machine that slept must not wake with expired leaves for long.
LOOK_SECONDS = 5.0


@dataclass(frozen=True)
class Leaf:
    """One certificate to keep fresh."""

    # Its folder.
    identity: Identity
    # Makes a new one in the same place.
    issue: Callable[[], object]
    # Say whether the one there is usable at all: of the right authority, and valid now.
    usable: Callable[[], bool]


class Rotation:
    """Keeps a set of leaves fresh."""

    def __init__(self, leaves: Sequence[Leaf], replaced: Callable[[Identity], Awaitable[None]]) -> None:
        """Take the leaves and what to do after one was replaced, such as telling a server to read it again."""
        self._leaves = leaves
        self._replaced = replaced

    def renew(self) -> list[Identity]:
        """Issue each leaf that is missing, unusable or past half of its life; return those."""
        renewed = []
        for leaf in self._leaves:
            if not leaf.usable() or leaf.identity.due():
                leaf.issue()
                renewed.append(leaf.identity)
        return renewed

    async def run(self, every: float = LOOK_SECONDS) -> None:
        """Renew until cancelled; check the leaves each `every` seconds."""
        while True:
            for identity in self.renew():
                await self._replaced(identity)
            await asyncio.sleep(every)
