"""Members on the bus, and a tenant of one's own."""

import uuid
from collections.abc import AsyncIterator

import pytest

from mesh.bus import Bus
from mesh.bus.tests.members import member
from mesh.testing import Platform


@pytest.fixture
async def chat(platform: Platform) -> AsyncIterator[Bus]:
    """The bus of a chat instance."""
    async with member(platform, "chat") as bus:
        yield bus


@pytest.fixture
async def bot(platform: Platform) -> AsyncIterator[Bus]:
    """The bus of a bot instance."""
    async with member(platform, "bot") as bus:
        yield bus


@pytest.fixture
def tenant() -> str:
    """A tenant that no other test uses."""
    return f"t-{uuid.uuid4().hex[:12]}"
