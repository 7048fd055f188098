"""`octopus knowledge import`: sends a file through the edge, as a knowledge admin would from anywhere."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterable, AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Final

import grpc.aio
import typer
from octopus.errors.v1 import errors_pb2
from octopus.knowledge.v1 import knowledge_service_pb2 as pb
from octopus.knowledge.v1 import knowledge_service_pb2_grpc
from octopus.user.v1 import auth_service_pb2, auth_service_pb2_grpc
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, DownloadColumn, Progress, TaskID, TextColumn, TimeRemainingColumn
from rich.table import Table

from mesh.errors import Refused, from_rpc_error
from mesh.platform.folder import running
from mesh.platform.state import State
from mesh.rpc.metadata import with_token

app = typer.Typer(no_args_is_help=True, help="The shop's answers. 店铺知识库。")

_PIECE: Final = 64 * 1024
_FORMATS: Final = {
    ".csv": pb.IMPORT_FORMAT_CSV,
    ".jsonl": pb.IMPORT_FORMAT_JSONL,
    ".ndjson": pb.IMPORT_FORMAT_JSONL,
}
# Seconds to log in.
_LOG_IN_S: Final = 15.0
# Bad lines that are shown; the rest are in the file that --report names.
_SHOWN: Final = 50
_PASSWORD: Final = "OCTOPUS_PASSWORD"  # noqa: S105  # the name of a variable


@app.callback()
def knowledge() -> None:
    """店铺知识库。 The shop's answers."""


@dataclass(slots=True)
class Report:
    """The outcome of an import."""

    last: pb.ImportFaqsResponse
    bad_lines: list[pb.BadLine]


@app.command("import")
def import_file(
    file: Annotated[Path, typer.Argument(exists=True, dir_okay=False, readable=True, help="*.csv or *.jsonl 文件")],
    *,
    tenant: Annotated[str, typer.Option(help="The shop, e.g. qingshan. 店铺。")],
    login: Annotated[str, typer.Option(help="Log-in name of a knowledge admin. 知识管理员登录名。")],
    password_file: Annotated[
        Path | None,
        typer.Option(exists=True, help=f"Else ${_PASSWORD}, else you are asked. 密码文件，否则用环境变量或询问。"),
    ] = None,
    edge: Annotated[str, typer.Option(help="host:port; else the platform that runs here. 入口地址。")] = "",
    ca: Annotated[Path | None, typer.Option(exists=True, help="CA certificate to trust. 信任的根证书。")] = None,
    report: Annotated[Path | None, typer.Option(help="Write all bad lines there, as TSV. 坏行报告。")] = None,
) -> None:
    """把 CSV 或 JSONL 文件导入知识库。 Import a CSV or JSONL file; importing it again changes nothing.

    CSV has a header row: question, answer, and optionally similar_questions (separated by |), category, locale.
    JSONL has one object a line with the same names. The exit code is 1 when lines were refused.
    """
    console = Console()
    file_format = _FORMATS.get(file.suffix.lower())
    if file_format is None:
        raise typer.BadParameter(f"{file.name}: name it *.csv or *.jsonl, by what it holds. 请用 .csv 或 .jsonl 文件。")
    if password_file is not None:
        password = password_file.read_text(encoding="utf-8").strip()
    else:
        password = os.environ.get(_PASSWORD) or typer.prompt("Password 密码", hide_input=True)
    who = auth_service_pb2.LogInRequest(tenant_id=tenant, login=login, password=password)
    try:
        done = asyncio.run(_import(console, _channel(edge, ca), who, file, file_format))
    except Refused as refused:
        console.print(f"[red]{escape(_explained(refused))}[/]")
        raise typer.Exit(2) from None
    _show(console, done)
    if report is not None:
        lines = (f"{bad.line}\t{bad.field}\t{bad.problem}\n" for bad in done.bad_lines)
        report.write_text("line\tfield\tproblem\n" + "".join(lines), encoding="utf-8")
    raise typer.Exit(1 if done.last.refused else 0)


def _channel(edge: str, ca: Path | None) -> tuple[str, bytes]:
    """Return the address to call and the certificate to trust; by default those of the platform on this machine."""
    folder = running()
    port = State.read(folder).edge_port
    if not edge and not port:
        raise typer.BadParameter("nothing runs here: start it with `make up`, or give --edge HOST:PORT. 平台未运行。")
    trusted = ca or folder.edge / "ca.pem"
    try:
        return edge or f"localhost:{port}", trusted.read_bytes()
    except OSError as error:
        raise typer.BadParameter(f"cannot read {trusted}: {error.strerror}; give one with --ca FILE") from error


async def _import(
    console: Console,
    where: tuple[str, bytes],
    who: auth_service_pb2.LogInRequest,
    file: Path,
    file_format: pb.ImportFormat.ValueType,
) -> Report:
    address, trusted = where
    async with grpc.aio.secure_channel(address, grpc.ssl_channel_credentials(trusted)) as channel:
        try:
            auth = auth_service_pb2_grpc.AuthServiceStub(channel)
            answer = await auth.LogIn(who, timeout=_LOG_IN_S)
            stub = knowledge_service_pb2_grpc.KnowledgeServiceStub(channel)
            call = stub.ImportFaqs(_pieces(file, file_format), metadata=with_token(answer.tokens.access_token))
            return await _follow(console, call, file)
        except grpc.aio.AioRpcError as error:
            raise from_rpc_error(error) from error


async def _pieces(file: Path, file_format: pb.ImportFormat.ValueType) -> AsyncIterator[pb.ImportFaqsRequest]:
    yield pb.ImportFaqsRequest(format=file_format, total_bytes=file.stat().st_size)
    with file.open("rb") as source:
        while data := source.read(_PIECE):
            yield pb.ImportFaqsRequest(data=data)


async def _follow(console: Console, call: AsyncIterable[pb.ImportFaqsResponse], file: Path) -> Report:
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(),
        TextColumn("[green]+{task.fields[created]}[/] ~{task.fields[updated]} [red]✗{task.fields[refused]}[/]"),
        TimeRemainingColumn(),
    )
    done = Report(pb.ImportFaqsResponse(), [])
    with Progress(*columns, console=console) as bar:
        task: TaskID = bar.add_task(escape(file.name), total=file.stat().st_size, created=0, updated=0, refused=0)
        async for progress in call:
            done.last = progress
            done.bad_lines.extend(progress.bad_lines)
            bar.update(
                task,
                completed=progress.processed_bytes,
                created=progress.created,
                updated=progress.updated,
                refused=progress.refused,
            )
    if not done.last.finished:
        raise Refused(errors_pb2.REASON_UNAVAILABLE, "the server ended before the file did; import it again")
    return done


def _show(console: Console, done: Report) -> None:
    last = done.last
    console.print(
        f"created {last.created}, updated {last.updated}, unchanged {last.unchanged}, refused {last.refused}. "
        f"新增 {last.created}，更新 {last.updated}，未变 {last.unchanged}，拒绝 {last.refused}。"
    )
    if not done.bad_lines:
        return
    table = Table("line 行", "field 字段", "what is wrong, what to do 问题与办法", title_justify="left")
    for bad in done.bad_lines[:_SHOWN]:
        table.add_row(str(bad.line), escape(bad.field), escape(bad.problem))
    console.print(table)
    if len(done.bad_lines) > _SHOWN or last.refused > len(done.bad_lines):
        console.print(
            f"…{last.refused} in all; --report FILE keeps up to 1000. 共 {last.refused} 行，用 --report 保存。"
        )


def _explained(refused: Refused) -> str:
    match refused.reason:
        case errors_pb2.REASON_CREDENTIALS_WRONG:
            return "The log-in or the password is wrong. 登录名或密码不对。"
        case errors_pb2.REASON_ROLE_NOT_ALLOWED:
            return "This person may not import: ask for the role of a knowledge admin. 此账号没有知识管理员权限。"
        case errors_pb2.REASON_UNAVAILABLE:
            return f"The platform cannot be reached, or has stopped: {refused.description}. 平台无法连接，请稍后重试。"
    return f"{refused.reason_name}: {refused.description}"


if __name__ == "__main__":
    app(prog_name="octopus knowledge")
