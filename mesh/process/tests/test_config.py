from pathlib import Path

import pytest
from pydantic import ValidationError

from mesh.process.config import ConfigError, ServiceConfig

pytestmark = pytest.mark.unit

GOOD = """
name = "chat"
instance = "chat-1"
identity = "/run/octopus/identity"
nats_url = "tls://127.0.0.1:4222"
xds = "127.0.0.1:18000"
"""


def write(folder: Path, text: str) -> Path:
    path = folder / "chat-1.toml"
    path.write_text(text)
    return path


def test_a_file_becomes_settings_with_defaults(tmp_path: Path) -> None:
    config = ServiceConfig.read(write(tmp_path, GOOD))
    assert (config.name, config.port, config.version, config.shutdown_grace_s) == ("chat", 0, "v1", 10)
    assert config.identity == Path("/run/octopus/identity")
    with pytest.raises(ValidationError):
        config.port = 1  # type: ignore[misc]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("name = ", "is not TOML"),
        (GOOD + 'colour = "blue"', "colour: there is no such setting"),
        (GOOD.replace("instance", "instanz"), "instance: Field required"),
        (GOOD + "port = 70000", "port: Input should be less than or equal to 65535"),
        (GOOD + 'version = "2"', "version: String should match pattern"),
        (GOOD + 'host = "0.0.0.0"', "say in `advertised_host` at which address others reach it"),
        (GOOD + 'host = "::"', "say in `advertised_host`"),
        (GOOD + 'host = "localhost"', "'localhost' is no IP address: set `advertised_host`"),
        (GOOD + 'advertised_host = "chat.example"', "is no IP address"),
        (GOOD + "stream_replicas = 0", "stream_replicas: Input should be greater than or equal to 1"),
    ],
)
def test_what_cannot_be_used_is_named(tmp_path: Path, text: str, says: str) -> None:
    with pytest.raises(ConfigError, match=r"chat-1\.toml") as caught:
        ServiceConfig.read(write(tmp_path, text))
    assert says in str(caught.value)


def test_a_missing_file_says_how_to_give_one(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="give one with --config FILE"):
        ServiceConfig.read(tmp_path / "nothing.toml")


def test_a_server_listens_everywhere_and_others_are_told_one_address(tmp_path: Path) -> None:
    config = ServiceConfig.read(write(tmp_path, GOOD + 'host = "0.0.0.0"\nadvertised_host = "10.77.0.2"'))
    assert (config.host, config.reached_at) == ("0.0.0.0", "10.77.0.2")  # noqa: S104
    assert ServiceConfig.read(write(tmp_path, GOOD)).reached_at == "127.0.0.1"
