"""The messages that were delivered to a consumer and are not answered yet, and the answers.

The server redelivers a message that is not acknowledged or in progress for `ACK_WAIT_S`, so `keep_alive` reports
everything that is held as in progress.
"""

import asyncio
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from typing import Final

import structlog
from nats.errors import Error as NatsError

from mesh.bus import measure
from mesh.bus.client import Client
from mesh.bus.dead import DeadLetters
from mesh.bus.provision import ACK_WAIT_S
from mesh.bus.pull import Pulled
from mesh.bus.retry import LONGEST_PAUSE_S, nak

_log = structlog.get_logger(__name__)

_OUTCOMES: Final = {b"+ACK": "done", b"-NAK": "again", b"+TER": "dead"}


class Held:
    """The unanswered messages of one consumer. `on_room` is called when one of them was answered."""

    def __init__(
        self, client: Client, dead: DeadLetters, stream: str, durable: str, on_room: Callable[[], None]
    ) -> None:
        self._client = client
        self._dead = dead
        self._stream = stream
        self._durable = durable
        self._on_room = on_room
        self._held: dict[str, Pulled] = {}
        # Those behind a handler that ignores its cancellation: they do not count towards the limit.
        self._parked: set[str] = set()
        self._unwanted: list[Pulled] = []

    @property
    def working(self) -> int:
        """Return how many messages count towards the limit."""
        return len(self._held) - len(self._parked)

    def add(self, pulled: Pulled) -> None:
        """Add a message that was delivered."""
        self._held[pulled.ack_subject] = pulled

    def park(self, messages: Iterable[Pulled]) -> None:
        """Stop counting these messages towards the limit; they stay held."""
        self._parked.update(each.ack_subject for each in messages)
        self._on_room()

    def unpark(self, messages: Iterable[Pulled]) -> None:
        """Count these messages again."""
        self._parked.difference_update(each.ack_subject for each in messages)

    async def acknowledge(self, pulled: Pulled) -> None:
        """Acknowledge a message."""
        await self._answer((pulled,), b"+ACK")

    async def acknowledge_all(self, messages: Sequence[Pulled]) -> None:
        """Acknowledge many messages in one write."""
        await self._answer(messages, b"+ACK")

    async def give_back(self, pulled: Pulled, *, pause: float = 0.0) -> None:
        """Have a message redelivered after `pause` seconds, to any instance."""
        await self._answer((pulled,), nak(pause) if pause else b"-NAK")

    async def give_all_back(self) -> None:
        """Have everything that is held redelivered."""
        for pulled in list(self._held.values()):
            await self.give_back(pulled)

    async def bury(self, pulled: Pulled, error: Exception) -> None:
        """Move a message to the dead letters; when that fails, have it redelivered."""
        stored = await self._dead.store(pulled, error)
        await self._answer((pulled,), b"+TERM" if stored else nak(LONGEST_PAUSE_S))

    def pass_over(self, pulled: Pulled) -> bool:
        """Note a message that is not wanted; return whether `acknowledge_unwanted` has to be started."""
        self._unwanted.append(pulled)
        return len(self._unwanted) == 1

    async def acknowledge_unwanted(self) -> None:
        """Acknowledge unwanted messages: one task for all that arrived together."""
        while self._unwanted:
            unwanted, self._unwanted = self._unwanted, []
            await self.acknowledge_all(unwanted)

    async def keep_alive(self) -> None:
        """Report held messages as in progress, until cancelled."""
        while True:
            await asyncio.sleep(ACK_WAIT_S / 3)
            with suppress(NatsError, OSError):
                if self._held and self._client.is_connected:
                    await self._client.publish_on_each(list(self._held), b"+WPI")

    async def _answer(self, messages: Sequence[Pulled], verdict: bytes) -> None:
        """Send the answer for messages. If it is lost, they are redelivered."""
        for pulled in messages:
            self._held.pop(pulled.ack_subject, None)
        if self._parked:
            self._parked.difference_update(pulled.ack_subject for pulled in messages)
        measure.handled_as(self._durable, _OUTCOMES[verdict[:4]]).inc(len(messages))
        try:
            await self._client.publish_on_each((pulled.ack_subject for pulled in messages), verdict)
        except (NatsError, OSError) as error:
            _log.warning(
                "consumer answer not sent",
                stream=self._stream,
                durable=self._durable,
                seq=messages[0].seq,
                messages=len(messages),
                error=repr(error),
            )
        self._on_room()
