"""`octopus up` as a whole, on this machine: what it shows, what it survives, what it leaves behind."""

import json
import os
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import psutil
import pytest
from cryptography import x509

from mesh.identity import names
from mesh.identity.authority import Authority
from mesh.identity.files import Identity
from mesh.manifest import manifests
from mesh.platform.child import leashed
from mesh.platform.folder import Folder
from mesh.platform.orphans import until_ended
from mesh.platform.plan import PUBLIC
from mesh.platform.state import State
from mesh.platform.status import Status, status
from mesh.testing.ports import free_port
from mesh.testing.processes import answers, family

pytestmark = pytest.mark.e2e

COMPONENTS = ("postgres", "valkey", "nats")
OCTOPUS = (sys.executable, "-m", "mesh.platform.cli")


class Up:
    """One run of `octopus up`."""

    def __init__(self, root: Path, edge_port: int) -> None:
        self.root = root
        self.edge_port = edge_port
        self.output = root.with_suffix(".out")
        with self.output.open("ab") as output:
            self.process = subprocess.Popen(
                leashed(
                    (*OCTOPUS, "up", "--root", str(root), "--edge-port", str(edge_port), "--no-demo"),
                    uid=None,
                    stop_signal=signal.SIGINT,
                ),
                stdout=output, stderr=output, start_new_session=True,
            )  # fmt: skip

    def said(self) -> str:
        return self.output.read_text()

    def status(self) -> Status:
        return status(Folder(self.root))

    def pid(self, instance: str) -> int:
        (pid,) = [row["pid"] for row in self.status()["processes"] if row["instance"] == instance]
        assert isinstance(pid, int)
        return pid

    def pid_or_none(self, instance: str) -> int | None:
        found = [row["pid"] for row in self.status()["processes"] if row["instance"] == instance]
        return found[0] if found else None

    def until(self, true: Callable[[], bool], seconds: float) -> None:
        deadline = time.monotonic() + seconds
        while not true():
            assert self.process.poll() is None, f"octopus up has ended: {self.said()}"
            assert time.monotonic() < deadline, f"not within {seconds} s: {self.said()}"
            time.sleep(0.1)

    def until_ready(self, seconds: float = 180) -> None:
        self.until(lambda: self.status()["ready"], seconds)

    def interrupt(self) -> int:
        self.process.send_signal(signal.SIGINT)
        return self.process.wait(60)


@pytest.fixture(scope="module")
def root() -> Iterator[Path]:
    # Not pytest's own folder, which is closed to the user PostgreSQL runs as.
    folder = Path(tempfile.mkdtemp(prefix="octopus-up-"))
    folder.chmod(0o755)
    yield folder / "platform"
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="module")
def up(root: Path) -> Iterator[Up]:
    running = Up(root, free_port())
    try:
        running.until_ready()
        yield running
    finally:
        if running.process.poll() is None:
            running.interrupt()


def octopus(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*OCTOPUS, *arguments], capture_output=True, text=True, check=False, timeout=60)


def always() -> set[str]:
    """Return the names of the members that run without demo data too."""
    return {name for name, program in manifests().items() if not program.demo_only}


def told(up: Up) -> dict[str, Any]:
    """Return what the command prints for scripts."""
    result = octopus("status", "--root", str(up.root), "--json")
    found: dict[str, Any] = json.loads(result.stdout)
    assert result.returncode == (0 if found["ready"] else 3)
    return found


def test_everything_in_the_table_runs(up: Up) -> None:
    found = told(up)
    assert found["ready"] is True
    assert {row["name"] for row in found["processes"]} == {*always(), *COMPONENTS, "edge"}
    assert all(row["memory_mb"] > 0 for row in found["processes"])
    assert found["memory_mb"] < 2500


def test_the_public_port_speaks_tls_under_the_named_authority(up: Up) -> None:
    context = ssl.create_default_context(cafile=up.status()["edge_ca"])
    with (
        socket.create_connection(("localhost", up.edge_port)) as plain,
        context.wrap_socket(plain, server_hostname="localhost") as encrypted,
    ):
        assert encrypted.version() == "TLSv1.3"


def is_loopback(address: str) -> bool:
    return address in ("127.0.0.1", "::1", "::ffff:127.0.0.1")


def test_nothing_listens_beyond_the_loopback_interface(up: Up) -> None:
    open_to_all = [
        connection
        for connections in answers(family(up.process.pid), lambda process: process.net_connections("inet"))
        for connection in connections
        if connection.status == psutil.CONN_LISTEN and not is_loopback(connection.laddr[0])
    ]
    assert open_to_all == []


def served(up: Up, name: str) -> int:
    """The serial number of the certificate that a server shows to those who connect now."""
    identity = Identity(Folder(up.root).identity, "operator")
    context, port = identity.client_context(), State.read(Folder(up.root)).ports.get(name, up.edge_port)
    if name == PUBLIC:
        context = ssl.create_default_context(cafile=up.status()["edge_ca"])
    with socket.create_connection(("127.0.0.1", port), timeout=5) as plain:
        if name == "nats":
            plain.recv(4096)
        if name == "postgres":
            # SSLRequest: length 8, code 80877103.
            plain.sendall(bytes.fromhex("0000000804d2162f"))
            assert plain.recv(1) == b"S"
        with context.wrap_socket(plain, server_hostname="localhost") as encrypted:
            shown = encrypted.getpeercert(binary_form=True)
    assert shown is not None
    return x509.load_der_x509_certificate(shown).serial_number


def lasting(up: Up) -> set[tuple[str, tuple[str, int], tuple[str, int]]]:
    """Return the connections of members to the bus and to the control plane, which last as long as the processes do.

    Those of the supervisor, which asks for an answer now and then, and those of PostgreSQL's pools do not.
    """
    lead_to = [State.read(Folder(up.root)).ports[name] for name in ("nats", "control")]
    members = {row["instance"]: row["pid"] for row in up.status()["processes"] if row["name"] not in COMPONENTS}
    return {
        (instance, (connection.laddr.ip, connection.laddr.port), (connection.raddr.ip, connection.raddr.port))
        for instance, pid in members.items()
        if pid is not None
        for connections in answers(family(pid)[:1], lambda process: process.net_connections("tcp"))
        for connection in connections
        if connection.status == psutil.CONN_ESTABLISHED and connection.raddr.port in lead_to
    }


def test_certificates_past_half_their_life_are_replaced_and_connections_stand(up: Up) -> None:
    folder = Folder(up.root)
    mesh, edge = Authority(folder.identity), Authority(folder.edge)
    before = lasting(up)
    assert {instance for instance, _, _ in before} == {"edge", *(f"{name}-1" for name in always())}
    # They were backdated by a minute, so half of their life is over.
    short = timedelta(seconds=55)
    old = [edge.issue_public(PUBLIC, lifetime=short), *(mesh.issue(name, short) for name in sorted(names.everybody()))]
    serials = {identity: identity.certificate().serial_number for identity in old}
    up.until(lambda: all(identity.certificate().serial_number != serials[identity] for identity in old), 45)
    for identity in old:
        if identity.name in (PUBLIC, "nats", "postgres"):
            newest = identity.certificate().serial_number
            up.until(lambda name=identity.name, newest=newest: served(up, name) == newest, 45)  # type: ignore[misc]
    assert before <= lasting(up)
    assert sum(row["restarts"] for row in up.status()["processes"]) == 0


def test_a_second_start_on_the_same_folder_says_who_runs(up: Up) -> None:
    result = octopus("up", "--root", str(up.root))
    assert result.returncode == 1
    assert f"already runs (process {up.process.pid})" in result.stdout


@pytest.mark.parametrize(
    ("setting", "says"),
    [
        ("chat.rate_burts=3", "chat.rate_burts: there is no such setting; did you mean rate_burst?"),
        ("chat.rate_burst=many", 'chat.rate_burst: "many" cannot be used; allowed: '),
        ("session.lapse_every_s=-1", "session.lapse_every_s: -1 cannot be used; allowed: a number, more than 0"),
        ("control.edge_port=70000", "control.edge_port: 70000 cannot be used; allowed: a whole number, at least 1"),
        ("bridge.log_level=loud", 'bridge.log_level: "loud" cannot be used; allowed: one of debug, info'),
        ("chat.instance=x", "chat.instance: the platform sets it"),
    ],
)
def test_a_wrong_setting_is_named_before_anything_starts(tmp_path: Path, setting: str, says: str) -> None:
    result = octopus("up", "--root", str(tmp_path / "new"), "--set", setting)
    assert result.returncode == 1
    assert says in result.stdout
    assert not (tmp_path / "new").exists()


def test_a_second_platform_on_the_same_port_says_who_has_it(up: Up, tmp_path: Path) -> None:
    result = octopus("up", "--root", str(tmp_path / "other"), "--edge-port", str(up.edge_port))
    assert result.returncode == 1
    assert f"port {up.edge_port} is in use by process {up.pid('edge')} (envoy)" in result.stdout
    assert f"--edge-port {up.edge_port + 1}" in result.stdout


@pytest.mark.parametrize("instance", ["chat-1", "control-1", "edge", "nats", "valkey", "postgres"])
def test_a_killed_process_comes_back_and_the_terminal_says_so(up: Up, instance: str) -> None:
    killed = up.pid(instance)
    os.kill(killed, signal.SIGKILL)
    up.until(lambda: f"{instance} ended by itself (killed by SIGKILL); it starts again in" in up.said(), 30)
    up.until(lambda: f"{instance} is ready again, restart 1" in up.said(), 60)
    assert up.pid(instance) != killed
    up.until_ready()


def test_frozen_processes_are_killed_and_come_back(up: Up) -> None:
    frozen = {instance: up.pid(instance) for instance in ("bot-1", "valkey", "edge")}
    restarts = {row["instance"]: row["restarts"] for row in up.status()["processes"]}
    for pid in frozen.values():
        os.kill(pid, signal.SIGSTOP)
    for instance, pid in frozen.items():
        up.until(lambda instance=instance: f"{instance} was killed (frozen: no answer for" in up.said(), 40)  # type: ignore[misc]
        up.until(lambda instance=instance, pid=pid: up.pid_or_none(instance) not in (None, pid), 30)  # type: ignore[misc]
    up.until_ready()
    others = [row for row in up.status()["processes"] if row["instance"] not in frozen]
    assert all(row["restarts"] == restarts[row["instance"]] for row in others)


def test_the_doctor_knows_the_port_is_ours(up: Up) -> None:
    for port in (["--edge-port", str(up.edge_port)], []):
        result = octopus("doctor", "--root", str(up.root), *port)
        assert result.returncode == 0, result.stdout
        assert f"{up.edge_port} is used by this platform" in result.stdout


def test_a_log_can_be_read(up: Up) -> None:
    assert "Server is ready" in octopus("logs", "nats", "--root", str(up.root)).stdout
    missing = octopus("logs", "nobody", "--root", str(up.root))
    assert missing.returncode == 1
    assert "there are: " in missing.stderr


def test_everything_dies_with_a_killed_supervisor_and_the_next_start_is_quick(up: Up) -> None:
    children = family(up.process.pid)[1:]
    assert len(children) > len(manifests())
    up.process.kill()
    up.process.wait()
    assert until_ended(children, 20) == []
    assert told(up)["ready"] is False
    assert "was killed" in octopus("doctor", "--root", str(up.root)).stdout
    again = Up(up.root, up.edge_port)
    try:
        again.until_ready()
        everybody = family(again.process.pid)
        # Twenty seconds even on one core, whatever else this machine does now.
        assert sum(sum(used[:2]) for used in answers(everybody, psutil.Process.cpu_times)) < 20
        assert f"the last supervisor (process {up.process.pid}) was killed and left its lock" in again.said()
        assert again.interrupt() == 0
        assert "everything has ended" in again.said()
        assert until_ended(everybody, 5) == []
    finally:
        again.process.kill()
        again.process.wait()
