"""Names: those of the manifests, which are those of the contracts."""

from pathlib import Path

import pytest

from mesh.identity import names

pytestmark = pytest.mark.unit

ROOT = Path(__file__).parents[3]


def test_services_are_those_with_a_contract() -> None:
    contracts = {path.parents[1].name for path in (ROOT / "proto" / "octopus").glob("*/v1/*_service.proto")}
    assert set(names.services()) == contracts - {"mesh", names.ECHO}


def test_a_name_survives_its_spiffe_id() -> None:
    assert names.spiffe_id("chat") == "spiffe://octopus.local/chat"
    assert names.name_of("spiffe://octopus.local/chat") == "chat"


@pytest.mark.parametrize(
    "foreign",
    ["spiffe://elsewhere/chat", "spiffe://octopus.local/stranger", "spiffe://octopus.local/chat/x", "chat", ""],
)
def test_a_foreign_spiffe_id_has_no_name(foreign: str) -> None:
    assert names.name_of(foreign) is None


def test_an_unknown_name_is_refused_and_the_message_lists_the_known() -> None:
    with pytest.raises(names.UnknownNameError, match=r"chta; known are: .*chat"):
        names.check(["chat", "chta"])
