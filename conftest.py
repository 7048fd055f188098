"""Rules for every test: each module says what kind it is, in what order they run, and which ones run side by side."""

import pytest
from xdist.scheduler import LoadScopeScheduling

# Fixtures with the real components; see mesh/testing.
pytest_plugins = ("mesh.testing.plugin",)

KINDS = ("unit", "store", "service", "e2e")
# With several workers, those of the second kind start a platform: in the middle, so that nobody waits for it at the
# end, and not while the first one starts.
KINDS_SIDE_BY_SIDE = ("unit", "e2e", "service", "store")
FROM_OUTSIDE = "e2e"


class Scheduling(LoadScopeScheduling):  # type: ignore[misc]  # xdist is not typed
    """A module at a time to a worker that is free; all that share the platform from outside to one, which begins."""

    def _split_scope(self, nodeid: str) -> str:
        path = nodeid.partition("::")[0]
        return FROM_OUTSIDE if path.startswith(f"{FROM_OUTSIDE}/") else path


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: object) -> Scheduling:
    """Hand out the tests to workers (`pytest -n 2`) in the order of `pytest_collection_modifyitems`."""
    config.option.loadscopereorder = False
    return Scheduling(config, log)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Fail the collection when a module has not exactly one kind, and sort the tests by kind.

    Quick kinds run first. With several workers, the one platform for all tests from outside starts first, for it takes
    longest.
    """
    kind_of = {module: kinds(module) for module in {item.getparent(pytest.Module) for item in items} if module}
    wrong = sorted(module.nodeid for module, found in kind_of.items() if len(found) != 1)
    if wrong:
        raise pytest.UsageError(
            "These test modules do not say what kind they are. Give each exactly one line such as "
            f"`pytestmark = pytest.mark.unit`, with one of {', '.join(KINDS)}: {', '.join(wrong)}"
        )
    side_by_side = hasattr(config, "workerinput")
    kinds_in_order = KINDS_SIDE_BY_SIDE if side_by_side else KINDS
    for item in items:
        if item.get_closest_marker("e2e"):
            # The first of them waits for the whole platform to start, on a machine that may be busy.
            item.add_marker(pytest.mark.timeout(300))

    def place(item: pytest.Item) -> tuple[bool, int]:
        module = item.getparent(pytest.Module)
        kind = kinds_in_order.index(kind_of[module][0]) if module else 0
        return not (side_by_side and item.nodeid.startswith(f"{FROM_OUTSIDE}/")), kind

    items.sort(key=place)


def kinds(module: pytest.Module) -> list[str]:
    """Return the kinds that a module declares by its `pytestmark`."""
    return [mark.name for mark in module.own_markers if mark.name in KINDS]
