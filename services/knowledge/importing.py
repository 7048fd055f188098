"""Store an import file as it arrives: records are checked by the rules of the contract and saved in batches."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any, Final

from mesh.rpc.validation import violations_of
from services.knowledge import wire
from services.knowledge.domain import Content, FileRefused
from services.knowledge.entries import Entries
from services.knowledge.import_parser import Reader, Record

MAX_FILE_BYTES: Final = 64 * 1024 * 1024

# Entries saved in one transaction; about a second of embedding.
_BATCH: Final = 16

# Bad lines reported with their problem; the others are only counted.
_MAX_TOLD: Final = 1000

_REMEDIES: Final = {
    "question": "shorten it",
    "answer": "shorten it, or split it into two entries",
    "similar_questions": "keep at most 20, each shorter than 1 KiB",
    "category": "shorten it",
    "locale": 'write it like "zh-CN" or "en"',
}


@dataclass(frozen=True, slots=True)
class BadLine:
    """A line that was refused. `field` is empty when it is the whole line."""

    line: int
    field: str
    problem: str


@dataclass(slots=True)
class Progress:
    """The progress of an import. `bad_lines` are those since the progress before."""

    processed_bytes: int = 0
    created: int = 0
    updated: int = 0
    unchanged: int = 0
    refused: int = 0
    bad_lines: list[BadLine] = field(default_factory=list)
    finished: bool = False


class Import:
    """The import of one file into one shop."""

    def __init__(self, *, entries: Entries, tenant_id: str, reader: Reader, max_bytes: int = MAX_FILE_BYTES) -> None:
        self._entries = entries
        self._tenant_id = tenant_id
        self._reader = reader
        self._max_bytes = max_bytes
        self._batch: list[Content] = []
        # The line of each entry, by locale and question. Only hashes: a file may have 100,000s of them.
        self._lines: dict[int, int] = {}
        self._received = 0
        self._told = 0
        self._progress = Progress()

    async def run(self, pieces: AsyncIterator[bytes]) -> AsyncIterator[Progress]:
        """Save the file; yield its progress after each batch, and last the report. Raise `FileRefused`."""
        async for piece in pieces:
            self._received += len(piece)
            if self._received > self._max_bytes:
                raise FileRefused(
                    f"the file is larger than {self._max_bytes / 1024 / 1024:.0f} MiB; split it. "
                    "What was read so far is stored, and importing it again changes nothing"
                )
            for record in self._reader.feed(piece):
                if self._take(record):
                    yield await self._flush()
        for record in self._reader.finish():
            if self._take(record):
                yield await self._flush()
        last = await self._flush()
        last.processed_bytes = self._received
        last.finished = True
        yield last

    def _take(self, record: Record) -> bool:
        """Add the record to the batch, or report its problems; return True when it is time to save."""
        self._progress.processed_bytes = record.end
        problems = [(record.problem_field, record.problem)] if record.problem else []
        content = _content(record.values) if not problems else Content("", "")
        if not problems:
            # A text that cannot be stored cannot be put into a message either.
            problems = content.problems() or violations(content)
        if not problems:
            key = hash((content.locale, content.question))
            if key in self._lines:
                problems = [("question", f"is on line {self._lines[key]} already; keep one of the two")]
            else:
                self._lines[key] = record.line
                self._batch.append(content)
        if problems:
            self._progress.refused += 1
            for name, problem in problems[: _MAX_TOLD - self._told]:
                self._progress.bad_lines.append(BadLine(record.line, name, problem))
                self._told += 1
        return len(self._batch) >= _BATCH or len(self._progress.bad_lines) >= _MAX_TOLD // 10

    async def _flush(self) -> Progress:
        if self._batch:
            saved = await self._entries.save(self._tenant_id, self._batch)
            self._batch = []
            self._progress.created += saved.created
            self._progress.updated += saved.updated
            self._progress.unchanged += saved.unchanged
        told, self._progress = (
            self._progress,
            Progress(
                self._progress.processed_bytes,
                self._progress.created,
                self._progress.updated,
                self._progress.unchanged,
                self._progress.refused,
            ),
        )
        return told


def violations(content: Content) -> list[tuple[str, str]]:
    """Return pairs of a field and the rule of the contract that it breaks, with what to do."""
    found = []
    for path, rule in violations_of(wire.to_content(content)):
        name = path.partition("[")[0]
        found.append((name, f"{rule}; {_REMEDIES.get(name, 'change it')}"))
    return found


def _content(values: dict[str, Any]) -> Content:
    return Content(
        question=values.get("question", ""),
        answer=values.get("answer", ""),
        similar_questions=tuple(values.get("similar_questions", ())),
        category=values.get("category", ""),
        locale=values.get("locale", ""),
    ).tidied()
