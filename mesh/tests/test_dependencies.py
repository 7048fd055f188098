"""The lock files are what the project files ask for, and carry no address of any package index."""

import json
import re
import tomllib
from pathlib import Path

import pytest

pytestmark = pytest.mark.unit

ROOT = Path(__file__).resolve().parents[2]
LOCK = (ROOT / "requirements.lock").read_text()
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
DIRECT = [*PROJECT["project"]["dependencies"], *PROJECT["dependency-groups"]["dev"]]


def normal(name: str) -> str:
    return re.sub(r"\[.*\]", "", name).lower().replace("_", "-")


@pytest.mark.parametrize("requirement", DIRECT)
def test_a_direct_dependency_is_pinned_and_locked_at_that_version(requirement: str) -> None:
    name, pin, version = requirement.partition("==")
    assert pin, f"{name} has no version"
    assert re.search(rf"^{re.escape(normal(name))}=={re.escape(version)}[ \\]", LOCK, re.MULTILINE), "run: make lock"


def test_every_locked_package_carries_its_hashes() -> None:
    packages = re.split(r"^(?=\S)", LOCK, flags=re.MULTILINE)[1:]
    assert len(packages) > len(DIRECT)
    assert not [package.split()[0] for package in packages if "--hash=sha256:" not in package]


def test_no_lock_names_an_index() -> None:
    assert "://" not in LOCK
    packages = json.loads((ROOT / "edge/web/package-lock.json").read_text())["packages"]
    assert not [name for name, package in packages.items() if "://" in package.get("resolved", "")]
