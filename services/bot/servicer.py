"""BotService on the wire."""

from __future__ import annotations

import grpc.aio
from octopus.bot.v1 import bot_service_pb2 as pb
from octopus.bot.v1 import bot_service_pb2_grpc

from mesh.rpc import principal
from mesh.rpc.metadata import on_behalf
from services.bot import wire
from services.bot.answering import Answering


class BotServicer(bot_service_pb2_grpc.BotServiceServicer):
    """The methods of BotService."""

    def __init__(self, answering: Answering) -> None:
        self._answering = answering

    async def TryQuestion(
        self,
        request: pb.TryQuestionRequest,
        context: grpc.aio.ServicerContext[pb.TryQuestionRequest, pb.TryQuestionResponse],
    ) -> pb.TryQuestionResponse:
        """Return the bot's reply without posting it."""
        reply = await self._answering.reply(request.question, on_behalf(principal.current()))
        if reply.hands_over:
            return pb.TryQuestionResponse(hands_over=True)
        return pb.TryQuestionResponse(answer=wire.to_answer(reply))
