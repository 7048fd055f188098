import pytest

from edge.bridge.config import BridgeConfig

pytestmark = pytest.mark.unit


def test_a_half_open_websocket_is_noticed_within_45_seconds() -> None:
    fields = BridgeConfig.model_fields
    assert 3 * fields["ping_interval_s"].default < 45
