from __future__ import annotations

import itertools
from collections.abc import AsyncIterator

import pytest

from mesh.identity.files import Identity
from mesh.stores import postgres
from mesh.stores.postgres import Database
from mesh.testing.platform import Platform
from services.knowledge.embedding import E5
from services.knowledge.entries import Entries

_numbers = itertools.count(1_000)


@pytest.fixture(scope="session")
async def model() -> AsyncIterator[E5]:
    """The real model, loaded once."""
    async with E5() as loaded:
        yield loaded


@pytest.fixture
async def database(migrated: Platform) -> AsyncIterator[Database]:
    """The database as the service's own role."""
    identity = Identity(migrated.identity, "knowledge")
    async with postgres.connect(migrated.postgres.conninfo, identity, statement_timeout_s=60) as opened:
        yield opened


@pytest.fixture
def entries(database: Database, model: E5) -> Entries:
    return Entries(database=database, embedder=model, next_id=lambda: next(_numbers))


@pytest.fixture
def tenant() -> str:
    """A shop that no other test has."""
    return f"shop-{next(_numbers)}"
