"""The picture in the README is true: who calls whom, which subjects flow, and who keeps what where.

Callers are derived from the contracts' allowlists, subjects from the rights on the bus and from the consumers in the
services' code, stores from the process table. Whoever changes one of these changes the picture in the same commit.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path

import pytest

from mesh.bus import streams
from mesh.control.contract import methods
from mesh.identity import names
from mesh.platform.components.nats import RIGHTS
from mesh.platform.fleet import FLEET

pytestmark = pytest.mark.unit

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")

CALL, SUBJECT, OTHER = "-->", "-.->", "==>"
# Those who stand outside of the mesh.
PEOPLE = "people"
# A benchmark's echo is no part of what runs.
RUNNING = names.MEMBERS - {names.ECHO}

NODE = re.compile(r'^(\w+)(\(\[|\{\{|\[)"?([^"\])}]+)"?(\]\)|\}\}|\])$')
ARROWS = re.compile(r"^([\w &]+) (-->|-\.->|==>)(?:\|[^|]*\|)? ([\w &]+)$")

Pairs = set[tuple[str, str]]


@dataclass
class Drawing:
    """A mermaid flowchart: what is written in each node, and the arrows of each kind."""

    nodes: dict[str, str] = field(default_factory=dict)
    arrows: dict[str, Pairs] = field(default_factory=lambda: {CALL: set(), SUBJECT: set(), OTHER: set()})

    @property
    def subjects(self) -> dict[str, str]:
        """The nodes that are subjects, and which."""
        return {node: text for node, text in self.nodes.items() if "." in text}


def drawing(readme: str) -> Drawing:
    """The flowchart in the text. ValueError for a line that is neither a node nor an arrow between nodes."""
    (source,) = re.findall(r"```mermaid\nflowchart \w+\n(.*?)```", readme, re.DOTALL)
    found = Drawing()
    for line in filter(None, map(str.strip, source.splitlines())):
        if node := NODE.match(line):
            found.nodes[node[1]] = node[3]
        elif arrow := ARROWS.match(line):
            pairs = product(arrow[1].split(" & "), arrow[3].split(" & "))
            found.arrows[arrow[2]] |= set(pairs)
        else:
            raise ValueError(f"neither a node nor an arrow: {line}")
    unknown = {end for pairs in found.arrows.values() for pair in pairs for end in pair} - found.nodes.keys()
    if unknown:
        raise ValueError(f"arrows from or to what is not drawn: {', '.join(sorted(unknown))}")
    return found


def overlap(one: str, other: str) -> bool:
    """Whether a message could match both subject patterns."""
    left, right = one.split("."), other.split(".")
    for a, b in zip(left, right, strict=False):
        if ">" in (a, b):
            return True
        if a != b and "*" not in (a, b):
            return False
    return len(left) == len(right)


@dataclass(frozen=True)
class Consumer:
    """A durable consumer in the code of a service."""

    service: str
    stream: str
    durable: str
    subjects: tuple[str, ...]


def consumers() -> Iterator[Consumer]:
    """All durable consumers of the services, as their code says. Their arguments must stand there, not be computed."""
    for path in sorted(ROOT.glob("services/*/*.py")):
        tree = ast.parse(path.read_text(encoding="utf-8"), str(path))
        constants = {
            target.id: node.value
            for node in ast.walk(tree)
            if isinstance(node, ast.Assign | ast.AnnAssign) and node.value is not None
            for target in (node.targets if isinstance(node, ast.Assign) else [node.target])
            if isinstance(target, ast.Name)
        }

        def value(node: ast.expr, known: dict[str, ast.expr] = constants) -> object:
            name = node.id if isinstance(node, ast.Name) else node.attr if isinstance(node, ast.Attribute) else None
            if name is not None and name not in known:
                return getattr(streams, name)
            return ast.literal_eval(node if name is None else known[name])

        for node in ast.walk(tree):
            if (
                isinstance(node, ast.Call)
                and isinstance(node.func, ast.Attribute)
                and node.func.attr in ("consume", "consume_batches")
            ):
                stream, durable, subjects = (value(argument) for argument in node.args[:3])
                assert isinstance(subjects, list | tuple)
                yield Consumer(path.parent.name, str(stream), str(durable), tuple(map(str, subjects)))


DRAWN = drawing(README)


def test_everything_that_runs_is_drawn_and_nothing_else() -> None:
    assert DRAWN.nodes.keys() - DRAWN.subjects.keys() == RUNNING | {PEOPLE}
    assert {member.name for member in FLEET} | {"edge", "operator"} == RUNNING


def test_calls_are_those_that_the_contracts_allow() -> None:
    allowed = {(caller, each.service) for each in methods() for caller in each.callers if each.service in RUNNING}
    # The control plane's own contract; it is no service.
    assert DRAWN.arrows[CALL] == allowed | {("operator", "control")}


def test_other_connections_are_the_way_in_the_feed_and_what_the_edge_reaches_without_a_contract() -> None:
    without = {member.name for member in FLEET} - set(names.SERVICES) - {"control"}
    assert DRAWN.arrows[OTHER] == {(PEOPLE, "edge"), ("control", "edge")} | {("edge", name) for name in without}


def test_publishers_are_those_with_the_right_to_publish() -> None:
    drawn = {(who, what) for who, what in DRAWN.arrows[SUBJECT] if who in RUNNING}
    rights = {name: [each for each in right.publish if not each.startswith("$")] for name, right in RIGHTS.items()}
    assert drawn == {
        (name, node)
        for name, patterns in rights.items()
        for node, subject in DRAWN.subjects.items()
        if any(overlap(pattern, subject) for pattern in patterns)
    }
    undrawn = {
        pattern
        for patterns in rights.values()
        for pattern in patterns
        if not any(overlap(pattern, subject) for subject in DRAWN.subjects.values())
    }
    assert not undrawn


def test_hearers_are_the_consumers_in_the_code_and_those_with_the_right_to_subscribe() -> None:
    drawn = {(what, who) for what, who in DRAWN.arrows[SUBJECT] if who in RUNNING}
    patterns = {name: [each for each in right.subscribe if not each.startswith("$")] for name, right in RIGHTS.items()}
    for consumer in consumers():
        patterns[consumer.service] += consumer.subjects
    assert drawn == {
        (node, name)
        for name, heard in patterns.items()
        for node, subject in DRAWN.subjects.items()
        if any(overlap(pattern, subject) for pattern in heard)
    }


def test_streams_are_drawn_with_what_they_pass_on() -> None:
    for stream in streams.STREAMS:
        # Every consumer may put what it cannot digest into DEAD; the picture would hold little else.
        if stream.name != streams.DEAD:
            for pattern in stream.subjects:
                assert any(overlap(pattern, subject) for subject in DRAWN.subjects.values()), stream
    passed_on = {
        (source, node)
        for stream in streams.STREAMS
        if stream.republish
        for (source, from_), (node, to) in product(DRAWN.subjects.items(), repeat=2)
        if overlap(stream.republish[0], from_) and overlap(re.sub(r"{{.*?}}", "*", stream.republish[1]), to)
    }
    drawn = {(a, b) for a, b in DRAWN.arrows[SUBJECT] if a in DRAWN.subjects and b in DRAWN.subjects}
    assert passed_on
    assert drawn == passed_on


def test_consumers_bear_their_service_s_name_and_may_read_their_stream() -> None:
    found = list(consumers())
    assert found
    for consumer in found:
        assert consumer.durable == consumer.service
        assert consumer.stream in RIGHTS[consumer.service].read
        assert all(streams.stream_of(subject) == consumer.stream for subject in consumer.subjects)


def test_the_table_says_who_keeps_what_where() -> None:
    rows = {
        name: (why, kept) for name, why, kept in re.findall(r"^\| `(\w+)` \| (.+?) \| (.+?) \|$", README, re.MULTILINE)
    }
    for member in FLEET:
        why, kept = rows[member.name]
        assert why
        assert ("PostgreSQL" in kept, "Valkey" in kept) == (member.postgres, member.valkey), member.name


def test_the_mesh_s_table_says_who_writes_which_bucket() -> None:
    table = (ROOT / "mesh" / "README.md").read_text(encoding="utf-8")
    rows = {
        name: set(re.findall(r"`(\w+)`", who))
        for name, who in re.findall(r"^\| `(\w+)` \| .+ \| (.+) \|$", table, re.MULTILINE)
    }
    assert rows == {
        bucket.name: {name for name, right in RIGHTS.items() if bucket.name in right.write}
        for bucket in streams.BUCKETS
    }


@pytest.mark.parametrize(
    ("true", "false"),
    [
        ("bridge --> chat", "bridge --> session"),
        ("user -.-> users", "chat -.-> users"),
        ("log -.-> bot", "log -.-> user"),
    ],
)
def test_another_drawing_is_another_set_of_arrows(true: str, false: str) -> None:
    assert true in README
    assert drawing(README.replace(true, false)).arrows != DRAWN.arrows


def test_a_line_that_cannot_be_read_is_refused() -> None:
    with pytest.raises(ValueError, match="neither a node nor an arrow"):
        drawing("```mermaid\nflowchart TB\na --- b\n```")
    with pytest.raises(ValueError, match="not drawn: b"):
        drawing('```mermaid\nflowchart TB\na["a"]\na --> b\n```')
