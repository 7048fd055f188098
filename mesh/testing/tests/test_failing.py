"""A test that breaks a component and then fails does not take the tests after it along."""

import pytest

from mesh.testing import Platform

pytestmark = pytest.mark.store


@pytest.mark.xfail(strict=True, raises=ZeroDivisionError, reason="it stands for a test that fails half way")
async def test_that_kills_and_fails(platform: Platform) -> None:
    platform.nats.pause()
    await platform.valkey.kill()
    raise ZeroDivisionError


async def test_after_it_everything_runs(platform: Platform) -> None:
    await platform.valkey.wipe()
    await platform.nats.wipe()
