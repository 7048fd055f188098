"""What every request from outside passes before it is routed."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable
from typing import Final

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from envoy_data_plane.envoy.config.common.mutation_rules import v3 as mutation_rules
from envoy_data_plane.envoy.config.core import v3 as core
from envoy_data_plane.envoy.config.route import v3 as routes
from envoy_data_plane.envoy.extensions.filters.http.cors import v3 as cors
from envoy_data_plane.envoy.extensions.filters.http.grpc_web import v3 as grpc_web
from envoy_data_plane.envoy.extensions.filters.http.jwt_authn import v3 as jwt
from envoy_data_plane.envoy.extensions.filters.http.router import v3 as router
from envoy_data_plane.envoy.extensions.filters.network.http_connection_manager import v3 as hcm
from envoy_data_plane.envoy.extensions.http.early_header_mutation.header_mutation import v3 as early
from envoy_data_plane.envoy.type.matcher import v3 as matcher

from edge.envoy.routes import CORS_FILTER, at_edge
from mesh.control.contract import Method
from mesh.control.resources import AFFINITY_HEADER, ads, pack

TOKENS: Final = "octopus.tokens"

_ISSUER: Final = "octopus"
_CLOCK_SKEW_SECONDS: Final = 5

# Only the mesh says these: who calls and for which shop, how often a call was tried, and where a client is.
_OWN_PREFIXES: Final = ("octopus-", "x-envoy-", "grpc-previous-rpc-")
_FORWARDED: Final = "x-forwarded-"
_OWN_HEADERS: Final = ("forwarded", "x-real-ip", "x-request-id", "grpc-trace-bin", "grpc-tags-bin")


def wash(*, trusted_proxies: int = 0) -> core.TypedExtensionConfig:
    """Remove headers that a client must not set, before any filter sees them.

    With trusted proxies before Envoy, `x-forwarded-for` stays until the client's address was read from it.
    """
    removed = [mutation_rules.HeaderMutation(remove=name) for name in _OWN_HEADERS]
    removed += [
        mutation_rules.HeaderMutation(
            remove_on_match=mutation_rules.HeaderMutationRemoveOnMatch(
                key_matcher=matcher.StringMatcher(prefix=prefix, ignore_case=True)
            )
        )
        for prefix in (*_OWN_PREFIXES, *(() if trusted_proxies else (_FORWARDED,)))
    ]
    mutations = early.HeaderMutation(mutations=removed)
    return core.TypedExtensionConfig(
        name="envoy.http.early_header_mutation.header_mutation", typed_config=pack(mutations)
    )


def chain(limiter: hcm.HttpFilter, tokens: hcm.HttpFilter) -> list[hcm.HttpFilter]:
    """Return the filters in the order requests pass them; `tokens` is the one that checks access tokens."""
    return [
        hcm.HttpFilter(name=CORS_FILTER, typed_config=pack(cors.Cors())),
        # Before gRPC-Web is translated: the translation would put UNAVAILABLE in the place of a refusal's status.
        limiter,
        hcm.HttpFilter(name="envoy.filters.http.grpc_web", typed_config=pack(grpc_web.GrpcWeb())),
        tokens,
        hcm.HttpFilter(name="envoy.filters.http.router", typed_config=pack(router.Router())),
    ]


def tokens_by_discovery() -> hcm.HttpFilter:
    """Return the token filter as a resource of its own.

    New keys then reach Envoy without a new listener, which would end all connections.
    """
    return hcm.HttpFilter(
        name=TOKENS,
        config_discovery=core.ExtensionConfigSource(
            config_source=ads(),
            type_urls=["type.googleapis.com/envoy.extensions.filters.http.jwt_authn.v3.JwtAuthentication"],
        ),
    )


def tokens_inline(jwks: str | None, methods: Iterable[Method]) -> hcm.HttpFilter:
    """Return the token filter within the listener, for configuration that stands in one file."""
    return hcm.HttpFilter(name=TOKENS, typed_config=pack(token_check(jwks, methods)))


def token_check(jwks: str | None, methods: Iterable[Method]) -> jwt.JwtAuthentication:
    """Demand a good access token for every method but those for anyone, and names its user to the services.

    Services check the token again, and everything it allows; the edge rejects forged ones and identifies the caller.
    """
    provider = jwt.JwtProvider(
        issuer=_ISSUER,
        audiences=[_ISSUER],
        require_expiration=True,
        clock_skew_seconds=_CLOCK_SKEW_SECONDS,
        local_jwks=core.DataSource(inline_string=jwks or _NOBODYS_KEYS),
        from_headers=[jwt.JwtHeader(name="authorization", value_prefix="Bearer ")],
        forward=True,
        claim_to_headers=[jwt.JwtClaimToHeader(header_name=AFFINITY_HEADER, claim_name="sub")],
        # The version of a service is chosen by the user too, so it can only be chosen when the user is known.
        clear_route_cache=True,
        jwt_cache_config=jwt.JwtCacheConfig(jwt_cache_size=1000),
    )
    rules = [
        jwt.RequirementRule(
            match=routes.RouteMatch(path=method.path), requires=jwt.JwtRequirement(provider_name=_ISSUER)
        )
        for method in at_edge(methods)
        if not method.anyone
    ]
    return jwt.JwtAuthentication(providers={_ISSUER: provider}, rules=rules, bypass_cors_preflight=True)


def _nobodys_keys() -> str:
    """Return a key set that no token fits, for the time before the first keys are published: Envoy demands one."""
    public = Ed25519PrivateKey.generate().public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
    x = base64.urlsafe_b64encode(public).rstrip(b"=").decode()
    return json.dumps({"keys": [{"kty": "OKP", "crv": "Ed25519", "alg": "EdDSA", "kid": "nobody", "x": x}]})


# The private half is forgotten at once. Made once, so that the configuration does not change by itself.
_NOBODYS_KEYS: Final = _nobodys_keys()
