import asyncio
import urllib.request

import pytest
from prometheus_client import Counter

from mesh.telemetry.metrics import metrics

pytestmark = pytest.mark.unit


def fetch(port: int) -> str:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5) as answer:
        return str(answer.read(), "utf-8")


async def test_numbers_are_served_while_the_block_lasts() -> None:
    counter = Counter("octopus_test_events", "Events of this test.")
    async with metrics() as port:
        counter.inc(3)
        page = await asyncio.to_thread(fetch, port)
        assert "octopus_test_events_total 3.0" in page
        assert "process_resident_memory_bytes" in page
    with pytest.raises(OSError, match="refused"):
        await asyncio.to_thread(fetch, port)


async def test_a_port_in_use_is_an_error() -> None:
    async with metrics() as port:
        with pytest.raises(OSError, match="in use"):
            async with metrics(port):
                pass
