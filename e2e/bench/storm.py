"""A storm: everybody whose connection broke comes back at once, while others talk.

Those who come back run in a process of their own (`python -m e2e.bench.storm`): their handshakes would hold up the
clock of those who talk, and be taken for the platform's. It has a low priority, because the processors of thousands
of telephones are not ours. They do what the contract asks of clients: come back when they were told to, and after
pauses that double, each of another length, when no connection comes about.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import sys
import time
from collections.abc import Sequence
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from octopus.chat.v1 import frame_pb2
from picows import WSError

from e2e.bench.order import Measured, Pair
from e2e.bench.talk import Party, Talk
from e2e.bench.wire import over_websocket
from e2e.clients.edge import Edge, Identity

# Seconds within which all connections break.
_BREAK_WITHIN_S: Final = 5.0
# Seconds in which everybody must be welcomed, and in which one attempt must be answered.
_WELCOME_WITHIN_S: Final = 900.0
_ANSWER_WITHIN_S: Final = 20.0
# Pauses after an attempt that no answer came to: the first one, doubled up to the last one.
_PAUSES_S: Final = (0.3, 15.0)
# How much less the process that comes back is favoured by the scheduler.
_NICE: Final = 10
# Seconds of talk before the storm and after it, to compare with.
_QUIET_S: Final = 10.0
# Seconds that are not counted, after the first connections and after the last ones.
_SETTLE_S: Final = 2.0
# Pauses between two messages of a talk, as between people: the storm is to be felt, not the talks' own load.
_PAUSE_S: Final = 0.2


@dataclass(frozen=True)
class Storm:
    """How it went: those who talked, before and during the storm, and those who came back."""

    reconnects: int
    seconds: float
    quiet: Measured
    during: Measured

    @property
    def ratio(self) -> float:
        """Return the p99 of those who talk, as a multiple of the quiet one; the aim is below 2."""
        return self.during.p99_ms / self.quiet.p99_ms


async def storm(edge: Edge, talking: Sequence[Pair], people: Sequence[Identity], reconnects: int) -> Storm:
    """Let `people` come back without cursors, again and again, `reconnects` times in all, while others talk."""
    opener = over_websocket(edge)
    latencies: list[float] = []
    async with AsyncExitStack() as stack:
        tasks: list[asyncio.Task[None]] = []
        stack.callback(lambda: [task.cancel() for task in tasks])

        async def party(user_id: int, token: str) -> Party:
            return await Party.connect(opener, Identity("", user_id, token, ""), stack, tasks)

        for pair in talking:
            speaker = await party(pair.speaker_id, pair.speaker_token)
            listener = await party(pair.listener_id, pair.listener_token)
            tasks.append(asyncio.create_task(_talk(Talk(pair.session_id, speaker, listener), latencies)))
        quiet: list[float] = []
        during: list[float] = []

        async def listen(to: list[float], seconds: float) -> None:
            await asyncio.sleep(seconds)
            to += latencies
            latencies.clear()

        await asyncio.sleep(_SETTLE_S)
        latencies.clear()
        await listen(quiet, _QUIET_S)
        began = time.monotonic()
        await _elsewhere(edge, people, reconnects)
        seconds = time.monotonic() - began
        await listen(during, 0.0)
        await asyncio.sleep(_SETTLE_S)
        latencies.clear()
        await listen(quiet, _QUIET_S)
    return Storm(
        reconnects,
        seconds,
        Measured.of(2 * _QUIET_S, 0.0, quiet, 0),
        Measured.of(seconds, 0.0, during, 0),
    )


async def _talk(talk: Talk, latencies: list[float]) -> None:
    while True:
        seconds = await talk.say()
        if seconds is not None:
            latencies.append(seconds)
        await asyncio.sleep(_PAUSE_S)


async def _elsewhere(edge: Edge, people: Sequence[Identity], reconnects: int) -> None:
    who = [(person.user_id, person.access_token) for person in people]
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "e2e.bench.storm", edge.host, str(edge.port), str(edge.ca), str(reconnects),
        stdin=asyncio.subprocess.PIPE, start_new_session=True,
    )  # fmt: skip
    try:
        await process.communicate(json.dumps(who).encode())
    finally:
        if process.returncode is None:
            process.kill()
    if process.returncode != 0:
        raise RuntimeError("those who came back were not all welcomed; see above")


async def _come_back(edge: Edge, people: Sequence[Identity], reconnects: int) -> None:
    async def come_back(number: int) -> None:
        await asyncio.sleep(random.random() * _BREAK_WITHIN_S)  # spreads load, guards nothing
        await _welcomed(edge, people[number % len(people)])

    async with asyncio.timeout(_WELCOME_WITHIN_S), asyncio.TaskGroup() as tasks:
        for number in range(reconnects):
            tasks.create_task(come_back(number))


async def _welcomed(edge: Edge, who: Identity) -> None:
    pause, longest = _PAUSES_S
    while True:
        try:
            async with asyncio.timeout(_ANSWER_WITHIN_S):
                told = await _try(edge, who)
        except (OSError, WSError):
            await asyncio.sleep(pause * (1 - random.random() / 2))  # as above
            pause = min(2 * pause, longest)
            continue
        if told is None:
            return
        await asyncio.sleep(told)


async def _try(edge: Edge, who: Identity) -> float | None:
    """Connect once; return None when welcomed, and the time to wait when told to come back later."""
    answer: asyncio.Future[float | None] = asyncio.get_running_loop().create_future()

    def take(frame: frame_pb2.ServerFrame) -> None:
        if answer.done():
            return
        if frame.HasField("welcome"):
            answer.set_result(None)
        elif frame.HasField("goodbye"):
            answer.set_result(frame.goodbye.reconnect_after.ToMilliseconds() / 1000)

    async with AsyncExitStack() as stack:
        await over_websocket(edge)(who, take, stack)
        return await answer


def _give_way() -> None:
    """Lower our priority: that of the process, and less that of the session where the kernel weighs sessions.

    A session of the lowest weight would get nothing on a machine that has other work.
    """
    os.nice(_NICE)
    with suppress(OSError):
        Path("/proc/self/autogroup").write_text(str(_NICE // 2), encoding="ascii")


if __name__ == "__main__":
    _give_way()
    _host, _port, _ca, _reconnects = sys.argv[1:]
    asyncio.run(
        _come_back(
            Edge(_host, int(_port), Path(_ca)),
            [Identity("", user_id, token, "") for user_id, token in json.load(sys.stdin)],
            int(_reconnects),
        )
    )
