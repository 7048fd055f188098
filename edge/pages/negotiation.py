"""Which encoding of a file a client gets: RFC 9110, section 12.5.3."""

from __future__ import annotations

from collections.abc import Mapping

IDENTITY = "identity"


def preferred(accept: str | None, sizes: Mapping[str, int]) -> str:
    """Return the content coding to send, one of `sizes`, which also holds `identity`.

    The client's weights decide; among equals the smallest one wins. Without the header, or when nothing that exists is
    acceptable, the file is sent as it is: every client can read that.
    """
    if accept is None:
        return IDENTITY
    weights = _weights(accept)
    others = weights.get("*", 0.0)
    # What is not named may be sent only as it is, unless `*` says otherwise.
    known = {coding: weights.get(coding, others) for coding in sizes}
    if IDENTITY not in weights and "*" not in weights:
        known[IDENTITY] = min((weight for weight in known.values() if weight > 0), default=1.0)
    acceptable = [coding for coding, weight in known.items() if weight > 0]
    return min(acceptable, key=lambda coding: (-known[coding], sizes[coding]), default=IDENTITY)


def _weights(accept: str) -> dict[str, float]:
    weights: dict[str, float] = {}
    for part in accept.lower().split(","):
        coding, *parameters = (item.strip() for item in part.split(";"))
        if coding:
            # The older name of gzip.
            weights["gzip" if coding == "x-gzip" else coding] = _weight(parameters)
    return weights


def _weight(parameters: list[str]) -> float:
    for parameter in parameters:
        name, _, value = parameter.partition("=")
        if name.strip() == "q":
            try:
                return min(1.0, max(0.0, float(value)))
            except ValueError:
                return 0.0
    return 1.0
