"""Texts for changes of a session, for clients that do not support this kind of content."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from services.session.domain import SessionState

# Chinese and English for the state a session has reached.
_REACHED: Final[Mapping[SessionState, tuple[str, str]]] = {
    SessionState.BOT: ("智能客服为您服务", "The assistant answers"),
    SessionState.WAITING: ("正在等待人工客服", "Waiting for a person"),
    SessionState.ASSIGNED: ("正在联系人工客服", "Contacting a person"),
    SessionState.ACTIVE: ("人工客服已接入", "A person has joined"),
    SessionState.WARNING: (
        "您还在吗？若不再回复，会话将自动结束",
        "Are you still there? Without an answer the chat will end by itself",
    ),
    SessionState.ENDED: ("会话已结束", "The chat has ended"),
}


# The session waits again because its agent's connection was lost.
_LOST: Final = ("客服的连接断开了，同事会马上接手", "Your agent lost the connection; a colleague takes over")


def fallback(reached: SessionState, locale: str, *, lost: bool = False) -> str:
    """Return the words for the state that a session has reached; `lost`: because its agent's connection was.

    Chinese when the session's locale is Chinese or empty, English otherwise.
    """
    chinese, english = _LOST if lost else _REACHED[reached]
    language = locale.replace("_", "-").partition("-")[0].lower()
    return chinese if language in ("", "zh") else english
