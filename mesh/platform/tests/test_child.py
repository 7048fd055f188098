"""Child processes: how they end, and that they never outlive us."""

import asyncio
import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from mesh.platform.child import Child, Command, describe_exit
from mesh.platform.orphans import until_ended

pytestmark = pytest.mark.unit


def python(code: str, log: Path, **options: float) -> Command:
    return Command(name="test", argv=(sys.executable, "-c", code), log=log / "test.log", **options)  # type: ignore[arg-type]


async def test_a_child_writes_its_log_and_tells_its_exit_code(tmp_path: Path) -> None:
    child = Child(python("print('first'); print('last'); raise SystemExit(3)", tmp_path))
    child.start()
    assert await child.wait() == 3
    assert child.pid is None
    assert child.last_words(lines=1) == "last"
    assert describe_exit(3) == "exit code 3"
    again = Child(python("print('anew')", tmp_path))
    again.start()
    assert await again.wait() == 0
    assert again.last_words() == "anew"


async def test_a_child_is_asked_to_finish_first(tmp_path: Path) -> None:
    code = "import signal; signal.signal(15, lambda *_: exit(7)); print('up', flush=True); signal.pause()"
    child = Child(python(code, tmp_path))
    child.start()
    await until_up(child)
    assert await child.stop() == 7


async def test_a_child_that_does_not_finish_in_its_grace_is_killed(tmp_path: Path) -> None:
    code = "import signal; signal.signal(15, signal.SIG_IGN); print('up', flush=True)\nwhile True: signal.pause()"
    child = Child(python(code, tmp_path, grace_s=0.2))
    child.start()
    await until_up(child)
    assert await child.stop() == -signal.SIGKILL
    assert describe_exit(-signal.SIGKILL) == "killed by SIGKILL"


def test_a_child_ends_with_a_parent_that_is_killed(tmp_path: Path) -> None:
    code = f"""
import sys, time
from pathlib import Path
from mesh.platform.child import Child, Command
log = Path({str(tmp_path)!r}) / "c.log"
child = Child(Command(name="c", argv=(sys.executable, "-c", "import time; time.sleep(60)"), log=log))
child.start()
print(child.pid, flush=True)
time.sleep(60)
"""
    parent = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE)
    assert parent.stdout is not None
    with parent.stdout:
        pid = int(parent.stdout.readline())
    child = psutil.Process(pid)
    parent.kill()
    parent.wait()
    assert until_ended([child], 10) == []


async def test_a_child_sees_nothing_of_our_environment_that_is_not_for_it(tmp_path: Path) -> None:
    assert "PYTEST_CURRENT_TEST" in os.environ
    child = Child(python("import os; raise SystemExit('PYTEST_CURRENT_TEST' in os.environ)", tmp_path))
    child.start()
    assert await child.wait() == 0


async def test_root_may_run_a_child_as_nobody_and_others_may_not(tmp_path: Path) -> None:
    child = Child(
        Command(name="id", argv=("/usr/bin/env", "sh", "-c", "id -u; id -G"), log=tmp_path / "id.log", uid=65534)
    )
    child.start()
    code = await child.wait()
    if os.geteuid() == 0:
        assert child.last_words().split() == ["65534", "65534"]
    else:
        assert code != 0
        assert "Operation not permitted" in child.last_words()


async def until_up(child: Child) -> None:
    async with asyncio.timeout(30):
        while "up" not in child.last_words():
            await asyncio.sleep(0.01)
