"""A plugin of protoc for what is generated from services: grpcio's stubs, and their types.

    python .ci/service_stubs.py grpc_python    <domain>_service_pb2_grpc.py, by the compiler inside grpcio-tools
    python .ci/service_stubs.py mypy_grpc      <domain>_service_pb2_grpc.pyi, by mypy-protobuf, with two types mended

Both would write an empty module for a contract without a service; this leaves those out.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
from pathlib import Path

from google.protobuf import descriptor_pb2
from google.protobuf.compiler import plugin_pb2


def main() -> int:
    """Read a request from standard input and write the response to standard output."""
    request = plugin_pb2.CodeGeneratorRequest.FromString(sys.stdin.buffer.read())
    with_services = {file.name for file in request.proto_file if file.service}
    wanted = [name for name in request.file_to_generate if name in with_services]
    del request.file_to_generate[:]
    request.file_to_generate.extend(wanted)
    response = plugin_pb2.CodeGeneratorResponse(
        supported_features=plugin_pb2.CodeGeneratorResponse.FEATURE_PROTO3_OPTIONAL
    )
    if wanted:
        response.file.extend({"grpc_python": stubs, "mypy_grpc": types}[sys.argv[1]](request))
    sys.stdout.buffer.write(response.SerializeToString())
    return 0


def stubs(request: plugin_pb2.CodeGeneratorRequest) -> list[plugin_pb2.CodeGeneratorResponse.File]:
    """Return grpcio's stubs and servicers."""
    with tempfile.TemporaryDirectory() as folder:
        image, out = Path(folder, "image.binpb"), Path(folder, "out")
        out.mkdir()
        image.write_bytes(descriptor_pb2.FileDescriptorSet(file=request.proto_file).SerializeToString())
        command = [
            sys.executable,
            "-m",
            "grpc_tools.protoc",
            f"--descriptor_set_in={image}",
            f"--grpc_python_out={out}",
        ]
        subprocess.run([*command, *request.file_to_generate], check=True)
        return [
            plugin_pb2.CodeGeneratorResponse.File(name=str(path.relative_to(out)), content=path.read_text())
            for path in sorted(out.rglob("*.py"))
        ]


def types(request: plugin_pb2.CodeGeneratorRequest) -> list[plugin_pb2.CodeGeneratorResponse.File]:
    """Return the types of those stubs."""
    plugin = Path(sys.executable).with_name("protoc-gen-mypy_grpc")
    answer = subprocess.run([plugin], input=request.SerializeToString(), stdout=subprocess.PIPE, check=True).stdout
    files = plugin_pb2.CodeGeneratorResponse.FromString(answer).file
    for file in files:
        file.content = mended(file.content)
    return list(files)


def mended(stub: str) -> str:
    """Mend two types of mypy-protobuf's: a context reads and writes single messages, and a handler may also write.

    It types `ServicerContext` by what the handler takes and returns, an iterator or an awaitable of messages, and
    does not know that a streaming handler may call `context.write` instead of being a generator.
    """
    stub = re.sub(
        r"(?m)^(\s+context: .*)$",
        lambda line: re.sub(r"_abc\w*\.(?:AsyncIterator|Awaitable)\[([\w.]+)\]", r"\1", line[1]),
        stub,
    )
    return re.sub(r"-> (_abc\w*)\.AsyncIterator\[([\w.]+)\]:", r"-> \1.AsyncIterator[\2] | \1.Awaitable[None]:", stub)


if __name__ == "__main__":
    sys.exit(main())
