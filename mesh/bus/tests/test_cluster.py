"""Three NATS servers with three copies of each stream: one of them is cut off while messages are stored."""

from __future__ import annotations

import asyncio
import json
import signal
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import httpx
import pytest
from octopus.chat.v1.chat_events_pb2 import LogEntry

from mesh.bus import Bus, BusError, connect
from mesh.bus.bounds import Bounds
from mesh.bus.streams import LOG
from mesh.bus.tests.members import entry
from mesh.platform.child import Child, Command
from mesh.platform.components.component import get
from mesh.platform.components.nats import program
from mesh.testing.ports import free_port

pytestmark = pytest.mark.store

SERVERS = ("n1", "n2", "n3")


class Cluster:
    """Servers on this machine that know each other, as on three machines."""

    def __init__(self, folder: Path) -> None:
        taken = [free_port() for _ in range(3 * len(SERVERS))]
        clients, routes, monitors = taken[:3], taken[3:6], taken[6:]
        self.urls = ",".join(f"nats://127.0.0.1:{port}" for port in clients)
        self.children: dict[str, Child] = {}
        self._monitors = dict(zip(SERVERS, monitors, strict=True))
        for name, port, route in zip(SERVERS, clients, routes, strict=True):
            settings = {
                "server_name": name,
                "listen": f"127.0.0.1:{port}",
                "http": f"127.0.0.1:{self._monitors[name]}",
                "jetstream": {"store_dir": str(folder / name), "max_file_store": 2**28},
                "ping_interval": "2s",
                "cluster": {
                    "name": "octopus",
                    "listen": f"127.0.0.1:{route}",
                    "routes": [f"nats://127.0.0.1:{other}" for other in routes],
                    "ping_interval": "1s",
                },
            }
            (folder / f"{name}.conf").write_text(json.dumps(settings))
            argv = (str(program()), "-c", str(folder / f"{name}.conf"))
            self.children[name] = Child(Command(name=name, argv=argv, log=folder / f"{name}.log"))

    async def until_healthy(self) -> None:
        for name in SERVERS:
            async with asyncio.timeout(60):
                while await self._status(name) != 200:
                    await asyncio.sleep(0.1)

    async def _status(self, name: str) -> int:
        try:
            return (await get(self._monitors[name], "/healthz"))[0]
        except OSError:
            return 0

    async def leader_of_log(self) -> str:
        """The server through which each message of the log goes."""
        async with asyncio.timeout(60), httpx.AsyncClient() as http:
            while True:
                found = (await http.get(f"http://127.0.0.1:{self._monitors['n1']}/jsz?streams=true&config=true")).json()
                for account in found.get("account_details") or ():
                    for stream in account["stream_detail"]:
                        cluster = stream.get("cluster") or {}
                        if stream["name"] == LOG and cluster.get("leader"):
                            assert stream["config"]["num_replicas"] == 3
                            return str(cluster["leader"])
                await asyncio.sleep(0.1)


@asynccontextmanager
async def cluster(folder: Path) -> AsyncIterator[Cluster]:
    made = Cluster(folder)
    async with AsyncExitStack() as stack:
        for child in made.children.values():
            child.start()
            stack.push_async_callback(child.stop)
        await made.until_healthy()
        yield made
        for child in made.children.values():
            child.signal(signal.SIGCONT)


async def talk(bus: Bus, acknowledged: dict[int, int], stop: asyncio.Event) -> None:
    """Store one message after the other; one that was not acknowledged is sent again under the same id."""
    number = 0
    while not stop.is_set():
        number += 1
        while number not in acknowledged:
            try:
                message = entry(number, "cluster")
                ack = await bus.publish("log.cluster.1", message, message_id=f"cluster-{number}", timeout=3)
            except BusError:
                continue
            acknowledged[number] = ack.seq


@pytest.mark.timeout(180)
async def test_nothing_acknowledged_is_lost_doubled_or_reordered_while_a_server_is_cut_off(tmp_path: Path) -> None:
    bounds = Bounds(96 * 2**20)
    async with (
        cluster(tmp_path) as servers,
        connect(servers.urls, "control", replicas=3, provisions=bounds, timeout=60),
        connect(servers.urls, "chat", timeout=60) as bus,
    ):
        acknowledged: dict[int, int] = {}
        stop = asyncio.Event()
        talking = asyncio.create_task(talk(bus, acknowledged, stop))

        async def until_more(count: int) -> None:
            wanted = len(acknowledged) + count
            async with asyncio.timeout(60):
                while len(acknowledged) < wanted:
                    assert not talking.done()
                    await asyncio.sleep(0.05)

        await until_more(50)
        # The worst to lose. Frozen: its connections stand and nothing answers, as behind a cable that was pulled.
        cut_off = await servers.leader_of_log()
        servers.children[cut_off].signal(signal.SIGSTOP)
        await until_more(50)
        servers.children[cut_off].signal(signal.SIGCONT)
        await until_more(50)
        stop.set()
        await talking

        found: list[tuple[int, int]] = []
        async with asyncio.timeout(30):
            while len(found) < len(acknowledged):
                page = await bus.read("log.cluster.1", after_seq=found[-1][0] if found else 0, limit=100)
                found += [(each.seq, LogEntry.FromString(each.data).message.id) for each in page]
        assert [number for _, number in found] == sorted(acknowledged)
        assert {number: seq for seq, number in found} == acknowledged
