"""What a stranger does with the published contracts, beginning in an empty folder: generate a client, and call."""

from __future__ import annotations

import asyncio
import io
import json
import os
import ssl
import subprocess
import sys
import tarfile
from pathlib import Path

import aiohttp
import grpc
import pytest
from google.protobuf import descriptor_pb2
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase

from e2e.people import Shop
from e2e.running import Octopus
from mesh.manifest import REPOSITORY

pytestmark = pytest.mark.e2e

BIN = Path(sys.executable).parent
PLUGIN_ES = REPOSITORY / "edge/web/node_modules/.bin/protoc-gen-es"

# What each client does: asks for a token with a bad request, reads why it was refused, and does it right.
PROTOC_CLIENT = """
import sys, grpc
from google.rpc import error_details_pb2, status_pb2
from octopus.user.v1 import auth_service_pb2, auth_service_pb2_grpc
assert auth_service_pb2.__file__.startswith(sys.argv[1]), auth_service_pb2.__file__
channel = grpc.secure_channel(sys.argv[2], grpc.ssl_channel_credentials(open(sys.argv[3], "rb").read()))
auth = auth_service_pb2_grpc.AuthServiceStub(channel)
try:
    auth.IdentifyShopper(auth_service_pb2.IdentifyShopperRequest(tenant_id="NO SUCH SHOP"))
except grpc.RpcError as error:
    trailers = dict(error.trailing_metadata())
    status = status_pb2.Status.FromString(trailers["grpc-status-details-bin"])
    info = error_details_pb2.ErrorInfo()
    assert any(detail.Unpack(info) for detail in status.details)
    print(info.reason)
print(auth.IdentifyShopper(auth_service_pb2.IdentifyShopperRequest(tenant_id="qingshan")).user.tenant_id)
"""

TYPED_CLIENT = """
import asyncio, sys
from pathlib import Path
from octopus_client import Refused, connect
from octopus_client.octopus.chat.v1 import ChatServiceStub, Content, PostMessage, SendRequest, Text
from octopus_client.octopus.errors.v1 import Reason
from octopus_client.octopus.session.v1 import OpenSessionRequest, SessionServiceStub
from octopus_client.octopus.user.v1 import AuthServiceStub, IdentifyShopperRequest

async def main(host, port, ca):
    async with connect(host, int(port), ca=Path(ca)) as channel:
        auth = AuthServiceStub(channel)
        try:
            await auth.identify_shopper(IdentifyShopperRequest(tenant_id="NO SUCH SHOP"))
        except Refused as refused:
            assert refused.reason is Reason.INVALID_ARGUMENT, refused
            assert "tenant_id" in refused.violations, refused.violations
            print(refused.reason.name)
        me = await auth.identify_shopper(IdentifyShopperRequest(tenant_id="qingshan", locale="en"))
        print(me.user.tenant_id)
        token = {"authorization": f"Bearer {me.tokens.access_token}"}
        sessions = SessionServiceStub(channel)
        opened = await sessions.open_session(OpenSessionRequest(channel="app"), metadata=token)
        content = Content(text=Text(text="Hello"))
        post = PostMessage(session_id=opened.session.id, client_message_id="stranger-1", content=content)
        sent = await ChatServiceStub(channel).send(SendRequest(post=post), metadata=token)
        assert sent.ack.seq > 0
        print("stored")

asyncio.run(main(*sys.argv[1:]))
"""

NPM_CLIENT = """
import { fromBinary, toBinary, create } from "@bufbuild/protobuf";
import { ContentSchema } from "@octopus/contracts/octopus/chat/v1/message_pb";
import { AuthService } from "@octopus/contracts/octopus/user/v1/auth_service_pb";
import { ErrorInfoSchema } from "@octopus/contracts/google/rpc/error_details_pb";
const sent = toBinary(ContentSchema, create(ContentSchema, { kind: { case: "text", value: { text: "hello" } } }));
const said = fromBinary(ContentSchema, sent).kind.value.text;
console.log(said, AuthService.method.identifyShopper.name, ErrorInfoSchema.typeName);
"""


@pytest.fixture
async def archive(octopus: Octopus, tmp_path: Path) -> Path:
    """An empty folder in which the downloaded archive was unpacked."""
    with tarfile.open(fileobj=io.BytesIO(await download(octopus, "octopus-contracts.tar.gz"))) as archive:
        archive.extractall(tmp_path, filter="data")
    return tmp_path


async def test_protoc_generates_a_client_that_works(octopus: Octopus, archive: Path) -> None:
    out = archive / "out"
    out.mkdir()
    contracts = archive / "octopus-contracts"
    files = sorted(
        str(path.relative_to(contracts)) for room in ("octopus", "buf") for path in (contracts / room).rglob("*.proto")
    )
    await run(
        *(sys.executable, "-m", "grpc_tools.protoc", "-Ioctopus-contracts"),
        *("--python_out=out", "--grpc_python_out=out", *files),
        cwd=archive,
    )
    said = await run(
        *(sys.executable, "-c", PROTOC_CLIENT, str(out), octopus.edge.address, str(octopus.edge.ca)),
        cwd=archive,
        PYTHONPATH=str(out),
    )
    assert said.split() == ["INVALID_ARGUMENT", "qingshan"]


async def test_buf_generates_from_the_archive_and_from_the_image(octopus: Octopus, archive: Path) -> None:
    (archive / "octopus.binpb").write_bytes(await download(octopus, "octopus.binpb"))
    plugin = {"local": str(PLUGIN_ES), "opt": "target=ts", "include_imports": True, "strategy": "all"}
    for source in ("octopus-contracts", "octopus.binpb"):
        template = json.dumps({"version": "v2", "plugins": [{**plugin, "out": f"from-{source}"}]})
        await run(BIN / "buf", "generate", source, "--template", template, cwd=archive)
        service = archive / f"from-{source}/octopus/chat/v1/chat_service_pb.ts"
        assert "converse" in service.read_text()
        assert (archive / f"from-{source}/google/rpc/error_details_pb.ts").exists()


async def test_the_image_holds_every_contract_and_the_details_of_errors(octopus: Octopus) -> None:
    image = descriptor_pb2.FileDescriptorSet.FromString(await download(octopus, "octopus.binpb"))
    names = {file.name for file in image.file}
    assert {"google/rpc/error_details.proto", "google/rpc/status.proto", "buf/validate/validate.proto"} <= names
    assert {dependency for file in image.file for dependency in file.dependency} <= names


async def test_the_wheel_works_in_an_empty_environment(octopus: Octopus, tmp_path: Path) -> None:
    wheel = await download_only(octopus, ".whl", tmp_path)
    await run(BIN / "uv", "venv", "--quiet", "--python", sys.executable, "env", cwd=tmp_path)
    python = tmp_path / "env/bin/python"
    constraints = tmp_path / "constraints.txt"
    # The versions that are in uv's cache already.
    lock = (REPOSITORY / "requirements.lock").read_text()
    constraints.write_text("".join(f"{line.split(' ')[0]}\n" for line in lock.splitlines() if line[0].isalnum()))
    await run(
        *(BIN / "uv", "pip", "install", "--quiet", "--python", python, "--constraint", constraints),
        f"octopus-contracts[client] @ {wheel.as_uri()}",
        cwd=tmp_path,
    )
    edge = octopus.edge
    said = await run(python, "-c", TYPED_CLIENT, edge.host, str(edge.port), edge.ca, cwd=tmp_path)
    assert said.split() == ["INVALID_ARGUMENT", "qingshan", "stored"]
    # And the same client as with protoc, by what `make gen` has generated.
    said = await run(python, "-c", PROTOC_CLIENT, tmp_path, edge.address, edge.ca, cwd=tmp_path)
    assert said.split() == ["INVALID_ARGUMENT", "qingshan"]


async def test_the_npm_package_works_in_an_empty_folder(octopus: Octopus, tmp_path: Path) -> None:
    package = await download_only(octopus, ".tgz", tmp_path)
    (tmp_path / "package.json").write_text('{"type": "module"}')
    await run(BIN / "npm", "install", "--silent", "--no-audit", "--no-fund", "--prefer-offline", package, cwd=tmp_path)
    (tmp_path / "client.mjs").write_text(NPM_CLIENT)
    said = await run(BIN / "node", "client.mjs", cwd=tmp_path)
    assert said.split() == ["hello", "IdentifyShopper", "google.rpc.ErrorInfo"]


async def test_an_agent_discovers_the_services_by_reflection(octopus: Octopus, qingshan: Shop) -> None:
    agent = await qingshan.staff(qingshan.agents[0])
    shopper = await qingshan.visitor()

    def discovered(token: str) -> list[str]:
        credentials = grpc.composite_channel_credentials(
            grpc.ssl_channel_credentials(octopus.edge.ca.read_bytes()), grpc.access_token_call_credentials(token)
        )
        with grpc.secure_channel(octopus.edge.address, credentials) as channel:
            database = ProtoReflectionDescriptorDatabase(channel)
            services = list(database.get_services())
            file = database.FindFileContainingSymbol("octopus.chat.v1.ChatService")
            assert "Converse" in {method.name for method in file.service[0].method}
            return services

    assert "octopus.chat.v1.ChatService" in await asyncio.to_thread(discovered, agent.access_token)
    with pytest.raises(grpc.RpcError) as refused:
        await asyncio.to_thread(discovered, shopper.access_token)
    assert refused.value.code() is grpc.StatusCode.PERMISSION_DENIED


async def download(octopus: Octopus, name: str) -> bytes:
    """Download one of the published files."""
    trusted = ssl.create_default_context(cafile=str(octopus.edge.ca))
    address = f"https://{octopus.edge.address}/contracts/{name}"
    async with aiohttp.ClientSession() as http, http.get(address, ssl=trusted) as response:
        assert response.status == 200, await response.text()
        assert response.headers["ETag"]
        return await response.read()


async def download_only(octopus: Octopus, suffix: str, folder: Path) -> Path:
    """Download the one file with a suffix that the index names."""
    names = json.loads(await download(octopus, ""))["sha256"]
    (name,) = [name for name in names if name.endswith(suffix)]
    file = folder / str(name)
    file.write_bytes(await download(octopus, file.name))
    return file


async def run(*command: str | Path, cwd: Path, **environment: str) -> str:
    """Run a program and return what it says; fail with what it says when it fails."""
    done = await asyncio.to_thread(
        subprocess.run,
        [str(each) for each in command],
        cwd=cwd,
        env={**os.environ, "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}", **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert done.returncode == 0, done.stdout
    return done.stdout
