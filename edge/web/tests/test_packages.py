"""The packages' own tests, run by node."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.unit

WEB = Path(__file__).parent.parent
# The venv brings the version that the pages are built with; the machine may have another one.
NODE = Path(sys.prefix) / "bin" / "node"


@pytest.mark.parametrize("package", sorted(path.parent.name for path in WEB.glob("*/test")))
def test_the_packages_own_tests_pass(package: str) -> None:
    files = sorted((WEB / package / "test").glob("*.test.ts"))
    assert files, "a folder of tests has tests"
    run = subprocess.run([NODE, "--test", *files], capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stdout + run.stderr


@pytest.mark.parametrize("suffix", ["br", "gz"])
def test_the_widget_stays_below_70_kb_compressed(suffix: str) -> None:
    files = [*WEB.glob(f"dist/octopus-chat.js.{suffix}"), *WEB.glob(f"dist/assets/chat-*.js.{suffix}")]
    assert len(files) == 2, "build the pages first: make web"
    assert sum(file.stat().st_size for file in files) < 70_000
