"""The rule of the root's conftest.py: every test module says what kind it is."""

import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.unit

TEST = "import pytest\n{}\ndef test_nothing() -> None: ...\n"


def collect(folder: Path, **modules: str) -> subprocess.CompletedProcess[str]:
    """Collects modules that have these lines, under the root's rules."""
    for name, line in modules.items():
        folder.joinpath(f"test_{name}.py").write_text(TEST.format(line))
    markers = ("unit", "store", "service", "e2e")
    folder.joinpath("pytest.ini").write_text("[pytest]\nmarkers =\n" + "".join(f"  {kind}\n" for kind in markers))
    command = [sys.executable, "-m", "pytest", "-p", "conftest", "-p", "no:cacheprovider", "--collect-only", "-q", "."]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=60)


def test_the_kinds_are_sorted_from_quick_to_slow(tmp_path: Path) -> None:
    done = collect(tmp_path, a="pytestmark = pytest.mark.e2e", b="pytestmark = pytest.mark.unit")
    assert done.returncode == 0
    assert done.stdout.index("test_b.py") < done.stdout.index("test_a.py")


@pytest.mark.parametrize("line", ["", "pytestmark = [pytest.mark.unit, pytest.mark.store]", "mark = pytest.mark.unit"])
def test_a_module_without_exactly_one_kind_stops_the_collection(tmp_path: Path, line: str) -> None:
    done = collect(tmp_path, known="pytestmark = pytest.mark.unit", unknown=line)
    assert done.returncode == pytest.ExitCode.USAGE_ERROR
    assert "test_unknown.py" in done.stderr
    assert "test_known.py" not in done.stderr
