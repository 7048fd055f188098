"""What import-linter cannot say: a service's rules are plain Python, without any library or I/O of the mesh."""

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

pytestmark = pytest.mark.unit

ROOT = Path(__file__).resolve().parents[2]
RULES = sorted(
    path for pattern in ("*/domain.py", "*/*_domain.py", "*/domain/*.py") for path in ROOT.glob(f"services/{pattern}")
)
# Standard library, yet the outside world: what these bring belongs into a store, a servicer or an app.
OUTSIDE = {
    *("asyncio", "threading", "subprocess", "signal", "select", "socket", "ssl", "http", "urllib"),
    *("os", "pathlib", "shutil", "tempfile", "sqlite3", "logging", "time", "random", "secrets"),
}


def imports(path: Path) -> Iterator[str]:
    """The modules a file imports, wherever the statement stands."""
    for node in ast.walk(ast.parse(path.read_text(), str(path))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module or "."


def test_services_have_rules() -> None:
    assert len(RULES) >= 4


@pytest.mark.parametrize("path", RULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_domain_imports_the_standard_library_only(path: Path) -> None:
    own = ".".join(path.relative_to(ROOT).parts[:2]) + ".domain"
    strangers = {
        name
        for name in imports(path)
        if name.partition(".")[0] not in sys.stdlib_module_names and not f"{name}.".startswith(f"{own}.")
    }
    assert not strangers


@pytest.mark.parametrize("path", RULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_domain_does_no_input_or_output_and_has_no_clock_of_its_own(path: Path) -> None:
    assert not {name.partition(".")[0] for name in imports(path)} & OUTSIDE
