"""`octopus demo`: plays a conversation through Envoy and prints it.

A shopper asks the bot of the clothes shop over WebSocket, asks for a person, and talks with an agent, who is
connected by gRPC. Everything is said on the running platform, as its users would say it.
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Callable

import grpc
from octopus.chat.v1 import message_pb2
from octopus.session.v1 import session_pb2
from rich.console import Console

from e2e.clients.edge import Identity
from e2e.clients.participant import Participant
from e2e.clients.transports import Grpc, WebSocket
from e2e.people import Shop
from e2e.running import NotRunningError, Octopus
from mesh.errors import from_rpc_error
from mesh.platform.folder import running

_STATES = {
    session_pb2.SESSION_STATE_WAITING: "等待人工客服 · waiting for a person",
    session_pb2.SESSION_STATE_ASSIGNED: "已分配给客服 · offered to an agent",
    session_pb2.SESSION_STATE_ACTIVE: "客服已接入 · an agent joined",
    session_pb2.SESSION_STATE_WARNING: "顾客未回复，已提醒 · the customer was reminded",
    session_pb2.SESSION_STATE_ENDED: "会话结束 · the session has ended",
}
_NAMES = {
    message_pb2.SENDER_KIND_BOT: "[green]机器人 bot[/]",
    message_pb2.SENDER_KIND_AGENT: "[magenta]客服 agent[/]",
}

# Seconds to wait for each thing, on a machine that is busy with its first start.
_PATIENCE_S = 60.0


class _Printer:
    """Prints what one participant is shown, as it comes."""

    def __init__(self, console: Console, watched: Participant) -> None:
        self._console = console
        self._watched = watched
        self._printed = 0
        self._began = time.monotonic()

    async def run(self) -> None:
        """Print until cancelled."""
        while True:
            await self._watched.until(lambda p: len(p.shown) > self._printed, timeout=3600)
            for message in self._watched.shown[self._printed :]:
                self._printed += 1
                self._print(message)

    def _print(self, message: message_pb2.Message) -> None:
        at = f"[dim]{time.monotonic() - self._began:5.2f} s[/]"
        match message.content.WhichOneof("kind"):
            case "text":
                name = _NAMES.get(message.sender.kind, "[cyan]王小明 shopper[/]")
                self._console.print(f"{at}  {name}: {message.content.text.text}")
            case "answer":
                self._console.print(f"{at}  {_NAMES[message.sender.kind]}: {message.content.answer.text}")
                for source in message.content.answer.sources[:1]:
                    self._console.print(f"           [dim]来源 source: {source.title} ({source.score:.2f})[/]")
            case "change":
                words = _STATES.get(message.content.change.session.state)
                if words:
                    self._console.print(f"{at}  [yellow]—— {words} ——[/]")
            case None if message.content.fallback_text:
                self._console.print(f"{at}  {message.content.fallback_text}")


class SilentError(Exception):
    """Something did not come in time; the text says what."""


async def play(octopus: Octopus, console: Console) -> None:
    """Play the conversation. Raises `NotRunningError` when there is no platform to play it on, and `SilentError`."""
    edge = octopus.edge
    async with edge.channel() as channel:
        shop = Shop("qingshan", octopus.logins()["qingshan"], edge, channel)
        shopper_identity = await shop.customer("王小明")
        available = await shop.staff(shop.agents[0])
        before = await shop.status(available)
        await shop.set_status(available, session_pb2.AGENT_STATUS_AVAILABLE)
        session = await shop.open_session(shopper_identity)
        async with Participant(shopper_identity, WebSocket(edge)).connected() as shopper:
            printing = asyncio.create_task(_Printer(console, shopper).run())
            try:
                await _ask_the_bot(shopper, session.id)
                agent_identity = await _ask_for_a_person(shop, shopper, session.id)
                async with Participant(agent_identity, Grpc(edge)).connected() as agent:
                    await shop.accept(agent_identity, session.id)
                    await _hear(shopper, "the agent", lambda p: _last_state(p) == session_pb2.SESSION_STATE_ACTIVE)
                    await _talk(shopper, agent, session.id)
            finally:
                # Also after a failure: a session left open would take an agent's place.
                await shop.end(shopper_identity, session.id)
                # Nor may shoppers be offered to an agent who is not there.
                await shop.set_status(available, before)
            await _hear(shopper, "the end of the session", lambda p: _last_state(p) == session_pb2.SESSION_STATE_ENDED)
            printing.cancel()


async def _ask_the_bot(shopper: Participant, session_id: int) -> None:
    for question in ("你们一般多久发货？", "Can I return something I bought last week?"):
        answers = _answers(shopper)
        await shopper.say(session_id, question)
        await _hear(shopper, "an answer of the bot", lambda p, n=answers: _answers(p) > n)  # type: ignore[misc]


async def _ask_for_a_person(shop: Shop, shopper: Participant, session_id: int) -> Identity:
    """Ask in words and return the agent whom the session was offered: on a busy platform, anyone of the shop."""
    await shopper.say(session_id, "转人工")
    assigned = session_pb2.SESSION_STATE_ASSIGNED
    await _hear(shopper, "an agent", lambda p: p.sessions[session_id].state == assigned)
    for login in shop.agents:
        agent = await shop.staff(login)
        if agent.user_id == shopper.sessions[session_id].agent_id:
            return agent
    raise SilentError("the session was offered to somebody who is not among the demo log-ins")


async def _talk(shopper: Participant, agent: Participant, session_id: int) -> None:
    for speaker, hearer, words in (
        (agent, shopper, "您好，前面的对话我都看到了，请问订单号是多少？"),
        (shopper, agent, "订单 20261121，想换大一码。"),
        (agent, shopper, "好的，已经为您登记换货，运费我们承担。"),
    ):
        await speaker.say(session_id, words)
        await _hear(hearer, "a message", lambda p, w=words: w in p.texts(session_id))  # type: ignore[misc]


async def _hear(who: Participant, what: str, condition: Callable[[Participant], bool]) -> None:
    try:
        await who.until(condition, timeout=_PATIENCE_S)
    except TimeoutError:
        raise SilentError(f"{what} did not come within {_PATIENCE_S:.0f} s") from None


def _last_state(participant: Participant) -> session_pb2.SessionState.ValueType:
    """Return the state that the last change in the conversation led to; the printer has seen it too."""
    changes = [m.content.change.session.state for m in participant.shown if m.content.HasField("change")]
    return changes[-1] if changes else session_pb2.SESSION_STATE_UNSPECIFIED


def _answers(participant: Participant) -> int:
    return sum(message.content.HasField("answer") for message in participant.shown)


def main() -> None:
    """Play it on the platform that runs."""
    console = Console(highlight=False, soft_wrap=True)
    try:
        asyncio.run(play(Octopus(running().root), console))
    except NotRunningError as error:
        console.print(f"[red]✗[/] {error}")
        sys.exit(1)
    except grpc.aio.AioRpcError as error:
        refused = from_rpc_error(error)
        console.print(f"[red]✗[/] the platform refused: {refused.reason_name}: {refused.description}")
        sys.exit(1)
    except SilentError as error:
        console.print(f"[red]✗[/] {error}; `octopus status` and `octopus logs NAME` tell why")
        sys.exit(1)


if __name__ == "__main__":
    main()
