"""`octopus mesh`: who runs, and how traffic is split."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Annotated, Final, TypeVar

import typer
from octopus.mesh.v1 import mesh_service_pb2 as pb
from octopus.mesh.v1 import mesh_service_pb2_grpc, registry_pb2
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from mesh.errors import Refused
from mesh.identity.files import Identity
from mesh.platform.folder import running
from mesh.process.config import ConfigError, ServiceConfig
from mesh.rpc.channel import connect

T = TypeVar("T")

app = typer.Typer(no_args_is_help=True, help="Instances and traffic of the mesh. 服务网格：实例与流量。")

_COLUMNS: Final = (
    ("服务", "service"),
    ("实例", "instance"),
    ("版本", "version"),
    ("权重", "weight"),
    ("分流", "split"),
    ("健康", "health"),
    ("地址", "address"),
    ("证书剩余", "cert"),
)

_HEALTH: Final = {
    registry_pb2.HEALTH_SERVING: "[green]serving[/]",
    registry_pb2.HEALTH_DRAINING: "[yellow]draining[/]",
}


@app.command()
def status() -> None:
    """查看实例、版本、权重、健康、地址与证书。 Show instances, versions, weights, health, certificates."""
    mesh = _ask(lambda stub: stub.GetMesh(pb.GetMeshRequest()))
    Console().print(table(mesh, datetime.now(UTC)))


@app.command()
def weight(
    service: Annotated[str, typer.Argument(help="Which service, e.g. chat. 服务名。")],
    percent: Annotated[
        list[str] | None,
        typer.Argument(help="VERSION=PERCENT, e.g. v2=10; other versions share the rest. 版本=百分比。"),
    ] = None,
    even: Annotated[bool, typer.Option("--even", help="Remove the split: all instances share. 取消分流。")] = False,
) -> None:
    """在服务的各版本之间分配流量。 Split the traffic of a service between its versions."""
    try:
        wanted = read_percent(percent or [])
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error
    if bool(wanted) == even:
        raise typer.BadParameter("give VERSION=PERCENT, or --even. 请给出 版本=百分比，或用 --even。")
    request = pb.SetTrafficSplitRequest(service=service, percent=wanted)
    split = _ask(lambda stub: stub.SetTrafficSplit(request)).split
    shares = ", ".join(f"{version} {share} %" for version, share in sorted(split.percent.items()))
    Console().print(f"{service}: {shares or 'all instances share the traffic. 所有实例均分流量。'}")


def read_percent(words: list[str]) -> dict[str, int]:
    """Read `v2=10` and the like. Raise ValueError."""
    found: dict[str, int] = {}
    for word in words:
        version, separator, share = word.partition("=")
        if not separator or not share.isdecimal():
            raise ValueError(f"{word!r} should look like v2=10. {word!r} 应形如 v2=10。")
        found[version] = int(share)
    return found


def table(mesh: pb.GetMeshResponse, now: datetime) -> Table:
    """Return the instances as a table."""
    splits = {split.service: split.percent for split in mesh.splits}
    # Narrow enough for a terminal of 80 columns.
    drawn = Table(box=None, padding=(0, 1, 0, 0), pad_edge=False)
    for chinese, english in _COLUMNS:
        drawn.add_column(f"{chinese}\n{english}", no_wrap=True)
    for each in mesh.instances:
        split = splits.get(each.service)
        drawn.add_row(
            each.service,
            each.instance_id,
            each.version,
            str(each.weight),
            "-" if split is None else f"{split.get(each.version, 0)} %",
            _HEALTH.get(each.health, "[red]unknown[/]"),
            f"{each.host}:{each.port}",
            _certificate(each, now),
        )
    return drawn


def _certificate(instance: registry_pb2.Instance, now: datetime) -> str:
    if not instance.HasField("certificate_expires_at"):
        return "-"
    minutes = int((instance.certificate_expires_at.ToDatetime(UTC) - now).total_seconds() // 60)
    if minutes < 0:
        return "[red]expired[/]"
    left = f"{minutes} min" if minutes < 120 else f"{minutes // 60} h"
    return left if minutes >= 10 else f"[yellow]{left}[/]"


def _ask(question: Callable[[mesh_service_pb2_grpc.MeshServiceStub], Awaitable[T]]) -> T:
    """Put a question to the control plane as the operator; print what fails and end the command."""
    try:
        return asyncio.run(_call(ServiceConfig.read(running().config / "operator.toml"), question))
    except ConfigError as error:
        known = (running().config / "operator.toml").exists()
        problem = str(error) if known else f"nothing runs in {running().root}; start it with `make up`. 平台没有运行。"
    except Refused as error:
        problem = f"the control plane refused: {error}. 控制面拒绝了请求。"
    Console(stderr=True).print(f"[red]{escape(problem)}[/]")
    raise typer.Exit(1)


async def _call(config: ServiceConfig, question: Callable[[mesh_service_pb2_grpc.MeshServiceStub], Awaitable[T]]) -> T:
    identity = Identity(config.identity, config.name)
    async with connect("control", identity, address=config.xds) as channel:
        return await question(mesh_service_pb2_grpc.MeshServiceStub(channel))


if __name__ == "__main__":
    app(prog_name="octopus mesh")
