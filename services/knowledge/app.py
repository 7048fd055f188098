"""Wire the knowledge service."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import grpc.aio
from octopus.knowledge.v1 import canned_reply_service_pb2_grpc, knowledge_service_pb2_grpc

from mesh.process.member import Member
from services.knowledge.canned.servicer import CannedReplyServicer
from services.knowledge.canned.store import CannedReplies
from services.knowledge.config import KnowledgeConfig
from services.knowledge.embedding import E5
from services.knowledge.entries import Entries
from services.knowledge.servicer import KnowledgeServicer


@asynccontextmanager
async def app(member: Member, config: KnowledgeConfig) -> AsyncIterator[None]:
    """Load the model and serve KnowledgeService and CannedReplyService."""
    database = await member.postgres()
    ids = await member.ids()
    embedder = await member.enter(E5(threads=config.embedding_threads))
    entries = Entries(database=database, embedder=embedder, next_id=ids.next)
    servicer = KnowledgeServicer(entries)
    canned = CannedReplyServicer(CannedReplies(database, ids.next))

    def add(server: grpc.aio.Server) -> None:
        knowledge_service_pb2_grpc.add_KnowledgeServiceServicer_to_server(servicer, server)
        canned_reply_service_pb2_grpc.add_CannedReplyServiceServicer_to_server(canned, server)

    await member.serve(add)
    yield
