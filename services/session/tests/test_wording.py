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


def test_a_customer_whose_agent_lost_the_connection_is_told_so() -> None:
    for locale in ("zh", "en"):
        assert wording.fallback(SessionState.WAITING, locale, lost=True) != wording.fallback(
            SessionState.WAITING, locale
        )


@pytest.mark.parametrize("state", list(SessionState))
def test_every_state_has_words(state: SessionState) -> None:
    assert wording.fallback(state, "en") != wording.fallback(state, "zh")
