"""Requests to JetStream's API.

nats-py's own requests are not used: on Python 3.11 its `asyncio.wait_for` may swallow a cancellation that arrives
together with the answer, and a task that is cancelled once would never end.
"""

from typing import Any

import orjson

from mesh.bus.errors import NotStored, Rejected, Unavailable
from mesh.bus.replies import Replies, Reply

TIMEOUT_S = 5.0


async def call(replies: Replies, operation: str, request: dict[str, Any] | None = None) -> dict[str, Any]:
    """Call `$JS.API.<operation>` and return its answer.

    Raise NotStored for 404, Unavailable when JetStream does not answer, Rejected when it refuses the request.
    """
    payload = b"" if request is None else orjson.dumps(request)
    try:
        reply = await replies.request(f"$JS.API.{operation}", payload, None, TIMEOUT_S)
    except TimeoutError as error:
        raise Unavailable(f"JetStream did not answer {operation} within {TIMEOUT_S} s") from error
    if reply.status:
        raise refusal(operation, reply)
    answer: dict[str, Any] = orjson.loads(reply.data)
    problem = answer.get("error")
    if problem is None:
        return answer
    description = f"{operation}: {problem.get('description')} ({problem.get('err_code')})"
    if problem.get("code") == 404:
        raise NotStored(description)
    if problem.get("code", 0) >= 500:
        raise Unavailable(description)
    raise Rejected(description)


def refusal(what: str, reply: Reply) -> NotStored | Unavailable | Rejected:
    """Return the error that a notice represents."""
    description = f"{what}: {reply.status} {reply.headers.get('Description', '')}".rstrip()
    if reply.status == "404":
        return NotStored(description)
    if reply.status == "503":
        return Unavailable(f"{description} (the stream is missing or NATS is starting)")
    return Rejected(description)
