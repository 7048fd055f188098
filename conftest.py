"""Rules for every test: each module says what kind it is, and the quick kinds run first."""

import pytest

# Fixtures with the real components; see mesh/testing.
pytest_plugins = ("mesh.testing.plugin",)

KINDS = ("unit", "store", "service", "e2e")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Fails the collection when a module has not exactly one kind, and sorts the tests by kind."""
    kind_of = {module: kinds(module) for module in {item.getparent(pytest.Module) for item in items} if module}
    wrong = sorted(module.nodeid for module, found in kind_of.items() if len(found) != 1)
    if wrong:
        raise pytest.UsageError(
            "These test modules do not say what kind they are. Give each exactly one line such as "
            f"`pytestmark = pytest.mark.unit`, with one of {', '.join(KINDS)}: {', '.join(wrong)}"
        )
    for item in items:
        if item.get_closest_marker("e2e"):
            # The first of them waits for the whole platform to start, on a machine that may be busy.
            item.add_marker(pytest.mark.timeout(300))
    items.sort(key=lambda item: KINDS.index(kind_of[module][0]) if (module := item.getparent(pytest.Module)) else 0)


def kinds(module: pytest.Module) -> list[str]:
    """Return the kinds that a module declares by its `pytestmark`."""
    return [mark.name for mark in module.own_markers if mark.name in KINDS]
