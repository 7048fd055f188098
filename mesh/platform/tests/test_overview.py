"""The drawn pages: they show the manifests, and a change of one changes them."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest

from mesh.identity import names
from mesh.manifest import REPOSITORY, Manifest, manifests
from mesh.platform.overview import PAGES, calls, drawn, flow, overlap, picture, process_table, stale

pytestmark = pytest.mark.unit

RATING = Manifest.model_validate(
    {
        "name": "rating",
        "module": "services.rating",
        "purpose": "asks how it was",
        "keeps": "PostgreSQL",
        "bus": {"publishes": ["event.rating.*.*"], "reads": {"EVENT": ["event.session.*.*"]}},
    }
)


def test_the_pages_of_this_repository_are_fresh() -> None:
    assert [path.name for path, _ in stale(REPOSITORY)] == []


def test_a_page_that_was_edited_by_hand_is_stale_and_is_mended(tmp_path: Path) -> None:
    for page in PAGES:
        (tmp_path / page).parent.mkdir(exist_ok=True)
        shutil.copy(REPOSITORY / page, tmp_path / page)
    readme = tmp_path / "README.md"
    readme.write_text(readme.read_text().replace("bridge --> chat", "bridge --> session"))
    ((path, wanted),) = stale(tmp_path)
    assert path == readme
    assert "bridge --> chat" in wanted


def test_a_new_service_is_drawn_with_its_subjects() -> None:
    page = picture({**manifests(), "rating": RATING})
    assert '  rating["rating"]\n' in page
    assert '  event_rating{{"event.rating.*.*"}}\n' in page
    assert "  rating -.-> event_rating\n" in page
    assert re.search(r"^  event_session -\.-> .*\brating\b", page, re.MULTILINE)
    assert "| `rating` | asks how it was | PostgreSQL |\n" in process_table({"rating": RATING})


def test_what_is_heard_must_be_published_by_somebody() -> None:
    with pytest.raises(ValueError, match=r"rating hears event\.session\.\*\.\*, which nobody publishes"):
        flow({"rating": RATING})


def test_a_subject_must_be_of_the_stream_it_is_read_from() -> None:
    wrong = RATING.model_copy(update={"bus": RATING.bus.model_copy(update={"reads": {"LOG": ("event.session.*.*",)}})})
    with pytest.raises(ValueError, match=r"rating reads event\.session\.\*\.\* from LOG, which does not store it"):
        flow({**manifests(), "rating": wrong})


def test_everybody_who_runs_is_drawn() -> None:
    page = picture(manifests())
    assert {name for name in names.members() if f'  {name}["' in page or f'  {name}(["' in page} == (
        names.members() - {names.ECHO}
    )
    assert calls()["bridge"] == ["chat"]


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [
        ("live.>", "live.*.*.signal", True),
        ("log.*.*", "log.a.b", True),
        ("log.*.*", "log.a", False),
        ("event.user.*.*", "event.session.*.*", False),
    ],
)
def test_patterns_overlap_where_a_subject_matches_both(one: str, other: str, *, expected: bool) -> None:
    assert overlap(one, other) is expected


def test_an_unknown_block_is_refused() -> None:
    with pytest.raises(KeyError):
        drawn("<!-- overview: colours -->\n<!-- overview ends -->", manifests())
