"""What is sealed opens only with its key, in its place, and undamaged."""

from pathlib import Path

import pytest

from mesh.stores.keyring import Keyring, KeyringError, add_key, key_id_of

pytestmark = pytest.mark.unit


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "test.keyring"
    add_key(path)
    return path


def test_opens_what_it_sealed(file: Path) -> None:
    ring = Keyring(file)
    sealed = ring.seal("你好".encode(), context=b"here")
    assert "你好".encode() not in sealed
    assert ring.open(sealed, context=b"here").decode() == "你好"


def test_sealing_twice_gives_different_bytes(file: Path) -> None:
    ring = Keyring(file)
    assert ring.seal(b"same", context=b"") != ring.seal(b"same", context=b"")


def test_many_sealed_at_once_open_each_in_its_own_place(file: Path) -> None:
    ring = Keyring(file)
    plains = [(b"same", b"place 1"), (b"same", b"place 2"), (b"", b"place 3")]
    sealed = ring.seal_all(plains)
    assert [ring.open(each, context=context) for each, (_, context) in zip(sealed, plains, strict=True)] == [
        b"same",
        b"same",
        b"",
    ]
    assert len({key_id_of(each) for each in sealed}) == 1
    assert len({each[3:15] for each in sealed}) == len(sealed)
    assert ring.seal_all([]) == []


def test_refuses_another_context(file: Path) -> None:
    ring = Keyring(file)
    with pytest.raises(KeyringError, match="another place"):
        ring.open(ring.seal(b"secret", context=b"shop 1"), context=b"shop 2")


def test_refuses_each_damaged_byte(file: Path) -> None:
    ring = Keyring(file)
    sealed = ring.seal(b"secret", context=b"here")
    for place in range(len(sealed)):
        damaged = bytearray(sealed)
        damaged[place] ^= 1
        with pytest.raises(KeyringError):
            ring.open(bytes(damaged), context=b"here")


def test_refuses_truncated_bytes(file: Path) -> None:
    ring = Keyring(file)
    sealed = ring.seal(b"secret", context=b"here")
    for length in range(len(sealed)):
        with pytest.raises(KeyringError):
            ring.open(sealed[:length], context=b"here")


def test_after_rotation_the_newest_key_seals_and_the_old_one_opens(file: Path) -> None:
    before = Keyring(file)
    old = before.seal(b"old", context=b"")
    assert add_key(file) == "k2"
    after = Keyring(file)
    new = after.seal(b"new", context=b"")
    assert (key_id_of(old), key_id_of(new)) == ("k1", "k2")
    assert after.open(old, context=b"") == b"old"


def test_an_instance_that_was_not_restarted_opens_what_a_newer_key_sealed(file: Path) -> None:
    old_instance = Keyring(file)
    add_key(file)
    assert old_instance.open(Keyring(file).seal(b"new", context=b""), context=b"") == b"new"


def test_a_lost_key_is_named(file: Path, tmp_path: Path) -> None:
    sealed = Keyring(file).seal(b"secret", context=b"")
    other = tmp_path / "other.keyring"
    other.write_text(file.read_text().replace("k1 ", "other "))
    with pytest.raises(KeyringError, match="does not hold the key 'k1'"):
        Keyring(other).open(sealed, context=b"")


def test_derives_the_same_secret_for_the_same_label_only(file: Path) -> None:
    ring = Keyring(file)
    assert ring.derive("a") == Keyring(file).derive("a")
    assert ring.derive("a") != ring.derive("b")


@pytest.mark.parametrize("text", ["", "k1\n", "k1 c2hvcnQ=\n", "k 1 AAAA\n", "k1 ****\n", "\u00e4 AAAA\n"])
def test_a_malformed_file_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "bad.keyring"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(KeyringError):
        Keyring(path)


def test_a_key_id_can_stand_once_only(file: Path) -> None:
    file.write_text(file.read_text() * 2)
    with pytest.raises(KeyringError, match="line 2"):
        Keyring(file)


def test_a_key_file_is_the_owners_alone(file: Path) -> None:
    assert file.stat().st_mode & 0o777 == 0o600
