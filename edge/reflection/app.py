"""Wire the reflection server."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from edge.reflection.config import ReflectionConfig
from edge.reflection.contract import rules
from edge.reflection.published import published
from edge.reflection.servicer import handlers
from mesh.process.member import Member


@asynccontextmanager
async def app(member: Member, _config: ReflectionConfig) -> AsyncIterator[None]:
    """Answer reflection until the member stops."""
    contracts = published()
    await member.serve(
        lambda server: server.add_generic_rpc_handlers(tuple(handlers(contracts))), others=rules(contracts.scopes)
    )
    yield
