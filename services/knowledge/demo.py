"""Load the FAQ of the two demo shops: `python -m services.knowledge.demo --config FILE`.

Imports db/demo/<shop>.jsonl as ImportFaqs would. Safe to repeat, and quick when nothing has changed: what is stored
word for word is not embedded again.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Final

import structlog

from mesh.platform.folder import REPOSITORY
from mesh.process.config import ConfigError
from mesh.process.member import Member
from mesh.telemetry.logs import configure_logging
from services.knowledge.config import KnowledgeConfig
from services.knowledge.embedding import E5
from services.knowledge.entries import Entries
from services.knowledge.import_parser import JsonLines
from services.knowledge.importing import Import, Progress

_log = structlog.get_logger(__name__)

FOLDER: Final = REPOSITORY / "db" / "demo"


async def load(entries: Entries, tenant_id: str, file: Path) -> Progress:
    """Import one shop's file and return the report."""
    work = Import(entries=entries, tenant_id=tenant_id, reader=JsonLines())
    report = Progress()
    async for progress in work.run(_pieces(file)):
        for bad in progress.bad_lines:
            _log.error("bad line in the demo", file=file.name, line=bad.line, field=bad.field, problem=bad.problem)
        report = progress
    return report


async def _pieces(file: Path) -> AsyncIterator[bytes]:
    yield file.read_bytes()


async def fill(config: KnowledgeConfig) -> bool:
    """Load every file of the folder into the shop it is named after; return False when a line was refused."""
    # Beside the running service, not instead of it.
    own = config.model_copy(update={"instance": "knowledge-demo", "metrics_port": 0})
    refused = 0
    async with Member(own) as member:
        ids = await member.ids()
        # One thread: two spend most of their time waiting for each other on a machine where everything starts.
        embedder = await member.enter(E5())
        entries = Entries(database=await member.postgres(), embedder=embedder, next_id=ids.next)
        for file in sorted(FOLDER.glob("*.jsonl")):
            report = await load(entries, file.stem, file)
            refused += report.refused
            _log.info(
                "demo shop loaded", tenant=file.stem, created=report.created, updated=report.updated,
                unchanged=report.unchanged, refused=report.refused,
            )  # fmt: skip
    return not refused


def main() -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(description="Fills the two demo shops with answers. Safe to repeat.")
    parser.add_argument("--config", type=Path, required=True, metavar="FILE", help="settings of the knowledge service")
    arguments = parser.parse_args()
    try:
        config = KnowledgeConfig.read(arguments.config)
    except ConfigError as error:
        sys.exit(str(error))
    configure_logging(config.name, "knowledge-demo", config.log_level)
    if not asyncio.run(fill(config)):
        sys.exit("some lines of the demo were refused; the lines above say which and why")


if __name__ == "__main__":
    main()
