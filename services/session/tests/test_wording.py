import pytest

from services.session import wording
from services.session.domain import SessionState

pytestmark = pytest.mark.unit


@pytest.mark.parametrize(
    ("locale", "says"),
    [
        ("zh-CN", "会话已结束"),
        ("zh_TW", "会话已结束"),
        ("ZH", "会话已结束"),
        ("", "会话已结束"),
        ("en-US", "The chat has ended"),
        ("fr", "The chat has ended"),
    ],
)
def test_a_change_is_worded_in_the_sessions_language(locale: str, says: str) -> None:
    assert wording.fallback(SessionState.ENDED, locale) == says


@pytest.mark.parametrize("state", list(SessionState))
def test_every_state_has_words(state: SessionState) -> None:
    assert wording.fallback(state, "en") != wording.fallback(state, "zh")
