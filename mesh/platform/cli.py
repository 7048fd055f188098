"""The `octopus` command. What a subcommand needs is imported when it runs, so that `--help` stays quick."""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from mesh.manifest import ManifestError
from mesh.platform.commands import commands
from mesh.platform.durability import Durability
from mesh.platform.folder import REPOSITORY, ROOT_VARIABLE, Folder, running

app = typer.Typer(
    help="在本机运行和查看 Octopus 平台。 Runs and watches the Octopus platform on this machine.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

Root = Annotated[Path | None, typer.Option("--root", help="Runtime folder.", show_default=".octopus in the repository")]
_EDGE_PORT = typer.Option("--edge-port", min=1, max=65535, help="Public port, TLS.", envvar="EDGE_PORT")
_DEFAULT_EDGE_PORT = 8443


@app.callback()
def platform(root: Root = None) -> None:
    """在本机运行和查看 Octopus 平台。 Runs and watches the Octopus platform on this machine."""
    if root is not None:
        os.environ[ROOT_VARIABLE] = str(root.absolute())


def _folder(root: Path | None) -> Folder:
    return Folder(root.absolute()) if root is not None else running()


@app.command()
def up(  # noqa: PLR0917 -- typer passes them by name
    root: Root = None,
    edge_port: Annotated[int, _EDGE_PORT] = _DEFAULT_EDGE_PORT,
    instances: Annotated[str, typer.Option(help="Copies of members, as chat=2,bridge=2,chat@v2=1.")] = "",
    settings: Annotated[
        list[str] | None, typer.Option("--set", help="A member's setting, as chat.rate_per_second=100; repeatable.")
    ] = None,
    demo: Annotated[bool, typer.Option("--demo/--no-demo", help="Load two demo shops the first time.")] = True,
    durability: Annotated[
        Durability,
        typer.Option(
            help="What an acknowledged message survives: always, a power cut; interval, all but its last second."
        ),
    ] = Durability.ALWAYS,
) -> None:
    """运行平台 Run the platform until Ctrl-C."""
    from mesh.manifest import manifests
    from mesh.platform import options
    from mesh.platform.supervisor import START_ERRORS, Supervisor
    from mesh.platform.terminal import Terminal

    terminal = Terminal()

    async def run() -> None:
        programs = {name: one for name, one in manifests().items() if demo or not one.demo_only}
        wanted = options.settings(settings or (), programs)
        options.check(wanted, programs)
        supervisor = Supervisor(
            _folder(root),
            edge_port=edge_port,
            programs=programs,
            copies=options.copies(instances, programs),
            settings=wanted,
            demo=demo,
            durability=durability,
            terminal=terminal,
        )
        await supervisor.run()

    try:
        asyncio.run(run())
    except (*START_ERRORS, options.OptionError, ManifestError) as error:
        terminal.wait("")
        terminal.fail(str(error))
        raise typer.Exit(1) from None
    except OSError as error:
        terminal.wait("")
        terminal.fail(f"{error}. `octopus doctor` checks this machine; the folder in use is {_folder(root).root}")
        raise typer.Exit(1) from None


@app.command()
def status(
    root: Root = None,
    json: Annotated[bool, typer.Option("--json", help="For scripts; `ready` is the first thing to look at.")] = False,
) -> None:
    """查看状态 Show what runs.

    Processes, memory, endpoints, how full the streams are, where the demo log-ins and the certificate are.
    The exit code is 0 when everything is ready, 3 otherwise.
    """
    from mesh.platform import status as report

    found = report.status(_folder(root))
    typer.echo(report.as_json(found) if json else report.as_text(found))
    raise typer.Exit(0 if found["ready"] else 3)


@app.command()
def doctor(root: Root = None, edge_port: Annotated[int | None, _EDGE_PORT] = None) -> None:
    """检查本机 Check this machine.

    Say whether it can run the platform, and what to do where it cannot.
    """
    from mesh.platform.doctor import examine

    marks = {"ok": "✓", "note": "!", "wrong": "✗"}
    wrong = 0
    for finding in examine(_folder(root), edge_port, _DEFAULT_EDGE_PORT):
        wrong += finding.grade == "wrong"
        typer.echo(f"{marks[finding.grade]} {finding.what:<12} {finding.text}")
    raise typer.Exit(1 if wrong else 0)


@app.command()
def logs(
    name: Annotated[str, typer.Argument(help="A process as `octopus status` names it, e.g. chat-1.")],
    root: Root = None,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on with what is written from now on.")] = False,
) -> None:
    """查看日志 Show the end of a process's log."""
    folder = _folder(root)
    path = folder.log / f"{name}.log"
    if not path.exists():
        there = ", ".join(sorted(found.stem for found in folder.log.glob("*.log")))
        others = f"there are: {there}" if there else f"nothing has run in {folder.root} yet"
        typer.echo(f"there is no log of {name!r}; {others}", err=True)
        raise typer.Exit(1)
    arguments = ["tail", "-n", "50", *(["-F"] if follow else []), str(path)]
    os.execvp(arguments[0], arguments)  # noqa: S606 - tail does this best


def _register(name: str, module: str, text: str) -> None:
    """Add a command that lives elsewhere: `python -m module` with the rest of the line."""

    @app.command(
        name,
        help=text,
        add_help_option=False,
        context_settings={"allow_extra_args": True, "ignore_unknown_options": True, "help_option_names": []},
    )
    def elsewhere(context: typer.Context) -> None:
        os.environ[ROOT_VARIABLE] = str(running().root)
        os.environ["PYTHONPATH"] = f"{REPOSITORY}:{REPOSITORY / 'gen' / 'python'}"
        os.execv(sys.executable, [sys.executable, "-m", module, *context.args])  # noqa: S606 - it takes our place


def main() -> None:
    """Run the command."""
    try:
        for command in commands():
            _register(command.name, command.module, command.help)
    except ManifestError as error:
        sys.exit(str(error))
    app()


if __name__ == "__main__":
    main()
