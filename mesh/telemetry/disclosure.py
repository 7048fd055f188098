"""Redact log fields: no personal data, no content of messages, no credentials.

Call sites must not log them in the first place. As a second guard, fields named like secrets or contents are
hidden, messages of the contracts are reduced to their type, and an error's text is written only when it cannot
contain personal data: our own texts, and those of libraries that never repeat their input.
"""

from __future__ import annotations

import traceback
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

import grpc
from google.protobuf.message import Message

HIDDEN: Final = "[hidden]"

# A field is hidden when the last word of its name is one of these: `refresh_token`, `phone`, `body`.
_PRIVATE_WORDS: Final = frozenset(
    {
        *("authorization", "token", "tokens", "jwt", "cookie", "password", "secret", "secrets", "signature"),
        *("phone", "email", "display_name", "text", "body", "question", "answer"),
    }
)
_OWN: Final = ("mesh.", "services.", "edge.", "e2e.", "__main__")
_QUIET_LIBRARIES: Final = ("nats.", "ssl", "asyncio.")
# Their texts name parts of the program, not its data.
_QUIET_ERRORS: Final = (
    AttributeError,
    ImportError,
    NameError,
    NotImplementedError,
    OSError,
    RuntimeError,
    TimeoutError,
    TypeError,
)
_ROOT: Final = Path(__file__).resolve().parents[2]
_FRAMES: Final = 20


def disclose(value: Any, name: str = "") -> Any:
    """Return the value as it may be written under this name, ready for JSON."""
    if name in _PRIVATE_WORDS or name.rpartition("_")[2] in _PRIVATE_WORDS:
        return HIDDEN
    match value:
        case None | bool() | int() | float() | str():
            return value
        case Message():
            return f"<{value.DESCRIPTOR.full_name}>"
        case bytes() | bytearray() | memoryview():
            return f"<{len(value)} bytes>"
        case BaseException():
            return disclose_error(value)
        case Mapping():
            return {str(key): disclose(item, str(key)) for key, item in value.items()}
        case list() | tuple() | set() | frozenset():
            return [disclose(item) for item in value]
        case _ if type(value).__module__.startswith(("pathlib", "datetime", "ipaddress")):
            return str(value)
        case _:
            return f"<{type(value).__qualname__}>"


def disclose_error(error: BaseException) -> dict[str, Any]:
    """Return an error's type, where it happened, what it says when that is safe, and the errors that led to it."""
    told: dict[str, Any] = {"type": f"{type(error).__module__}.{type(error).__qualname__}".removeprefix("builtins.")}
    if message := _message(error):
        told["message"] = message
    if frames := traceback.extract_tb(error.__traceback__)[-_FRAMES:]:
        told["at"] = [f"{_short(frame.filename)}:{frame.lineno} {frame.name}" for frame in frames]
    if isinstance(error, BaseExceptionGroup):
        told["errors"] = [disclose_error(each) for each in error.exceptions]
    cause = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    if cause is not None:
        told["cause"] = disclose_error(cause)
    return told


def _message(error: BaseException) -> str:
    module = type(error).__module__
    if isinstance(error, grpc.aio.AioRpcError):
        code = error.code()
        # Only UNAVAILABLE has gRPC's own text; other statuses have a handler's.
        return f"{code.name}: {error.details()}" if code is grpc.StatusCode.UNAVAILABLE else code.name
    if module.startswith("psycopg"):
        # PostgreSQL quotes the offending values in its text, but not in these.
        return _named(error, "sqlstate") + _named(getattr(error, "diag", None), "table_name", "constraint_name")
    if module.startswith("pydantic"):
        problems: Callable[..., list[dict[str, Any]]] | None = getattr(error, "errors", None)
        found = problems(include_input=False, include_url=False) if problems else []
        return "; ".join(f"{'.'.join(map(str, item['loc']))}: {item['type']}" for item in found)
    if isinstance(error, UnicodeError):
        return ""
    if isinstance(error, _QUIET_ERRORS) or f"{module}.".startswith((*_OWN, *_QUIET_LIBRARIES)):
        return str(error)
    return ""


def _named(holder: object, *names: str) -> str:
    return "".join(f"{name}={value} " for name in names if (value := getattr(holder, name, None)))


def _short(path: str) -> str:
    _, packages, rest = path.rpartition("site-packages/")
    return rest if packages else path.removeprefix(f"{_ROOT}/")
