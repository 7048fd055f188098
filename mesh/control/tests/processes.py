"""Control planes and instances as processes of their own, so that they can be killed."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from pathlib import Path

import grpc

from mesh.process.config import ServiceConfig

REPOSITORY = Path(__file__).parents[3]


class Process:
    """`python -m <module> <settings>`."""

    def __init__(self, module: str, config: ServiceConfig) -> None:
        self._module = module
        self._config = config
        self._child: asyncio.subprocess.Process | None = None

    @property
    def instance(self) -> str:
        return self._config.instance

    async def start(self) -> Process:
        environment = {**os.environ, "PYTHONPATH": f"{REPOSITORY}:{REPOSITORY / 'gen' / 'python'}"}
        self._child = await asyncio.create_subprocess_exec(
            sys.executable, "-m", self._module, self._config.model_dump_json(), env=environment, cwd=REPOSITORY,
            stdout=asyncio.subprocess.DEVNULL,
        )  # fmt: skip
        return self

    async def kill(self) -> None:
        await self._end(signal.SIGKILL)

    async def stop(self) -> None:
        await self._end(signal.SIGTERM)

    async def _end(self, number: signal.Signals) -> None:
        child, self._child = self._child, None
        if child is not None and child.returncode is None:
            child.send_signal(number)
            await asyncio.wait_for(child.wait(), 20)


class Caller:
    """Calls one method and counts who answered."""

    def __init__(self, channel: grpc.aio.Channel, path: str) -> None:
        self._call: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(path)
        self.answers: Counter[str] = Counter()
        self.errors: list[str] = []

    async def once(self, user: int | None = None, **metadata: str) -> str:
        said = [(key.replace("_", "-"), value) for key, value in metadata.items()]
        if user is not None:
            said.append(("octopus-user", str(user)))
        answer: bytes = await self._call(b"", timeout=5, metadata=tuple(said))
        return answer.decode()

    async def many(self, count: int, **metadata: str) -> Counter[str]:
        """Calls for `count` users, one after the other, and returns who answered; failures count as "error"."""
        answers: Counter[str] = Counter()
        for user in range(count):
            try:
                answers[await self.once(user, **metadata)] += 1
            except grpc.aio.AioRpcError as error:
                answers["error"] += 1
                self.errors.append(f"{error.code().name} {error.details()}")
        return answers


async def during(seconds: float, check: Callable[[], Awaitable[None]]) -> None:
    """Checks again and again for so long."""
    ends = time.monotonic() + seconds
    while time.monotonic() < ends:
        await check()
        await asyncio.sleep(0.1)


async def until(true: Callable[[], Awaitable[bool]], within: float) -> float:
    """Waits until something is true and returns how long it took; fails when it takes longer than `within` seconds."""
    began = time.monotonic()
    while True:
        if await true():
            return time.monotonic() - began
        assert time.monotonic() - began < within, f"still not so after {within} s"
        await asyncio.sleep(0.05)
