"""Manifests: what is refused, and that those of this repository say what the code does."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from mesh.bus import streams
from mesh.manifest import REPOSITORY, ManifestError, manifests, read_all

pytestmark = pytest.mark.unit

GOOD = """
name = "rating"
purpose = "asks how it was"
"""


def place(root: Path, folder: str, text: str) -> Path:
    path = root / folder / "manifest.toml"
    path.parent.mkdir(parents=True)
    path.write_text(text, encoding="utf-8")
    return path


def test_a_manifest_is_found_beside_the_code_and_needs_little(tmp_path: Path) -> None:
    place(tmp_path, "services/rating", GOOD)
    place(tmp_path, "edge/door", GOOD.replace("rating", "door"))
    found = read_all(tmp_path)
    assert list(found) == ["door", "rating"]
    assert (found["rating"].module, found["rating"].is_service, found["rating"].copies) == ("services.rating", True, 1)
    assert not found["door"].is_service


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("name = ", "cannot be read"),
        (GOOD + 'colour = "blue"', "colour: there is no such key"),
        (GOOD + "[bus]\nhears = []", "bus.hears: there is no such key"),
        (GOOD.replace("rating", "rates"), "the name is 'rates', but the folder is services/rating"),
        (GOOD.replace("purpose", "#"), "purpose: Field required"),
        (GOOD + 'stores = ["redis"]', "stores.0: Input should be 'postgres', 'valkey' or 'keyring'"),
        (GOOD + 'module = "services.chat"', "module: leave it out"),
        (GOOD + '[bus]\npublishes = [">"]', "bus.publishes.0: '>' may not be published"),
        (GOOD + '[bus]\npublishes = ["$JS.API.>"]', "may not be published"),
        (GOOD + '[bus]\npublishes = ["*.*.*"]', "may not be published"),
        (GOOD + '[bus]\nsubscribes = ["a..b"]', "'a..b' is no subject pattern"),
        (GOOD + '[bus]\nreads = { "event" = [] }', "bus.reads.event"),
        (GOOD + "copies = 2\nmany = false", "`copies` is more than one, but `many` is false"),
        (GOOD + "copies = 17", "copies: Input should be less than or equal to 16"),
        (
            GOOD + '[demo]\ntitle = "x"\nmodule = "services.chat.demo"',
            "services.chat.demo is not below services.rating",
        ),
        (
            GOOD + '[[commands]]\nname = "rate"\nmodule = "os"\nhelp = "x"',
            "os is not below services.rating: a program runs its own modules only",
        ),
    ],
)
def test_what_cannot_be_used_is_named_with_its_file(tmp_path: Path, text: str, says: str) -> None:
    path = place(tmp_path, "services/rating", text)
    with pytest.raises(ManifestError) as caught:
        read_all(tmp_path)
    assert str(path) in str(caught.value)
    assert says in str(caught.value)


def test_two_programs_may_not_have_the_same_name_or_command(tmp_path: Path) -> None:
    place(tmp_path, "services/rating", GOOD)
    place(tmp_path, "edge/rating", GOOD)
    with pytest.raises(ManifestError, match=r"a program 'rating' already: edge\.rating"):
        read_all(tmp_path)
    other = tmp_path / "other"
    for name in ("rating", "stars"):
        command = f'[[commands]]\nname = "rate"\nmodule = "services.{name}.cli"\nhelp = "x"'
        place(other, f"services/{name}", GOOD.replace("rating", name) + command)
    with pytest.raises(ManifestError, match="the command 'rate' belongs to rating already"):
        read_all(other)


def test_every_program_has_a_manifest() -> None:
    programs = {path.parent.name for room in ("edge", "services") for path in REPOSITORY.glob(f"{room}/*/__main__.py")}
    assert set(manifests()) == programs


@dataclass(frozen=True)
class Consumer:
    """A durable consumer in the code of a program."""

    program: str
    stream: str
    durable: str
    subjects: tuple[str, ...]


def consumers() -> Iterator[Consumer]:
    """All durable consumers, as the code says. Their arguments must stand there, not be computed."""
    for path in sorted(path for name in manifests() for path in REPOSITORY.glob(f"*/{name}/**/*.py")):
        if "tests" in path.parts:
            continue
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
                yield Consumer(
                    path.relative_to(REPOSITORY).parts[1], str(stream), str(durable), tuple(map(str, subjects))
                )


def test_a_manifest_names_the_consumers_in_the_code_and_no_others() -> None:
    found = list(consumers())
    assert found
    assert {each.durable == each.program for each in found} == {True}
    written = {
        (name, stream, subjects)
        for name, program in manifests().items()
        for stream, subjects in program.bus.reads.items()
        if subjects
    }
    assert {(each.program, each.stream, each.subjects) for each in found} == written


def test_manifests_name_streams_and_buckets_that_there_are() -> None:
    for name, program in manifests().items():
        assert program.bus.reads.keys() <= {each.name for each in streams.STREAMS}, name
        assert set(program.bus.writes) <= {each.name for each in streams.BUCKETS}, name


def test_who_uses_a_store_says_so_to_readers_too() -> None:
    for name, program in manifests().items():
        says = ("PostgreSQL" in program.keeps, "Valkey" in program.keeps)
        assert says == ("postgres" in program.stores, "valkey" in program.stores), name
