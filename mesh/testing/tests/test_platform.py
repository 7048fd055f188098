"""The components of the tests themselves: they must not outlive a killed test session, nor does its folder."""

import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import psutil
import pytest

from mesh.platform.orphans import until_ended
from mesh.testing import Platform, processes

pytestmark = pytest.mark.store

START = """
import asyncio, time
from mesh.testing import Platform, processes
platform = Platform()
asyncio.run(platform.start())
print("ROOT", platform.folder.root, flush=True)
time.sleep(600)
"""


def test_components_die_with_a_killed_session_and_the_next_one_removes_its_folder() -> None:
    session = subprocess.Popen([sys.executable, "-c", START], stdout=subprocess.PIPE)
    assert session.stdout is not None
    with session.stdout:
        # It logs to the same output.
        root = next(Path(line.split()[1].decode()) for line in session.stdout if line.startswith(b"ROOT "))
    assert root.is_relative_to(tempfile.gettempdir())
    family = processes.family(session.pid)[1:]
    assert set(processes.answers(family, psutil.Process.name)) >= {"postgres", "valkey-server", "nats-server"}
    session.send_signal(signal.SIGKILL)
    session.wait()
    assert until_ended(family, 20) == []
    next_one = Platform()
    assert not root.exists()
    assert next_one.folder.root.exists()


async def test_a_wiped_bus_is_empty_and_a_truncated_database_too(migrated: Platform) -> None:
    await migrated.nats.wipe()
    await migrated.postgres.execute("INSERT INTO cs_tenant VALUES ('a', 'a', 'a', '')")
    await migrated.postgres.truncate()
    assert await migrated.postgres.execute("SELECT count(*) FROM cs_tenant") == [(0,)]
