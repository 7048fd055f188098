"""The parser of what NATS sends: the same messages, however the bytes arrive."""

from typing import Any

import pytest
from nats.errors import ProtocolError

from mesh.bus.parser import Parser

pytestmark = pytest.mark.unit

HEADERS = b"NATS/1.0\r\nOctopus-Type: x\r\n\r\n"
WIRE = b"".join(
    (
        b'INFO {"server_id":"a"}\r\n',
        b"MSG a.b 1 5\r\nhello\r\n",
        b"PING\r\n",
        b"MSG a.b 1 reply.to 7\r\n\r\nMSG \r\r\n",
        b"+OK\r\n",
        b"HMSG c 12 $JS.ACK.x %d %d\r\n%bbody\r\n" % (len(HEADERS), len(HEADERS) + 4, HEADERS),
        b"HMSG c 12 %d %d\r\n%b\r\n" % (len(HEADERS), len(HEADERS), HEADERS),
        b"PONG\r\n",
        b"MSG  a.b\t3  0\r\n\r\n",
        b"-ERR 'Unknown'\r\n",
        b"MSG last 4 2\r\nok\r\n",
    )
)
HEARD = [
    ("info", {"server_id": "a"}),
    (1, b"a.b", b"", b"hello", None),
    "ping",
    (1, b"a.b", b"reply.to", b"\r\nMSG \r", None),
    (12, b"c", b"$JS.ACK.x", b"body", HEADERS),
    (12, b"c", b"", b"", HEADERS),
    "pong",
    (3, b"a.b", b"", b"", None),
    ("error", "'unknown'"),
    (4, b"last", b"", b"ok", None),
]


class Heard(list[Any]):
    """What a client is told by its parser."""

    async def _process_msg(self, *message: Any) -> None:
        self.append(message)

    async def _process_ping(self) -> None:
        self.append("ping")

    async def _process_pong(self) -> None:
        self.append("pong")

    async def _process_info(self, info: dict[str, Any]) -> None:
        self.append(("info", info))

    async def _process_err(self, error: str) -> None:
        self.append(("error", error))


async def heard(*pieces: bytes) -> list[Any]:
    told = Heard()
    parser = Parser(told)
    for piece in pieces:
        await parser.parse(piece)
    return list(told)


async def test_every_message_is_passed_on_wherever_the_bytes_are_cut() -> None:
    assert await heard(WIRE) == HEARD
    for cut in range(1, len(WIRE)):
        assert await heard(WIRE[:cut], WIRE[cut:]) == HEARD
    for size in range(1, 40):
        assert await heard(*(WIRE[at : at + size] for at in range(0, len(WIRE), size))) == HEARD


async def test_a_large_message_arrives_in_pieces() -> None:
    body = bytes(300_000)
    wire = b"MSG a 1 %d\r\n%b\r\n" % (len(body), body)
    assert await heard(*(wire[at : at + 32_768] for at in range(0, len(wire), 32_768))) == [(1, b"a", b"", body, None)]


@pytest.mark.parametrize(
    "wire",
    [
        b"MSG a 1 x\r\nhello\r\n",
        b"MSG a 1 -9\r\nhello\r\n",
        b"MSG a\r\nhello\r\n",
        b"MSG a b c d e 5\r\nhello\r\n",
        b"HMSG a 5\r\nhello\r\n",
        b"HMSG a 1 9 5\r\nhello\r\n",
        b"MSG " + bytes(5000),
        b"NONSENSE\r\n",
    ],
)
async def test_what_is_not_the_protocol_is_refused(wire: bytes) -> None:
    with pytest.raises(ProtocolError):
        await heard(wire)
