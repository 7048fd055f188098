import pytest

from services.chat.config import ChatConfig
from services.chat.streams import BEATS_MISSED, LOOKS_PER_BEAT

pytestmark = pytest.mark.unit


def test_a_half_open_connection_is_noticed_within_45_seconds() -> None:
    heartbeat_s = ChatConfig.model_fields["heartbeat_s"].default
    assert (BEATS_MISSED + 1 / LOOKS_PER_BEAT) * heartbeat_s < 45
