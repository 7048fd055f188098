"""Complete a traffic split of which an operator gave only some versions."""

from __future__ import annotations

from collections.abc import Collection, Mapping


class SplitError(ValueError):
    """An impossible split; the text says why and what to do."""


def complete(percent: Mapping[str, int], running: Collection[str]) -> dict[str, int]:
    """Return the whole split: the given shares, and the rest evenly among the other running versions.

    Raise SplitError when the percentages exceed 100, name a version without running instances, or leave a rest without
    a version.
    """
    total = sum(percent.values())
    if total > 100:
        raise SplitError(f"the percentages add up to {total}; they may be at most 100 together")
    if not running:
        raise SplitError("no instance of this service runs; `octopus mesh status` lists what does")
    if unknown := sorted(set(percent) - set(running)):
        raise SplitError(
            f"no instance of {', '.join(unknown)} runs; running versions are: {', '.join(sorted(running))}"
        )
    others = sorted(set(running) - set(percent))
    if not others and total < 100:
        raise SplitError(
            f"{100 - total} % are not assigned: no other version runs, so the percentages must add up to 100"
        )
    share, more = divmod(100 - total, len(others)) if others else (0, 0)
    # The remainder of the division goes to the first ones, a percent each.
    return {**percent, **{version: share + (index < more) for index, version in enumerate(others)}}
