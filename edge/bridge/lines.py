"""Which instance of chat a person's conversation goes to, and the one stream to each instance."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from typing import Final

import grpc
import structlog
from octopus.chat.v1 import relay_service_pb2_grpc
from octopus.errors.v1 import errors_pb2

from edge.bridge.line import Call, Line
from edge.bridge.wheel import Wheel
from mesh.errors import Refused
from mesh.rpc.metadata import INSTANCE, USER

_log = structlog.get_logger(__name__)

# People are divided into so many slots; a slot is what the mesh's affinity and canary see, so this is how finely they
# can share people out.
SLOTS: Final = 64
# Seconds for which the mesh's answer for a slot is good: as long it takes until new people follow new weights.
_ROUTE_S: Final = 20.0
# Seconds in which an instance must answer, and in which one must be found.
_ANSWER_WITHIN_S: Final = 2.0
_FOUND_WITHIN_S: Final = 6.0
_PAUSE_S: Final = 0.1


def slot_of(user_id: int) -> int:
    """Return a person's slot: by Fibonacci hashing, because the low bits of a Snowflake id are nearly always 0."""
    return (user_id * 0x9E3779B97F4A7C15 & 0xFFFF_FFFF_FFFF_FFFF) * SLOTS >> 64


@dataclass(frozen=True, slots=True)
class _Route:
    line: Line
    found_at: float


class Lines:
    """One line to each instance that the mesh names. What instances there are, only the mesh knows.

    A stream is opened for a slot. When its answer names an instance to which there is a line already, that line is used
    and the new stream closed; so an instance that comes, goes, or gets another share of people needs no word about it
    here, and nobody is cut off by it.
    """

    def __init__(self, chat: relay_service_pb2_grpc.RelayServiceStub, wheel: Wheel) -> None:
        self._chat = chat
        self._wheel = wheel
        self._lines: dict[str, Line] = {}
        self._routes: dict[int, _Route] = {}
        self._finding: dict[int, asyncio.Task[Line]] = {}

    def known(self, user_id: int) -> Line | None:
        """Return the line for a person when no question is needed."""
        route = self._routes.get(slot_of(user_id))
        if route is None or not route.line.good or time.monotonic() - route.found_at > _ROUTE_S:
            return None
        return route.line

    async def find(self, user_id: int) -> Line:
        """Return the line for a person.

        Raises:
            Refused: UNAVAILABLE, no instance answers.

        """
        slot = slot_of(user_id)
        finding = self._finding.get(slot)
        if finding is None:
            finding = self._finding[slot] = asyncio.create_task(self._find(slot), name=f"find-{slot}")
            finding.add_done_callback(lambda _: self._finding.pop(slot, None))
        # Shared by all who wait: one who goes must not take the others' answer along.
        return await asyncio.shield(finding)

    async def close(self) -> None:
        """End all lines."""
        for finding in list(self._finding.values()):
            finding.cancel()
        await asyncio.gather(*self._finding.values(), return_exceptions=True)
        await asyncio.gather(*(line.end() for line in list(self._lines.values())))

    async def _find(self, slot: int) -> Line:
        give_up_at = time.monotonic() + _FOUND_WITHIN_S
        while True:
            line = await self._asked(slot)
            if line is not None:
                self._routes[slot] = _Route(line, time.monotonic())
                return line
            before = self._routes.get(slot)
            if before is not None and before.line.good:
                # No instance answers, but the current line still works.
                return before.line
            if time.monotonic() >= give_up_at:
                raise Refused(errors_pb2.REASON_UNAVAILABLE, "no instance of chat answers; connect again")
            await asyncio.sleep(_PAUSE_S)

    async def _asked(self, slot: int) -> Line | None:
        """Open a stream for a slot; return the line to the instance that answers, None when none does."""
        call: Call = self._chat.Relay(metadata=((USER, f"slot-{slot}"),))
        try:
            async with asyncio.timeout(_ANSWER_WITHIN_S):
                metadata = await call.initial_metadata()
        except TimeoutError:
            call.cancel()
            return None
        except asyncio.CancelledError:
            # A call that fails before its answer cancels who waits for it, in gRPC's way.
            call.cancel()
            if (task := asyncio.current_task()) is not None and task.cancelling():
                raise
            return None
        except grpc.aio.AioRpcError as error:
            _log.warning("no line for slot", slot=slot, code=error.code().name)
            return None
        instance = next((str(value) for key, value in metadata or () if key == INSTANCE), None)
        if instance is None:
            # It was refused, or has failed.
            call.cancel()
            return None
        line = self._lines.get(instance)
        if line is not None and line.open:
            # Ends it in order, which is one line in chat's log without an error.
            await call.done_writing()
            return line
        if line is not None:
            # It is stopping, and is still registered.
            call.cancel()
            return None
        line = self._lines[instance] = Line(call, instance, self._wheel, self._ended)
        return line

    def _ended(self, line: Line) -> None:
        if self._lines.get(line.instance) is line:
            del self._lines[line.instance]
