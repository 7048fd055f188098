"""Draws what runs, from the manifests, the contracts and the streams, into the pages that show it.

    python -m mesh.platform.overview          write the blocks anew, as `make gen` does
    python -m mesh.platform.overview --check  name the pages whose blocks are stale, as `make check` does

A block stands between `<!-- overview: NAME -->` and `<!-- overview ends -->`.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from mesh.bus import streams
from mesh.control.contract import methods
from mesh.identity import names
from mesh.manifest import REPOSITORY, Manifest, manifests

_BLOCK: Final = re.compile(r"(<!-- overview: ([a-z]+) -->\n)(.*?)(<!-- overview ends -->)", re.DOTALL)

Arrows = Mapping[str, Iterable[str]]


@dataclass(frozen=True)
class BusFlow:
    """The publishers and subscribers of each subject."""

    # What a program publishes, or what a stream sends on; in the order of the manifests.
    subjects: tuple[str, ...]
    # (program, subject), (subject, program), and (subject, subject) for what a stream sends on.
    arrows: frozenset[tuple[str, str]]


def flow(programs: Mapping[str, Manifest]) -> BusFlow:
    """Return the flow of subjects. Raise ValueError for a subject without a publisher."""
    sent_on = {
        source: re.sub(r"{{.*?}}", "*", target)
        for source, target in (each.republish for each in streams.STREAMS if each.republish)
    }
    published = [subject for program in programs.values() for subject in program.bus.publishes]
    subjects = tuple(dict.fromkeys([*published, *sent_on.values()]))
    arrows = {(name, subject) for name, program in programs.items() for subject in program.bus.publishes}
    arrows |= set(sent_on.items())
    for name, program in programs.items():
        heard = [subject for subject in program.bus.subscribes if not subject.startswith("$")]
        for stream, consumed in program.bus.reads.items():
            for subject in consumed:
                if streams.stream_of(subject) != stream:
                    raise ValueError(f"{name} reads {subject} from {stream}, which does not store it")
            heard += consumed
        for pattern in heard:
            found = {subject for subject in subjects if overlap(pattern, subject)}
            if not found:
                raise ValueError(f"{name} hears {pattern}, which nobody publishes")
            arrows |= {(subject, name) for subject in found}
    return BusFlow(subjects, frozenset(arrows))


def overlap(one: str, other: str) -> bool:
    """Return whether a message could match both subject patterns."""
    left, right = one.split("."), other.split(".")
    for a, b in zip(left, right, strict=False):
        if ">" in (a, b):
            return True
        if a != b and "*" not in (a, b):
            return False
    return len(left) == len(right)


def calls() -> Arrows:
    """Return who calls whom, as the contracts allow it; the operator's way to the control plane included."""
    found: dict[str, set[str]] = {"operator": {"control"}}
    for method in methods():
        for caller in method.callers if method.service != names.ECHO else ():
            found.setdefault(caller, set()).add(method.service)
    return {caller: sorted(found[caller]) for caller in sorted(found)}


def picture(programs: Mapping[str, Manifest]) -> str:
    """Return the flowchart: what runs, gRPC calls (solid), subjects (dotted), other connections (thick)."""
    bus = flow(programs)
    nodes = {subject: _node(subject) for subject in bus.subjects}
    without_contract = [name for name, program in programs.items() if not program.is_service and name != "control"]
    lines = ['people(["pages, apps, partners"])', 'operator(["operator: the octopus command"])', 'edge["edge: Envoy"]']
    lines += [f'{name}["{": ".join(filter(None, (name, each.caption)))}"]' for name, each in programs.items()]
    lines += [f'{node}{{{{"{subject}"}}}}' for subject, node in nodes.items()]
    lines += [
        "",
        "people ==>|TLS 1.3: gRPC, gRPC-Web, WebSocket, HTTPS| edge",
        "control ==>|xDS, to every member| edge",
    ]
    lines += [f"edge ==> {' & '.join(without_contract)}"]
    lines += [f"{caller} --> {' & '.join(called)}" for caller, called in calls().items()]
    lines += [""]
    sources: dict[str, list[str]] = {}
    for source, target in sorted(bus.arrows):
        sources.setdefault(nodes.get(source, source), []).append(nodes.get(target, target))
    lines += [f"{source} -.-> {' & '.join(targets)}" for source, targets in sources.items()]
    return "\n".join(["```mermaid", "flowchart TB", *(f"  {line}".rstrip() for line in lines), "```"]) + "\n"


def _node(subject: str) -> str:
    return "_".join(part for part in subject.split(".") if part not in "*>")


def process_table(programs: Mapping[str, Manifest]) -> str:
    """Return the table of what runs and why."""
    rows = ["| process | why it is apart | keeps |", "| --- | --- | --- |"]
    rows += ["| `edge` | Envoy: the one public port. TLS, tokens, routes, limits, affinity, canary | nothing |"]
    rows += [f"| `{name}` | {each.purpose} | {each.keeps} |" for name, each in programs.items()]
    return "\n".join(rows) + "\n"


def bucket_table(programs: Mapping[str, Manifest]) -> str:
    """Return the table of who writes which bucket. Raise ValueError when one is written that is not there."""
    writers: dict[str, list[str]] = {bucket.name: [] for bucket in streams.BUCKETS}
    for name, program in programs.items():
        for written in program.bus.writes:
            if written not in writers:
                raise ValueError(f"{name} writes the bucket {written!r}; there are {', '.join(writers)}")
            writers[written].append(name)
    rows = ["| bucket | what is in it | written by |", "| --- | --- | --- |"]
    for bucket in streams.BUCKETS:
        who = ", ".join(f"`{name}`" for name in writers[bucket.name])
        if bucket.name == "registry":
            who = "everybody, the own ones"
        rows.append(f"| `{bucket.name}` | {bucket.description.replace('<', '&lt;')} | {who} |")
    return "\n".join(rows) + "\n"


BLOCKS: Final[Mapping[str, Callable[[Mapping[str, Manifest]], str]]] = {
    "picture": picture,
    "processes": process_table,
    "buckets": bucket_table,
}

PAGES: Final = ("README.md", "mesh/README.md")


def drawn(page: str, programs: Mapping[str, Manifest]) -> str:
    """Return the page with its blocks as they should be. Raise KeyError for an unknown block."""
    return _BLOCK.sub(lambda found: f"{found[1]}{BLOCKS[found[2]](programs)}{found[4]}", page)


def stale(root: Path) -> Iterator[tuple[Path, str]]:
    """Yield each page that is not as it should be, and what it should be."""
    for name in PAGES:
        path = root / name
        wanted = drawn(path.read_text(encoding="utf-8"), manifests())
        if wanted != path.read_text(encoding="utf-8"):
            yield path, wanted


def main() -> int:
    """Write or check the pages; return the exit code."""
    parser = argparse.ArgumentParser(description="Draw what runs into the pages that show it.")
    parser.add_argument("--check", action="store_true", help="write nothing; exit code 1 when a page is stale")
    check: bool = parser.parse_args().check
    found = False
    for path, wanted in stale(REPOSITORY):
        found = True
        if check:
            print(f"{path.relative_to(REPOSITORY)} does not show what runs. Run: make gen")
        else:
            path.write_text(wanted, encoding="utf-8")
    return int(check and found)


if __name__ == "__main__":
    sys.exit(main())
