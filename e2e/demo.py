"""`octopus demo`: plays a conversation through Envoy and prints it.

A shopper asks the bot of the clothes shop over WebSocket, asks for a person, and talks with an agent, who is
connected by gRPC. Everything is said on the running platform, as its users would say it.
"""

from __future__ import annotations

import asyncio
import sys
import time

import grpc
from octopus.chat.v1 import message_pb2
from octopus.session.v1 import session_pb2
from rich.console import Console

from e2e.clients.participant import Participant
from e2e.clients.transports import Grpc, WebSocket
from e2e.people import Shop
from e2e.running import NotRunningError, Octopus
from mesh.errors import from_rpc_error
from mesh.process.folder import running

_STATES = {
    session_pb2.SESSION_STATE_WAITING: "等待人工客服 · waiting for a person",
    session_pb2.SESSION_STATE_ASSIGNED: "已分配给客服 · offered to an agent",
    session_pb2.SESSION_STATE_ACTIVE: "客服已接入 · an agent joined",
    session_pb2.SESSION_STATE_ENDED: "会话结束 · the session has ended",
}
_NAMES = {
    message_pb2.SENDER_KIND_BOT: "[green]机器人 bot[/]",
    message_pb2.SENDER_KIND_AGENT: "[magenta]小林 agent[/]",
}


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
        match message.WhichOneof("content"):
            case "text":
                name = _NAMES.get(message.sender.kind, "[cyan]王小明 shopper[/]")
                self._console.print(f"{at}  {name}: {message.text.text}")
            case "answer":
                self._console.print(f"{at}  {_NAMES[message.sender.kind]}: {message.answer.text}")
                for source in message.answer.sources[:1]:
                    self._console.print(f"           [dim]来源 source: {source.question} ({source.score:.2f})[/]")
            case "change":
                words = _STATES.get(message.change.session.state)
                if words:
                    self._console.print(f"{at}  [yellow]—— {words} ——[/]")


async def play(octopus: Octopus, console: Console) -> None:
    """Play the conversation. Raises `NotRunningError` when there is no platform to play it on."""
    edge = octopus.edge
    async with edge.channel() as channel:
        shop = Shop("qingshan", octopus.logins()["qingshan"], edge, channel)
        agent_identity = await shop.staff(shop.agents[0])
        shopper_identity = await shop.customer("王小明")
        session = await shop.open_session(shopper_identity)
        await shop.set_status(agent_identity, session_pb2.AGENT_STATUS_AVAILABLE)
        async with (
            Participant(shopper_identity, WebSocket(edge)).connected() as shopper,
            Participant(agent_identity, Grpc(edge)).connected() as agent,
        ):
            printing = asyncio.create_task(_Printer(console, shopper).run())
            for question in ("你们一般多久发货？", "Can I return something I bought last week?"):
                answers = _answers(shopper)
                await shopper.say(session.id, question)
                await shopper.until(lambda p, n=answers: _answers(p) > n)  # type: ignore[misc]
            await shopper.say(session.id, "转人工")
            await agent.until(
                lambda p: (
                    session.id in p.sessions
                    and p.sessions[session.id].state == session_pb2.SESSION_STATE_ASSIGNED
                    and p.sessions[session.id].agent_id == p.identity.user_id
                ),
                timeout=120,
            )
            await shop.accept(agent_identity, session.id)
            await agent.say(session.id, "您好，我是小林，前面的对话我都看到了，请问订单号是多少？")
            await shopper.until(lambda p: any(m.sender.kind == message_pb2.SENDER_KIND_AGENT for m in p.shown))
            await shopper.say(session.id, "订单 20261121，想换大一码。")
            await agent.until(lambda p: "订单 20261121，想换大一码。" in p.texts(session.id))
            await agent.say(session.id, "好的，已经为您登记换货，运费我们承担。")
            await shopper.until(lambda p: "好的，已经为您登记换货，运费我们承担。" in p.texts(session.id))
            await shop.end(agent_identity, session.id)
            await shopper.until(lambda p: p.sessions[session.id].state == session_pb2.SESSION_STATE_ENDED)
            printing.cancel()


def _answers(participant: Participant) -> int:
    return sum(message.HasField("answer") for message in participant.shown)


def main() -> None:
    """Play it on the platform that runs."""
    console = Console(highlight=False)
    try:
        asyncio.run(play(Octopus(running().root), console))
    except NotRunningError as error:
        console.print(f"[red]✗[/] {error}")
        sys.exit(1)
    except grpc.aio.AioRpcError as error:
        refused = from_rpc_error(error)
        console.print(f"[red]✗[/] the platform refused: {refused.reason_name}: {refused.description}")
        sys.exit(1)
    except TimeoutError:
        console.print("[red]✗[/] no answer came in time; `octopus status` and `octopus logs NAME` tell why")
        sys.exit(1)


if __name__ == "__main__":
    main()
