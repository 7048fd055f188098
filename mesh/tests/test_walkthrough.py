"""The page `services/README.md` works word by word: its files go into a copy of this repository as they stand."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from mesh.manifest import REPOSITORY

pytestmark = pytest.mark.service

_PAGE = REPOSITORY / "services" / "README.md"
_BLOCK = re.compile(r"((?:^[^\n]+\n)+)\n?```\w*\n([\s\S]*?)^```\n", re.MULTILINE)
_FILE = re.compile(r"`((?:proto|services|db)/[\w./]*rating[\w./]*\.\w+)`")
_EMPTY = re.compile(r"`([\w./]+)` is empty")

# The only rooms that a new service touches; the rest is written by `make gen`.
ROOMS = ("proto/octopus/rating/", "services/rating/", "db/migrations/")


def files(page: str) -> dict[str, str]:
    """The files that the page shows, by path: a block belongs to the last path named in the paragraph before it."""
    section = page[page.index("## Add a service") :]
    found = dict.fromkeys(_EMPTY.findall(section), "")
    for before, text in _BLOCK.findall(section):
        if named := _FILE.findall(before):
            found[named[-1]] = text
    return found


FILES = files(_PAGE.read_text(encoding="utf-8"))


def commands(page: str) -> list[str]:
    """The commands of the step "Try it"."""
    (block,) = re.findall(r"Try it\n\n```\n(.*?)```", page, re.DOTALL)
    return [line for line in block.splitlines() if line]


def test_a_new_service_touches_its_contract_its_folder_and_its_migration_only() -> None:
    assert len(FILES) >= 11
    assert all(path.startswith(ROOMS) for path in FILES)


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What git knows of this repository, with the changes that are not committed, and with the page's files."""
    root = tmp_path_factory.mktemp("walkthrough") / "octopus"
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=REPOSITORY, capture_output=True, check=True).stdout
    for name in filter(None, listed.decode().split("\0")):
        if (REPOSITORY / name).is_file():
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(REPOSITORY / name, root / name)
    # What `make install` brings.
    for installed in (".venv", "edge/web/node_modules"):
        (root / installed).symlink_to(REPOSITORY / installed)
    if (known := REPOSITORY / ".mypy_cache").exists():
        # What mypy knows of the files that are as they were.
        shutil.copytree(known, root / known.name)
    for name, text in FILES.items():
        assert not (root / name).exists(), f"{name} is there already"
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text, encoding="utf-8")
    return root


def make(copy: Path, *arguments: str) -> str:
    """Runs make in the copy, with the copy's code before ours; fails the test when it fails."""
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("PYTEST_", "COV_", "MAKE"))}
    installed = ("-o", ".venv/installed", "-o", "edge/web/node_modules/.package-lock.json")
    command = ["make", *installed, f"PYTHONPATH={copy}:{copy / 'gen' / 'python'}", *arguments]
    result = subprocess.run(
        command, cwd=copy, env=environment, capture_output=True, text=True, check=False, timeout=300
    )
    assert result.returncode == 0, f"{' '.join(command)}:\n{result.stdout[-4000:]}\n{result.stderr[-2000:]}"
    return result.stdout


def test_the_page_names_the_commands_that_are_run_here() -> None:
    said = commands(_PAGE.read_text(encoding="utf-8"))
    assert said[:2] == ["make format", "make check"]
    assert said[2].startswith('make test TESTS="services/rating mesh/tests ')


@pytest.mark.timeout(600)
def test_the_service_of_the_page_is_generated_checked_drawn_and_does_its_work(copy: Path) -> None:
    make(copy, "gen")
    readme = (copy / "README.md").read_text(encoding="utf-8")
    assert re.search(r"event_session -\.-> .*\brating\b", readme)
    assert "| `rating` |" in readme
    assert re.search(r"edge --> .*\brating\b", readme)

    make(copy, "check-format", "check-lint", "check-imports", "check-contracts", "check-overview")
    # Of `make check` and `make test`, what the new files can break; the rest takes minutes.
    venv = copy / ".venv" / "bin"
    tests = ("services/rating", "mesh/tests/test_manifest.py", "mesh/tests/test_layers.py", "mesh/tests/test_kinds.py")
    for command in (
        (venv / "mypy", "--no-error-summary", "services/rating"),
        (venv / "pytest", "-q", *tests, "mesh/identity/tests/test_names.py", "-p", "no:cacheprovider"),
    ):
        result = subprocess.run(
            [*map(str, command)],
            cwd=copy,
            env={**os.environ, "PYTHONPATH": f"{copy}:{copy / 'gen' / 'python'}"},
            capture_output=True,
            text=True,
            check=False,
            timeout=300,
        )
        assert result.returncode == 0, f"{result.stdout[-4000:]}\n{result.stderr[-2000:]}"
