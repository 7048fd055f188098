"""Writes what strangers build clients from.

    python proto/packages/publish.py FOLDER

| file | what |
| --- | --- |
| `octopus-contracts.tar.gz` | every contract with everything it imports, as text; `buf generate` and `protoc` take it |
| `octopus.binpb` | the same compiled, a `FileDescriptorSet` with comments |
| `octopus_contracts-<version>-py3-none-any.whl` | Python: messages, grpcio's stubs, types, the typed client |
| `octopus-contracts-<version>.tgz` | npm: JavaScript modules with types |
| `index.json` | the names and SHA-256 sums of these |

The same contracts give the same bytes, and nothing is asked of a network.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Final

import google.rpc
import grpc_tools

ROOT: Final = Path(__file__).resolve().parents[2]
HERE: Final = Path(__file__).resolve().parent

# From googleapis: what the details of our errors are made of.
_GOOGLE_RPC: Final = ("google/rpc/code.proto", "google/rpc/error_details.proto", "google/rpc/status.proto")
# From protobuf: what those and our contracts import.
_GOOGLE_PROTOBUF: Final = tuple(
    f"google/protobuf/{name}.proto" for name in ("any", "descriptor", "duration", "field_mask", "timestamp")
)
_PAGES: Final = ("README.md", "GLOSSARY.md")
# Archives hold no time of the day, so that they change only with what is in them.
_EPOCH: Final = "315532800"
_BUF_YAML: Final = "version: v2\n"


def main() -> int:
    """Replace the folder that is named."""
    target = Path(sys.argv[1]).resolve()
    with tempfile.TemporaryDirectory(prefix="octopus-contracts-") as folder:
        work = Path(folder)
        out = work / "out"
        out.mkdir()
        contracts = gather(work / "octopus-contracts")
        pack(contracts, out / "octopus-contracts.tar.gz")
        run("buf", "build", contracts, "--as-file-descriptor-set", "--output", out / "octopus.binpb")
        python_package(work / "python", out)
        npm_package(contracts, work / "npm", out)
        index(out)
        shutil.rmtree(target, ignore_errors=True)
        shutil.copytree(out, target)
    for file in sorted(target.iterdir()):
        print(f"{file.stat().st_size:>10,}  {file}")
    return 0


def gather(folder: Path) -> Path:
    """Put every contract and every import into one folder, a module of buf that needs nothing else."""
    sources = [
        (
            ROOT / "proto",
            sorted(str(path.relative_to(ROOT / "proto")) for path in ROOT.glob("proto/octopus/**/*.proto")),
        ),
        (ROOT / "gen/proto", ["buf/validate/validate.proto"]),
        (Path(google.rpc.__path__[0]).parents[1], _GOOGLE_RPC),
        (Path(grpc_tools.__path__[0]) / "_proto", _GOOGLE_PROTOBUF),
        (ROOT / "proto", _PAGES),
    ]
    for source, names in sources:
        for name in names:
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source / name, folder / name)
    (folder / "buf.yaml").write_text(_BUF_YAML)
    return folder


def pack(folder: Path, archive: Path) -> None:
    """Write a folder as a compressed archive, below its own name."""
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w") as tar:
        for path in sorted(folder.rglob("*")):
            if path.is_file():
                entry = tarfile.TarInfo(f"{folder.name}/{path.relative_to(folder)}")
                entry.size, entry.mode, entry.mtime = path.stat().st_size, 0o644, int(_EPOCH)
                tar.addfile(entry, io.BytesIO(path.read_bytes()))
    archive.write_bytes(gzip.compress(data.getvalue(), mtime=0))


def python_package(folder: Path, out: Path) -> None:
    """Build the wheel: what `make gen` has written for grpcio, and the client by betterproto2."""
    shutil.copytree(HERE / "python", folder)
    shutil.copyfile(ROOT / "proto/README.md", folder / "README.md")
    for package in ("octopus", "buf"):
        shutil.copytree(ROOT / "gen/python" / package, folder / package, ignore=shutil.ignore_patterns("__pycache__"))
    client = folder / "octopus_client"
    generate(
        ROOT / "proto",
        {"local": "protoc-gen-python_betterproto2", "out": str(client), "opt": "client_generation=async"},
        # The generated package's own front page is empty; ours says what is in it.
        keep=client / "__init__.py",
    )
    for typed in (client, folder / "octopus", folder / "buf"):
        (typed / "py.typed").touch()
    run("uv", "build", "--quiet", "--offline", "--wheel", "--out-dir", out, folder)
    # uv leaves it for git.
    (out / ".gitignore").unlink(missing_ok=True)


def npm_package(contracts: Path, folder: Path, out: Path) -> None:
    """Build the npm package. The error details are in it: browsers have no other place to take them from."""
    plugin = ROOT / "edge/web/node_modules/.bin/protoc-gen-es"
    options = ["target=js+dts", "import_extension=js"]
    # protobuf-es brings these itself, and is told to import them from there.
    own = contracts / "google/protobuf"
    generate(contracts, {"local": str(plugin), "out": str(folder), "opt": options}, leave_out=own)
    shutil.copyfile(HERE / "npm/package.json", folder / "package.json")
    shutil.copyfile(ROOT / "proto/README.md", folder / "README.md")
    run("npm", "pack", "--silent", "--pack-destination", out, cwd=folder)


def generate(
    source: Path, plugin: dict[str, object], *, keep: Path | None = None, leave_out: Path | None = None
) -> None:
    """Run one plugin on all contracts but those of a folder; a file to keep is written back afterwards."""
    kept = keep.read_bytes() if keep else b""
    template = json.dumps({"version": "v2", "plugins": [{**plugin, "strategy": "all"}]})
    without = () if leave_out is None else ("--exclude-path", leave_out)
    run("buf", "generate", source, "--template", template, "--include-imports", *without, quiet=True)
    if keep:
        keep.write_bytes(kept)


def index(out: Path) -> None:
    """Name the files with their sums."""
    sums = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(out.iterdir())}
    (out / "index.json").write_text(json.dumps({"sha256": sums}, indent=2) + "\n")


def run(program: str, *arguments: object, cwd: Path = ROOT, quiet: bool = False) -> None:
    """Run a program of the venv; end with what it says when it fails."""
    environment = {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}",
        "SOURCE_DATE_EPOCH": _EPOCH,
    }
    command: Iterable[str] = [program, *map(str, arguments)]
    done = subprocess.run(
        list(command),
        cwd=cwd,
        env=environment,
        text=True,
        stdout=subprocess.PIPE if quiet else None,
        stderr=subprocess.STDOUT if quiet else None,
    )
    if done.returncode:
        sys.exit(f"{done.stdout or ''}\n{' '.join(command)} failed with code {done.returncode}")


if __name__ == "__main__":
    sys.exit(main())
