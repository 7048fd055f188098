import pytest
from octopus.mesh.v1 import registry_pb2

from mesh.control.table import EXPIRE_SECONDS, Table

pytestmark = pytest.mark.unit


def entry(instance_id: str = "1", **extra: object) -> bytes:
    return registry_pb2.Instance(service="chat", instance_id=instance_id, port=1, **extra).SerializeToString()  # type: ignore[arg-type]


def test_a_renewal_is_no_change_and_keeps_the_instance() -> None:
    table = Table()
    assert table.heard("chat.1", entry(), 0)
    assert not table.heard("chat.1", entry(), 2)
    assert table.expire(2 + EXPIRE_SECONDS - 0.1) == []
    assert [each.instance_id for each in table.expire(2 + EXPIRE_SECONDS)] == ["1"]
    assert list(table) == []


def test_another_weight_is_a_change() -> None:
    table = Table()
    table.heard("chat.1", entry(weight=100), 0)
    assert table.heard("chat.1", entry(weight=50), 1)
    assert [each.weight for each in table] == [50]


def test_an_instance_that_leaves_is_forgotten_once() -> None:
    table = Table()
    table.heard("chat.1", entry(), 0)
    assert table.gone("chat.1")
    assert not table.gone("chat.1")


def test_a_grant_outlives_the_silence_and_a_renewal_does_not_shorten_it() -> None:
    table = Table()
    table.heard("chat.1", entry(), 0)
    table.grant(20)
    table.heard("chat.1", entry(), 1)
    assert table.expire(19.9) == []
    assert len(table.expire(20)) == 1


@pytest.mark.parametrize(("key", "raw"), [("chat.1", b"\xff\xff"), ("session.1", entry()), ("chat.2", entry())])
def test_an_entry_that_is_malformed_or_not_ones_own_is_refused(key: str, raw: bytes) -> None:
    table = Table()
    with pytest.raises(ValueError, match="registry entry"):
        table.heard(key, raw, 0)
    assert list(table) == []
