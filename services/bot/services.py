"""The services that the bot calls."""

from __future__ import annotations

import grpc.aio
from octopus.chat.v1 import chat_service_pb2, chat_service_pb2_grpc, frame_pb2
from octopus.knowledge.v1 import knowledge_service_pb2, knowledge_service_pb2_grpc
from octopus.session.v1 import session_pb2, session_service_pb2, session_service_pb2_grpc

from mesh.rpc.metadata import Metadata
from services.bot.domain import Candidate

# Seconds. A search waits for the model, and behind an import for a piece of its work.
_SEARCH_S = 3.0
_SEND_S = 10.0
_TYPING_S = 1.0
_HANDOFF_S = 5.0


class KnowledgeClient:
    """Client of the knowledge service. Calls raise `Refused`."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self._stub = knowledge_service_pb2_grpc.KnowledgeServiceStub(channel)

    async def search(self, query: str, limit: int, caller: Metadata) -> list[Candidate]:
        """Return the entries nearest in meaning to the query, best first."""
        request = knowledge_service_pb2.SearchFaqsRequest(query=query, limit=limit)
        response = await self._stub.SearchFaqs(request, metadata=caller, timeout=_SEARCH_S)
        return [
            Candidate(
                faq_id=hit.faq.id,
                question=hit.faq.content.question,
                answer=hit.faq.content.answer,
                locale=hit.faq.content.locale,
                score=hit.score,
            )
            for hit in response.hits
        ]


class ChatClient:
    """Client of the chat service, as the bot. Calls raise `Refused`."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self._stub = chat_service_pb2_grpc.ChatServiceStub(channel)

    async def post(self, post: frame_pb2.PostMessage, caller: Metadata) -> frame_pb2.Ack:
        """Post a message; return when it is durable."""
        request = chat_service_pb2.SendRequest(post=post)
        return (await self._stub.Send(request, metadata=caller, timeout=_SEND_S)).ack

    async def typing(self, session_id: int, caller: Metadata) -> None:
        """Show that an answer is coming."""
        request = chat_service_pb2.SendRequest(typing=frame_pb2.Typing(session_id=session_id))
        await self._stub.Send(request, metadata=caller, timeout=_TYPING_S)


class SessionClient:
    """Client of the session service. Calls raise `Refused`."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self._stub = session_service_pb2_grpc.SessionServiceStub(channel)

    async def request_handoff(
        self, session_id: int, reason: session_pb2.HandoffReason.ValueType, caller: Metadata
    ) -> None:
        """Ask for a person; asking again changes nothing."""
        request = session_service_pb2.RequestHandoffRequest(session_id=session_id, reason=reason)
        await self._stub.RequestHandoff(request, metadata=caller, timeout=_HANDOFF_S)
