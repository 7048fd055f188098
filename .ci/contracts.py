"""Compiles the contracts in `proto/`: writes `gen/`, checks that it is fresh, and lints what was written.

    python .ci/contracts.py generate    write gen/python and gen/ts anew
    python .ci/contracts.py stale       fail when gen/ is not what proto/ gives
    python .ci/contracts.py lint        buf's STANDARD rules, and a comment on everything
    python .ci/contracts.py breaking    fail when a published contract changed on the wire or in JSON

Everything works without a network: the validation rules' own contract, `buf/validate/validate.proto`,
is taken from the descriptor inside the `protovalidate` package.
"""

import argparse
import filecmp
import io
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterator
from pathlib import Path

from google.protobuf import descriptor_pb2
from protovalidate._gen.buf.validate import validate_pb

ROOT = Path(__file__).resolve().parent.parent
PROTO = ROOT / "proto"
GEN = ROOT / "gen"
VALIDATE = "buf/validate/validate.proto"
# The folders that are generated, in whole; what else lies in gen/ is written by hand.
GENERATED = ("python/octopus", "python/buf", "ts/octopus", "ts/buf")
PROTOC_GEN_ES = ROOT / "edge/web/node_modules/.bin/protoc-gen-es"
# Where the published contracts are: a branch of this checkout, or the only thing a CI checkout has.
PUBLISHED = ("origin/main", "main")


def main() -> int:
    """Runs one command; the exit code is the number of things found wrong, at most 1."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("command", choices=["generate", "stale", "lint", "breaking"])
    command = parser.parse_args().command
    with tempfile.TemporaryDirectory(prefix="octopus-contracts-") as folder:
        work = Path(folder)
        match command:
            case "generate":
                generate(GEN, work)
                return 0
            case "stale":
                return stale(work)
            case "lint":
                return buf("lint", image(PROTO, work), "--path", "octopus")
            case _:
                return breaking(work)


def generate(target: Path, work: Path) -> None:
    """Replaces the generated folders below `target`."""
    for name in GENERATED:
        shutil.rmtree(target / name, ignore_errors=True)
    python, ts = target / "python", target / "ts"
    python.mkdir(parents=True, exist_ok=True)
    ts.mkdir(parents=True, exist_ok=True)
    if not PROTOC_GEN_ES.exists():
        sys.exit(f"{PROTOC_GEN_ES.relative_to(ROOT)} is missing, so TypeScript cannot be generated. Run: make gen")
    messages = [f"--python_out={python}", f"--mypy_out=quiet:{python}"]
    messages += [f"--plugin=protoc-gen-es={PROTOC_GEN_ES}", f"--es_out=target=ts:{ts}"]
    protoc(PROTO, work, "**/*.proto", *messages, VALIDATE)
    # For a contract without a service these would write empty modules.
    services = [f"--grpc_python_out={python}", f"--mypy_grpc_out=quiet,only_async:{python}"]
    protoc(PROTO, work, "**/*_service.proto", *services)
    for stub in python.rglob("*_pb2_grpc.pyi"):
        stub.write_text(corrected(stub.read_text()))


def corrected(stub: str) -> str:
    """Mends two types of mypy-protobuf's: a context reads and writes single messages, and a handler may also write.

    It types `ServicerContext` by what the handler takes and returns, an iterator or an awaitable of messages, and
    does not know that a streaming handler may call `context.write` instead of being a generator.
    """
    stub = re.sub(
        r"(?m)^(\s+context: .*)$",
        lambda line: re.sub(r"_abc\w*\.(?:AsyncIterator|Awaitable)\[([\w.]+)\]", r"\1", line[1]),
        stub,
    )
    return re.sub(r"-> (_abc\w*)\.AsyncIterator\[([\w.]+)\]:", r"-> \1.AsyncIterator[\2] | \1.Awaitable[None]:", stub)


def stale(work: Path) -> int:
    """Compares `gen/` with what the contracts give now, and names each file that differs."""
    generate(work / "gen", work)
    differing = sorted(differences(work / "gen", GEN))
    for path in differing:
        print(f"gen/{path} is not what proto/ gives")
    if differing:
        print("Run `make gen` and commit the result.")
    return 1 if differing else 0


def differences(fresh: Path, committed: Path) -> Iterator[str]:
    """Yields the paths, relative to `gen/`, that are missing, left over or different."""
    for name in GENERATED:
        paths = {
            str(path.relative_to(root))
            for root in (fresh, committed)
            for path in (root / name).rglob("*")
            if path.is_file() and path.suffix != ".pyc"
        }
        _, mismatched, missing = filecmp.cmpfiles(fresh, committed, sorted(paths), shallow=False)
        yield from [*mismatched, *missing]


def breaking(work: Path) -> int:
    """Compares the contracts with the published ones; without published ones there is nothing to break."""
    for ref in PUBLISHED:
        archive = subprocess.run(["git", "archive", ref, "proto"], cwd=ROOT, capture_output=True)
        if archive.returncode == 0:
            break
    else:
        print("No published contracts yet: neither", " nor ".join(PUBLISHED), "has a proto/ folder.")
        return 0
    published = work / "published"
    with tarfile.open(fileobj=io.BytesIO(archive.stdout)) as tar:
        tar.extractall(published, filter="data")
    against = image(published / "proto", published)
    return buf("breaking", image(PROTO, work), "--path", "octopus", "--against", str(against))


def image(source: Path, work: Path) -> Path:
    """Compiles all contracts below `source` into one descriptor set, with comments, and returns its path."""
    path = work / "image.binpb"
    protoc(source, work, "**/*.proto", "--include_imports", "--include_source_info", f"--descriptor_set_out={path}")
    return path


def protoc(source: Path, work: Path, files: str, *arguments: str) -> None:
    """Runs the compiler on the contracts below `source` that match `files`; it reports errors itself."""
    imports = work / "imports.binpb"
    validate = descriptor_pb2.FileDescriptorProto.FromString(validate_pb.desc().proto.to_binary())
    imports.write_bytes(descriptor_pb2.FileDescriptorSet(file=[validate]).SerializeToString())
    contracts = sorted(str(path.relative_to(source)) for path in source.glob(files))
    command = [sys.executable, "-m", "grpc_tools.protoc", f"--descriptor_set_in={imports}", f"-I{source}", *arguments]
    run([*command, *contracts])


def buf(command: str, subject: Path, *arguments: str) -> int:
    """Runs one of buf's checks from the root, where its rules are, and returns its exit code."""
    return subprocess.run(["buf", command, str(subject), *arguments], cwd=ROOT, env=environment()).returncode


def run(command: list[str]) -> None:
    """Runs a program and ends this one with the same code when it fails."""
    if code := subprocess.run(command, cwd=ROOT, env=environment()).returncode:
        sys.exit(code)


def environment() -> dict[str, str]:
    """The plugins of protoc, buf and node are those of this interpreter's venv, whatever the caller's PATH."""
    return {**os.environ, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"}


if __name__ == "__main__":
    sys.exit(main())
