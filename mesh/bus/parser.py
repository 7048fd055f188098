"""Parse what NATS sends, several messages at a time.

nats-py matches two regular expressions for each message and removes it from the front of a buffer. What arrives is
mostly whole messages, so those are sliced from the bytes as they were read; all else is nats-py's.
"""

from typing import Any, Final

from nats.errors import ProtocolError
from nats.protocol.parser import AWAITING_CONTROL_LINE
from nats.protocol.parser import Parser as NatsParser

_LINE_END: Final = b"\r\n"
_WITHOUT_HEADERS, _WITH_HEADERS = b"MSG ", b"HMSG "
_MOST_LINE: Final = 4096


class Parser(NatsParser):
    """A parser whose state, between two reads, is a buffer that begins with a control line."""

    async def parse(self, data: bytes = b"") -> None:
        """Pass on the messages in `data` and in what was left of the last read. Raise ProtocolError."""
        if self.state == AWAITING_CONTROL_LINE:
            if self.buf:
                data = bytes(self.buf) + data
                self.buf.clear()
            data = await self._messages(data)
            if data.startswith((_WITHOUT_HEADERS, _WITH_HEADERS)):
                # The rest of this message has not arrived.
                self.buf.extend(data)
                return
        if data:
            await super().parse(data)

    async def _messages(self, data: bytes) -> bytes:
        """Pass on the whole messages at the front of `data`; return the bytes behind them."""
        begin = 0
        pass_on: Any = self.nc._process_msg  # noqa: SLF001  # as nats-py's parser does
        while data.startswith((_WITHOUT_HEADERS, _WITH_HEADERS), begin):
            line_end = data.find(_LINE_END, begin, begin + _MOST_LINE)
            if line_end < 0:
                if len(data) - begin >= _MOST_LINE:
                    raise ProtocolError
                break
            has_headers = data[begin] == _WITH_HEADERS[0]
            try:
                _, subject, sid, *more, size = data[begin:line_end].split()
                header_size = int(more.pop() if more else b"") if has_headers else 0
                [reply] = more or [b""]
                body = line_end + 2
                end = body + int(size)
                subscription = int(sid)
            except ValueError as error:
                raise ProtocolError from error
            if not 0 <= header_size <= end - body:
                raise ProtocolError
            if len(data) < end + 2:
                break
            begin = end + 2
            headers = data[body : body + header_size] if has_headers else None
            await pass_on(subscription, subject, reply, data[body + header_size : end], headers)
        return data[begin:]
