"""Parse an import file as it arrives: bytes to records, each with the line it began on.

A record is either the raw fields of an entry or a problem. A bad line does not affect others: after an opening quote
that is never closed, the lines it took in are parsed again.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

from services.knowledge.domain import FileRefused

REQUIRED: Final = ("question", "answer")
COLUMNS: Final = (*REQUIRED, "similar_questions", "category", "locale")

# A good entry has at most 30 KiB of text, and twice that escaped as JSON. `csv` takes no longer field either.
_MAX_RECORD: Final = 128 * 1024

_NOT_UTF8: Final = "is not UTF-8; save the file as UTF-8 (in a spreadsheet: “CSV UTF-8”) and import it again"
_NOT_CLOSED: Final = 'opens a quote that is never closed; close it, or double it ("")'


@dataclass(frozen=True, slots=True)
class Record:
    """One entry of the file as it was written, or what is wrong with its line."""

    # Counted from 1, the header included.
    line: int
    # Bytes of the file up to and including this record.
    end: int
    values: dict[str, Any] = field(default_factory=dict)
    # What is wrong and what to do; empty for a good record.
    problem: str = ""
    # The column it is about; empty when it is the whole line.
    problem_field: str = ""


class Reader(Protocol):
    """Parse a file that arrives in pieces."""

    def feed(self, data: bytes) -> Iterator[Record]:
        """Yield the records that end within this piece."""
        ...

    def finish(self) -> Iterator[Record]:
        """Yield what remains at the end of the file."""
        ...


@dataclass(frozen=True, slots=True)
class _Line:
    number: int
    end: int
    # None when it is not UTF-8.
    text: str | None
    too_long: bool = False

    @property
    def complaint(self) -> str:
        if self.too_long:
            return f"is longer than {_MAX_RECORD // 1024} KiB; shorten it, or look for a missing line break"
        return _NOT_UTF8 if self.text is None else ""


class _Lines:
    """Split bytes into lines, keeping their ends: within quotes they belong to the text."""

    def __init__(self) -> None:
        self._rest = bytearray()
        self._number = 0
        self._end = 0
        # Within a line that is too long, whose bytes are dropped.
        self._dropping = False

    def feed(self, data: bytes) -> Iterator[_Line]:
        for piece in _at_newlines(data):
            self._end += len(piece)
            if not self._dropping:
                self._rest += piece
            if not piece.endswith(b"\n"):
                if len(self._rest) > _MAX_RECORD:
                    self._dropping = True
                    self._rest.clear()
                continue
            yield self._take()

    def finish(self) -> Iterator[_Line]:
        if self._rest or self._dropping:
            yield self._take()

    def _take(self) -> _Line:
        raw = bytes(self._rest)
        too_long = self._dropping or len(raw) > _MAX_RECORD
        self._rest.clear()
        self._dropping = False
        self._number += 1
        if self._number == 1:
            raw = raw.removeprefix(b"\xef\xbb\xbf")
        try:
            text = None if too_long else raw.decode()
        except UnicodeDecodeError:
            text = None
        return _Line(self._number, self._end, text, too_long)


def _at_newlines(data: bytes) -> Iterator[bytes]:
    """Yield pieces that end with a newline, then the rest; `bytes.splitlines` also cuts at lone carriage returns."""
    start = 0
    while (newline := data.find(b"\n", start)) >= 0:
        yield data[start : newline + 1]
        start = newline + 1
    if start < len(data):
        yield data[start:]


class JsonLines:
    """One JSON object a line; blank lines are skipped."""

    def __init__(self) -> None:
        self._lines = _Lines()

    def feed(self, data: bytes) -> Iterator[Record]:
        """Yield the records that end within this piece."""
        for line in self._lines.feed(data):
            yield from self._record(line)

    def finish(self) -> Iterator[Record]:
        """Yield what remains at the end of the file."""
        for line in self._lines.finish():
            yield from self._record(line)

    def _record(self, line: _Line) -> Iterator[Record]:
        if line.text is None:
            yield Record(line.number, line.end, problem=line.complaint)
            return
        if not line.text.strip():
            return
        try:
            value = json.loads(line.text)
        except (ValueError, RecursionError) as error:
            where = f" at column {error.colno}" if isinstance(error, json.JSONDecodeError) else ""
            problem = f'is not JSON{where}; write one object a line, such as {{"question": "…", "answer": "…"}}'
            yield Record(line.number, line.end, problem=problem)
            return
        if not isinstance(value, dict):
            yield Record(line.number, line.end, problem="is not a JSON object; write {…} with question and answer")
            return
        field_name, problem = _json_problem(value)
        yield Record(line.number, line.end, value, problem, field_name)


def _json_problem(value: dict[str, Any]) -> tuple[str, str]:
    for name, content in value.items():
        if name not in COLUMNS:
            return name, f"is not a field of an entry; the fields are {', '.join(COLUMNS)}"
        if name == "similar_questions":
            if not isinstance(content, list) or not all(isinstance(text, str) for text in content):
                return name, 'must be a list of texts; write ["…", "…"]'
        elif not isinstance(content, str):
            return name, "must be a text; put it in quotes"
    return "", ""


class Csv:
    """RFC 4180 with a header row. `similar_questions` are separated by `|`. Blank lines are skipped."""

    def __init__(self) -> None:
        self._lines = _Lines()
        self._header: list[str] = []
        # Lines of a record whose quotes are still open.
        self._open: list[_Line] = []
        self._open_size = 0

    def feed(self, data: bytes) -> Iterator[Record]:
        """Yield the records that end within this piece. Raise `FileRefused` when the header cannot be used."""
        for line in self._lines.feed(data):
            yield from self._line(line)

    def finish(self) -> Iterator[Record]:
        """Yield what remains at the end of the file. Raise `FileRefused` when there is no header."""
        for line in self._lines.finish():
            yield from self._line(line)
        while self._open:
            yield from self._give_back(_NOT_CLOSED)
        if not self._header:
            raise FileRefused(f"the file is empty; its first line must name the columns, e.g. {','.join(COLUMNS)}")

    def _line(self, line: _Line) -> Iterator[Record]:
        if line.text is None:
            if not self._header:
                raise FileRefused(f"the header {line.complaint}")
            while self._open:
                yield from self._give_back(_NOT_CLOSED)
            yield Record(line.number, line.end, problem=line.complaint)
            return
        self._open.append(line)
        self._open_size += len(line.text)
        if self._open_size > _MAX_RECORD and len(self._open) > 1:
            yield from self._give_back(_NOT_CLOSED)
        # An even number of quotes leaves an open field open: only an odd one can end the record.
        elif len(self._open) == 1 or line.text.count('"') % 2:
            problem, rows = _parsed(self._open)
            if not problem:
                first, self._open, self._open_size = self._open[0], [], 0
                yield from self._records(rows, first.number, line.end)
            elif problem != _NOT_CLOSED:
                yield from self._give_back(problem)

    def _give_back(self, problem: str) -> Iterator[Record]:
        """Report the first of the open lines, and parse the others again."""
        first, *others = self._open
        self._open, self._open_size = [], 0
        if not self._header:
            raise FileRefused(f"the header {problem}")
        yield Record(first.number, first.end, problem=problem)
        # Those before the last must each be parsed alone, so that no line is parsed a third time.
        for line in others[:-1]:
            problem, rows = _parsed([line])
            if problem:
                yield Record(line.number, line.end, problem=problem)
            else:
                yield from self._records(rows, line.number, line.end)
        if others:
            yield from self._line(others[-1])

    def _records(self, rows: list[list[str]], number: int, end: int) -> Iterator[Record]:
        for row in rows:
            if not any(row):
                continue
            if self._header:
                yield self._record(row, number, end)
            else:
                self._header = _header(row)

    def _record(self, row: list[str], number: int, end: int) -> Record:
        if len(row) != len(self._header):
            problem = (
                f"has {len(row)} of the {len(self._header)} columns that the header names; "
                "put texts with a comma in quotes, and leave empty columns empty"
            )
            return Record(number, end, problem=problem)
        values: dict[str, Any] = dict(zip(self._header, row, strict=True))
        if "similar_questions" in values:
            values["similar_questions"] = [text for text in values["similar_questions"].split("|") if text.strip()]
        return Record(number, end, values)


def _parsed(lines: list[_Line]) -> tuple[str, list[list[str]]]:
    """Return a problem, or the rows that the lines form together: one, or none when they are blank."""
    try:
        return "", list(csv.reader([line.text or "" for line in lines], strict=True))
    except csv.Error as error:
        if "unexpected end" in str(error):
            return _NOT_CLOSED, []
        if "expected after" in str(error):
            return 'has text after a closing quote; double the quotes within a text ("")', []
        return f"cannot be read ({error}); write it as RFC 4180 says", []


def _header(row: list[str]) -> list[str]:
    names = [name.strip().lower() for name in row]
    if unknown := [name for name in names if name not in COLUMNS]:
        raise FileRefused(f"the header names {unknown[0]!r}; the columns are {', '.join(COLUMNS)}")
    if missing := [name for name in REQUIRED if name not in names]:
        raise FileRefused(f"the header does not name {missing[0]!r}; the first line names at least question and answer")
    if len(set(names)) != len(names):
        raise FileRefused("the header names a column twice; remove one")
    return names
