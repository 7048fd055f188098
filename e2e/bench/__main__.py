"""`make bench`: starts a platform of its own, measures it through Envoy, prints a table and keeps a JSON file."""

from __future__ import annotations

import argparse
import asyncio
import shutil
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from e2e.bench import crowd
from e2e.bench.long_talks import fill
from e2e.bench.measures import at_rest, echo, idle_connections, play
from e2e.bench.order import Order, Way
from e2e.bench.report import At, Results, save, show
from e2e.bench.storm import storm
from e2e.people import Shop
from e2e.running import Octopus, running
from edge.envoy.config import EdgeConfig

RESULTS = Path(__file__).parents[1] / "artifacts" / "bench.json"

# The echo before and after, so that a machine with other work to do slows both.
_WAYS: tuple[Way, ...] = ("echo/stream", "grpc", "websocket", "echo/stream")
# The limit on what one person may send is not what is measured.
_SETTINGS = ("--set", "chat.rate_burst=1000000", "--set", "chat.rate_per_second=1000000")

# In a storm, the limit on new connections is as it is by default.
_STORM_SETTINGS = (
    "--set",
    f"control.connections_per_second={EdgeConfig.model_fields['connections_per_second'].default}",
)

# Of those who come back in a storm, so many have sessions of so many messages.
_LONG_TALKS = 16
_LONG_TALK_MESSAGES = 1700


async def bench(octopus: Octopus, arguments: argparse.Namespace, results: Results) -> None:
    """Measure a running platform; what is found is added to the results."""
    if arguments.rest:
        print(f"the platform at rest, {arguments.rest:.0f} s ...", flush=True)
        results.rest = await at_rest(octopus, arguments.rest)
    async with octopus.edge.channel(own_connection=True) as channel:
        shop = Shop(arguments.shop, octopus.logins()[arguments.shop], octopus.edge, channel)
        if arguments.idle:
            print(f"{arguments.idle} idle WebSocket connections ...", flush=True)
            results.idle = await idle_connections(octopus, shop, arguments.idle)
        if levels := _levels(arguments):
            async with echo(octopus) as echo_pid:
                for _ in range(arguments.rounds):
                    for level in levels:
                        await _level(octopus, shop, arguments, results, echo_pid=echo_pid, level=level)


async def weather(octopus: Octopus, arguments: argparse.Namespace, results: Results) -> None:
    """Measure a storm of reconnects on a running platform; what is found is added to the results."""
    async with octopus.edge.channel(own_connection=True) as channel:
        shop = Shop(arguments.shop, octopus.logins()[arguments.shop], octopus.edge, channel)
        talking = await crowd.gather(shop, 16)
        people = await crowd.idle(shop, min(arguments.storm, 500))
        long_talks = [await shop.open_session(person) for person in people[:_LONG_TALKS]]
        await fill(octopus, long_talks, _LONG_TALK_MESSAGES)
    print(f"a storm of {arguments.storm} reconnects while 16 pairs talk ...", flush=True)
    results.storm = await storm(octopus.edge, talking, people, arguments.storm)


def _levels(arguments: argparse.Namespace) -> list[tuple[int, int]]:
    """Return pairs and messages under way: each number of pairs with one, and the last window at 64 pairs too."""
    levels = [(number, 1) for number in arguments.pairs]
    return levels + [(number, arguments.window) for number in arguments.pairs if number == 64 and arguments.window > 1]


async def _level(
    octopus: Octopus,
    shop: Shop,
    arguments: argparse.Namespace,
    results: Results,
    *,
    echo_pid: int,
    level: tuple[int, int],
) -> None:
    """Measure all ways at one level, with people who have said nothing before."""
    number, window = level
    print(f"bringing {number} customers and their agents together ...", flush=True)
    pairs = tuple(await crowd.gather(shop, number))
    edge = octopus.edge
    for way in arguments.ways or _WAYS:
        order = Order(
            host=edge.host,
            port=edge.port,
            ca=str(edge.ca),
            way=way,
            pairs=pairs,
            window=window,
            warm_up_s=arguments.warm_up,
            seconds=arguments.seconds,
        )
        measured, costs = await play(octopus, order, echo_pid)
        print(f"  {number} pairs, {window} under way, {way}: {measured.per_second:.0f}/s", flush=True)
        results.at.append(At(way=way, pairs=number, window=window, got=measured, cpu_s=costs))


async def run(arguments: argparse.Namespace) -> None:
    """Start a platform unless one is given, measure it, and print the results."""
    results = Results(at=[])
    try:
        if arguments.pairs or arguments.idle or arguments.rest:
            async with _platform(arguments.root, *_SETTINGS) as octopus:
                await bench(octopus, arguments, results)
        if arguments.storm:
            async with _platform(arguments.root, *_SETTINGS, *_STORM_SETTINGS) as octopus:
                await weather(octopus, arguments, results)
    finally:
        # Also what was found before something broke.
        save(results, RESULTS)
        show(results)
        print(f"\n{RESULTS}")


@asynccontextmanager
async def _platform(root: Path | None, *options: str) -> AsyncIterator[Octopus]:
    """Give the platform that runs in a folder, a new one without a folder."""
    if root is not None:
        yield Octopus(root)
        return
    root = Path(tempfile.mkdtemp(prefix="octopus-bench-"))
    # PostgreSQL runs as another user when we are root.
    root.chmod(0o755)
    try:
        print("starting a platform ...", flush=True)
        async with running(root, *options) as octopus:
            yield octopus
    finally:
        shutil.rmtree(root, ignore_errors=True)


def main() -> None:
    """Read the arguments."""
    parser = argparse.ArgumentParser(prog="python -m e2e.bench", description="Measures the platform through Envoy.")
    parser.add_argument(
        "--pairs", type=int, nargs="*", default=[1, 64, 256], help="conversations at once; none to leave this out"
    )
    parser.add_argument("--ways", nargs="+", help="of echo/stream, echo/unary, grpc, websocket, websocket-json")
    parser.add_argument(
        "--window", type=int, default=4, help="messages under way at once, as a level of its own at 64 pairs"
    )
    parser.add_argument("--storm", type=int, default=10_000, help="people who come back at once; 0 for none")
    parser.add_argument("--rounds", type=int, default=1, help="how often everything is measured")
    parser.add_argument("--seconds", type=float, default=8.0, help="of each measurement")
    parser.add_argument("--warm-up", type=float, default=2.0, help="seconds before each measurement")
    parser.add_argument("--idle", type=int, default=1000, help="idle connections; 0 for none")
    parser.add_argument("--rest", type=float, default=30.0, help="seconds for which the platform is watched at rest")
    parser.add_argument("--shop", default="qingshan", help="the demo shop in which it happens")
    parser.add_argument("--root", type=Path, help="folder of a platform that runs, started with the limits lifted")
    asyncio.run(run(parser.parse_args()))


if __name__ == "__main__":
    main()
