"""Two instances of the service, and shops nobody else uses."""

from collections.abc import AsyncIterator
from itertools import count

import pytest

from mesh.testing import Platform
from services.session.tests.parts import Parts, parts

_numbers = count(1)


@pytest.fixture
def tenant() -> str:
    return f"shop-{next(_numbers)}"


@pytest.fixture(scope="session")
async def one(migrated: Platform) -> AsyncIterator[Parts]:
    async with parts(migrated, "session-1") as opened:
        yield opened


@pytest.fixture(scope="session")
async def other(migrated: Platform) -> AsyncIterator[Parts]:
    async with parts(migrated, "session-2") as opened:
        yield opened
