"""What a refusal must be: it names a reason, and contains no message text and no internals."""

from __future__ import annotations

import asyncio
import random
import secrets
from typing import Any

import grpc
import pytest
from google.rpc import error_details_pb2, status_pb2
from grpc_status import rpc_status

from mesh.errors import DOMAIN

# Seconds until something that must come has come.
WITHIN_S = 10.0

# What the tests said that no log may hold: words, telephone numbers, tokens.
said: set[str] = set()


def words() -> str:
    """Something private, never said before."""
    secret, phone = f"私语{secrets.token_hex(6)}", f"139{random.randrange(10**8):08}"
    said.update((secret, phone))
    return f"{secret}，电话 {phone}"


def private(token: str) -> str:
    """A token, remembered: no log may hold it."""
    said.add(token)
    return token


def checked(status: status_pb2.Status | None, code: grpc.StatusCode, text: str) -> str:
    """Return the reason's name, after looking at what else the caller was told."""
    assert code not in (grpc.StatusCode.INTERNAL, grpc.StatusCode.UNKNOWN, grpc.StatusCode.OK), (code, text)
    discreet(text)
    assert status is not None, f"{code.name} without details: {text}"
    infos = [detail for detail in status.details if detail.Is(error_details_pb2.ErrorInfo.DESCRIPTOR)]
    assert len(infos) == 1
    info = error_details_pb2.ErrorInfo()
    infos[0].Unpack(info)
    assert info.domain == DOMAIN
    return str(info.reason)


def discreet(text: str) -> None:
    """A refusal's text says something, quotes nothing that was said, and shows nothing of our inside."""
    assert text
    assert not any(secret in text for secret in said), text
    assert not any(inside in text for inside in ("Traceback", ".py", "File ", "0x", "127.0.0.1"))


async def refused(call: grpc.aio.Call) -> str:
    """Return the reason's name of a call that must fail."""
    with pytest.raises(grpc.aio.AioRpcError) as error:
        await asyncio.wait_for(_result(call), WITHIN_S)
    status = rpc_status.from_call(error.value)  # type: ignore[arg-type]
    return checked(status, error.value.code(), error.value.details() or "")


async def _result(call: Any) -> None:
    if isinstance(call, grpc.aio.StreamStreamCall | grpc.aio.UnaryStreamCall):
        async for _ in call:
            pass
    else:
        await call
