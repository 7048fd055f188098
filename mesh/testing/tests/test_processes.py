"""A process that ends while it is asked is left out, wherever it is in between."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator

import psutil
import pytest

from mesh.platform.orphans import until_ended
from mesh.testing.processes import answers, family, frozen

pytestmark = pytest.mark.unit

LIVES = "import signal; print('lives', flush=True); signal.pause()"


@pytest.fixture
def child() -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen([sys.executable, "-c", LIVES], stdout=subprocess.PIPE) as started:
        assert started.stdout is not None
        started.stdout.readline()
        yield started
        started.kill()


@pytest.mark.parametrize(
    "ask",
    [
        psutil.Process.name,
        psutil.Process.cpu_times,
        psutil.Process.cmdline,
        psutil.Process.memory_full_info,
        psutil.Process.net_connections,
        psutil.Process.suspend,
    ],
)
@pytest.mark.parametrize("reaped", [True, False])
def test_who_has_ended_is_left_out(child: subprocess.Popen[bytes], ask: object, reaped: bool) -> None:
    assert callable(ask)
    (known,) = family(child.pid)
    child.kill()
    if reaped:
        child.wait()
    else:
        assert until_ended([known], 10) == []
    # Until it is reaped, the kernel still answers some questions.
    assert len(answers([known], ask)) <= (0 if reaped else 1)
    assert answers([psutil.Process(), known], psutil.Process.is_running)[0]


def test_the_family_of_who_has_ended_is_empty(child: subprocess.Popen[bytes]) -> None:
    assert child.pid in {process.pid for process in family(os.getpid())}
    child.kill()
    child.wait()
    assert family(child.pid) == []


def test_frozen_is_who_is_stopped_or_gone(child: subprocess.Popen[bytes]) -> None:
    assert not frozen(child.pid)
    child.send_signal(signal.SIGSTOP)
    os.waitpid(child.pid, os.WUNTRACED)
    assert frozen(child.pid)
    child.kill()
    child.wait()
    assert frozen(child.pid)
