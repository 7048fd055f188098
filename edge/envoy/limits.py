"""How often one client address may call: a token bucket for each address and each limit that the contract names.

Envoy counts by itself, so the limits hold whatever else fails. Each Envoy counts alone: with two of them behind one
address, a client may call twice as often.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from datetime import timedelta
from typing import Final

from envoy_data_plane.envoy.config.core import v3 as core
from envoy_data_plane.envoy.config.listener import v3 as listeners
from envoy_data_plane.envoy.config.route import v3 as routes
from envoy_data_plane.envoy.extensions.common.ratelimit import v3 as ratelimit
from envoy_data_plane.envoy.extensions.filters.http.local_ratelimit import v3 as local
from envoy_data_plane.envoy.extensions.filters.listener.local_ratelimit import v3 as sockets
from envoy_data_plane.envoy.extensions.filters.network.http_connection_manager import v3 as hcm
from envoy_data_plane.envoy.type import v3 as envoy_type
from octopus.options.v1 import options_pb2

from edge.envoy.config import EdgeConfig
from mesh.control.resources import pack

FILTER: Final = "envoy.filters.http.local_ratelimit"

CONNECTIONS: Final = "envoy.filters.listener.local_ratelimit"

# How often a second the bucket of connections is filled: often, so that they do not come in bursts.
_CONNECTION_FILLS: Final = 10

# Who is refused may try again when the bucket has been filled a little, so many seconds later at most.
RETRY_AFTER_S: Final = 5.0

_FILLS_PER_MINUTE: Final = int(60 / RETRY_AFTER_S)

# Addresses whose buckets are remembered; the one that was quiet longest makes room. Some hundred bytes each.
_MOST_ADDRESSES: Final = 20_000

_LIMIT: Final = "limit"
_ADDRESS: Final = "masked_remote_address"

# The filter demands a bucket for calls without a limit of their own; this one never runs dry.
_UNLIMITED: Final = envoy_type.TokenBucket(
    max_tokens=2**32 - 1, tokens_per_fill=2**32 - 1, fill_interval=timedelta(seconds=1)
)
_ALL: Final = core.RuntimeFractionalPercent(
    default_value=envoy_type.FractionalPercent(
        numerator=100, denominator=envoy_type.FractionalPercentDenominatorType.HUNDRED
    )
)


def per_minute(config: EdgeConfig) -> Mapping[int, int]:
    """Return how often one address may call, by the contract's limit."""
    return {
        options_pb2.CALL_LIMIT_IDENTIFY: config.identify_per_minute,
        options_pb2.CALL_LIMIT_CREDENTIALS: config.credentials_per_minute,
        options_pb2.CALL_LIMIT_TOKEN: config.tokens_per_minute,
        options_pb2.CALL_LIMIT_STREAM: config.streams_per_minute,
    }


def limiter(config: EdgeConfig) -> hcm.HttpFilter:
    """Return the filter that counts; routes say by `limits` what they count as."""
    return hcm.HttpFilter(
        name=FILTER,
        typed_config=pack(
            local.LocalRateLimit(
                stat_prefix="limits",
                token_bucket=_UNLIMITED,
                filter_enabled=_ALL,
                filter_enforced=_ALL,
                descriptors=[_bucket(limit, number) for limit, number in per_minute(config).items()],
                max_dynamic_descriptors=_MOST_ADDRESSES,
                # gRPC clients read RESOURCE_EXHAUSTED, which a limit is, and not UNAVAILABLE.
                rate_limited_as_resource_exhausted=True,
                always_consume_default_token_bucket=False,
            )
        ),
    )


def connections(per_second: int, at_once: int) -> listeners.ListenerFilter:
    """Return the filter that closes connections beyond a rate before their TLS handshake.

    After an outage everybody connects at once. Handshakes are most of what that costs, and those who talk would wait
    behind them in Envoy's own loops, whatever those inside do.
    """
    return listeners.ListenerFilter(
        name=CONNECTIONS,
        typed_config=pack(
            sockets.LocalRateLimit(
                stat_prefix="connections",
                token_bucket=envoy_type.TokenBucket(
                    max_tokens=max(at_once, per_second),
                    tokens_per_fill=per_second // _CONNECTION_FILLS,
                    fill_interval=timedelta(seconds=1 / _CONNECTION_FILLS),
                ),
            )
        ),
    )


def limits(limit: int) -> list[routes.RateLimit]:
    """Return what calls of a route count as; nothing for CALL_LIMIT_UNSPECIFIED."""
    if limit == options_pb2.CALL_LIMIT_UNSPECIFIED:
        return []
    return [
        routes.RateLimit(
            actions=[
                routes.RateLimitAction(
                    generic_key=routes.RateLimitActionGenericKey(
                        descriptor_key=_LIMIT, descriptor_value=options_pb2.CallLimit.Name(_value(limit))
                    )
                ),
                routes.RateLimitAction(
                    masked_remote_address=routes.RateLimitActionMaskedRemoteAddress(
                        v4_prefix_mask_len=32, v6_prefix_mask_len=64
                    )
                ),
            ]
        )
    ]


def _bucket(limit: int, number: int) -> ratelimit.LocalRateLimitDescriptor:
    return ratelimit.LocalRateLimitDescriptor(
        entries=[
            ratelimit.RateLimitDescriptorEntry(key=_LIMIT, value=options_pb2.CallLimit.Name(_value(limit))),
            # Without a value: each address has a bucket of its own.
            ratelimit.RateLimitDescriptorEntry(key=_ADDRESS),
        ],
        token_bucket=envoy_type.TokenBucket(
            max_tokens=number,
            tokens_per_fill=max(1, number // _FILLS_PER_MINUTE),
            # In whole seconds, as the filter demands.
            fill_interval=timedelta(seconds=max(RETRY_AFTER_S, math.ceil(60 / number))),
        ),
    )


def _value(limit: int) -> options_pb2.CallLimit.ValueType:
    return options_pb2.CallLimit.ValueType(limit)
