"""An instance of a service that says who it is: `python -m mesh.control.tests.run_echo SETTINGS`.

It answers every method of the service's contract with its instance id, or with the caller's certificate when the
metadata has `tell-certificate`. `fail-first` makes it answer UNAVAILABLE to so many attempts of a call, `fail-at` makes
the instance of that id fail always. SIGTERM ends it.
"""

from __future__ import annotations

import asyncio
import signal
import sys
from typing import Any

import grpc
from octopus.mesh.v1 import registry_pb2

from mesh import bus
from mesh.control.contract import methods
from mesh.control.registration import Registration
from mesh.identity.files import Identity
from mesh.process.config import ServiceConfig
from mesh.rpc.server import credentials


class Echo:
    def __init__(self, instance: str) -> None:
        self._instance = instance

    async def answer(self, _request: bytes, context: grpc.aio.ServicerContext[bytes, bytes]) -> bytes:
        said = {key: value for key, value in context.invocation_metadata() or () if isinstance(value, str)}
        attempts = int(said.get("grpc-previous-rpc-attempts", "0"))
        if attempts < int(said.get("fail-first", "0")) or said.get("fail-at") == self._instance:
            await context.abort(grpc.StatusCode.UNAVAILABLE, "told to fail")
        if "tell-certificate" in said:
            return next(iter(context.auth_context()["x509_pem_cert"]))
        return self._instance.encode()

    def handlers(self, service: str) -> list[grpc.GenericRpcHandler]:
        found: dict[str, dict[str, grpc.RpcMethodHandler[Any, Any]]] = {}
        for method in methods():
            if method.service == service:
                _, contract, name = method.path.split("/")
                found.setdefault(contract, {})[name] = grpc.unary_unary_rpc_method_handler(self.answer)
        return [grpc.method_handlers_generic_handler(contract, each) for contract, each in found.items()]


async def main(config: ServiceConfig) -> None:
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    identity = Identity(config.identity, config.name)
    async with bus.connect(config.nats_url, config.name, tls=identity.client_context) as connected:
        server = grpc.aio.server()
        server.add_generic_rpc_handlers(Echo(config.instance).handlers(config.name))
        port = server.add_secure_port("127.0.0.1:0", credentials(identity))
        await server.start()
        registration = Registration(
            connected,
            registry_pb2.Instance(
                service=config.name,
                instance_id=config.instance,
                version=config.version,
                host="127.0.0.1",
                port=port,
                weight=config.weight,
            ),
        )
        await registration.start()
        await stop.wait()
        await registration.drain()
        # Clients hear of it, and finish what they have begun.
        await asyncio.sleep(0.5)
        await server.stop(5)
        await registration.stop()


if __name__ == "__main__":
    asyncio.run(main(ServiceConfig.model_validate_json(sys.argv[1])))
