"""Hear who writes, remind customers who are silent, and end what stays silent.

A message wakes nobody: it is noted who wrote last, and every second what is due is looked for. Before a step is taken
the log is read to its end, so that a customer whose answer is stored but not noted yet is neither reminded nor left.
The session and the turn are locked while a step is decided: of several instances one takes it, and one that froze
between two steps decides anew.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from datetime import UTC

from octopus.chat.v1.chat_events_pb2 import LogEntry
from octopus.session.v1 import session_pb2

from mesh.bus import Bus, Delivery
from mesh.bus.streams import LOG
from services.session.assignment.assigner import each
from services.session.closing import Closing
from services.session.domain import Speaker, Turn, summarize
from services.session.lifecycle import Lifecycle
from services.session.log import Log, end_of, word_of
from services.session.turns import Silent, Turns

# What one turn does at most; the rest is for the next.
_MOST = 200
# A batch of the log: at most so many entries, and so many seconds to gather them.
_BATCH, _GATHERED_S = 500, 0.2
# How many logs are read at once.
_AT_ONCE = 8


class Silence:
    """Consumes the log and does what is due. Doing any of it again changes nothing."""

    def __init__(self, *, turns: Turns, log: Log, closing: Closing, lifecycle: Lifecycle) -> None:
        self._turns = turns
        self._log = log
        self._closing = closing
        self._lifecycle = lifecycle

    async def run(self, bus: Bus) -> None:
        """Consume the log until cancelled."""
        await bus.consume_batches(LOG, "session", ["log.*.*"], LogEntry, self.hear, batch=_BATCH, wait=_GATHERED_S)

    async def hear(self, deliveries: list[Delivery[LogEntry]]) -> None:
        """Note who wrote, in one statement for each shop, and summarize what has ended."""
        heard: dict[str, dict[int, Turn]] = defaultdict(dict)
        ended: dict[str, dict[int, session_pb2.Session]] = defaultdict(dict)
        for delivery in deliveries:
            entry = delivery.message
            session_id = entry.message.session_id
            if (session := end_of(entry)) is not None:
                ended[entry.tenant_id][session_id] = session
            # In the bot's care nobody is silent.
            elif entry.session_state != session_pb2.SESSION_STATE_BOT:
                word = word_of(entry, delivery.seq)
                if word is not None and word.speaker is not Speaker.BOT:
                    turns = heard[entry.tenant_id]
                    turns[session_id] = turns.get(session_id, Turn()).hear(word)
        for tenant_id, turns in heard.items():
            for session_id in await self._turns.take_in(tenant_id, turns):
                await self._lifecycle.take_step(tenant_id, session_id)
        for tenant_id, sessions in ended.items():
            await self._summarize(tenant_id, sessions)

    async def remind(self) -> None:
        """Remind customers who are silent."""
        await each(await self._turns.silent(limit=_MOST), self._take_step)

    async def leave(self) -> None:
        """End sessions in which the reminder was not answered either."""
        await each(await self._turns.overdue(limit=_MOST), self._take_step)

    async def _take_step(self, silent: Silent) -> None:
        tenant_id, session_id = silent
        turn = await self._turns.of(tenant_id, session_id)
        now = turn
        for word in await self._log.after(tenant_id, session_id, turn.last_seq):
            now = now.hear(word)
        if now != turn:
            await self._turns.take_in(tenant_id, {session_id: now})
        await self._lifecycle.take_step(tenant_id, session_id)

    async def _summarize(self, tenant_id: str, sessions: dict[int, session_pb2.Session]) -> None:
        reading = asyncio.Semaphore(_AT_ONCE)

        async def summarize_one(session: session_pb2.Session) -> None:
            async with reading:
                words = await self._log.after(tenant_id, session.id, 0)
                summary = summarize(
                    words,
                    handoff_at=session.handoff_at.ToDatetime(UTC) if session.HasField("handoff_at") else None,
                    accepted_at=session.accepted_at.ToDatetime(UTC) if session.HasField("accepted_at") else None,
                    ended_at=session.ended_at.ToDatetime(UTC),
                )
                await self._closing.summarize(tenant_id, session.id, summary)

        async with asyncio.TaskGroup() as group:
            for session in sessions.values():
                group.create_task(summarize_one(session))
        await self._turns.drop(tenant_id, sorted(sessions))
