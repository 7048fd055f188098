"""Checks settings of a program without starting it: `python -m mesh.process.check PACKAGE`, values as JSON on stdin.

For `octopus up --set`, which may not import a service. Prints what is wrong, a line for each value, and ends with 2.
"""

from __future__ import annotations

import importlib
import importlib.util
import json
import sys
from collections.abc import Iterator, Mapping
from difflib import get_close_matches
from typing import Any, Final

from pydantic import ValidationError

from mesh.process.config import ServiceConfig

# The platform gives each copy its own.
_GIVEN: Final = frozenset({"name", "instance", "version", "identity"})

_BOUNDS: Final = {
    "minimum": "at least {}",
    "exclusiveMinimum": "more than {}",
    "maximum": "at most {}",
    "exclusiveMaximum": "less than {}",
    "pattern": "of the form {}",
    "minLength": "of at least {} characters",
    "maxLength": "of at most {} characters",
}


def problems(settings: type[ServiceConfig], values: Mapping[str, object]) -> Iterator[str]:
    """Yield what is wrong with some of a program's settings: the key, the value, and what is allowed."""
    known = settings.model_json_schema(mode="validation")["properties"].keys() - _GIVEN
    wrong: dict[str, str] = {}
    for key in values:
        if key in _GIVEN:
            wrong[key] = f"{key}: the platform sets it for each copy; leave it out"
        elif key not in known:
            near = get_close_matches(key, known, 1)
            wrong[key] = f"{key}: there is no such setting" + (
                f"; did you mean {near[0]}?" if near else f"; there are {', '.join(sorted(known))}"
            )
    try:
        settings.model_validate({key: value for key, value in values.items() if key not in wrong})
    except ValidationError as error:
        for item in error.errors():
            key = str(item["loc"][0]) if item["loc"] else ""
            # The platform adds what else is needed.
            if item["type"] != "missing" and key in values and key not in wrong:
                wrong[key] = (
                    f"{key}: {json.dumps(values[key], ensure_ascii=False, default=str)} cannot be used; "
                    f"allowed: {allowed(settings, key)}"
                )
    yield from wrong.values()


def allowed(settings: type[ServiceConfig], key: str) -> str:
    """Return what may stand in a setting, in words: `a number, more than 0, at most 60 (usually 5)`."""
    schema = settings.model_json_schema(mode="validation")
    field: dict[str, Any] = schema["properties"][key]
    kinds = [each for each in field.get("anyOf", [field]) if each.get("type") != "null"]
    words = " or ".join(_kind(kind, schema) for kind in kinds)
    default = field.get("default")
    return words + (f" (usually {json.dumps(default, ensure_ascii=False)})" if default is not None else "")


def _kind(kind: Mapping[str, Any], schema: Mapping[str, Any]) -> str:
    if reference := kind.get("$ref"):
        return _kind(schema["$defs"][reference.rpartition("/")[2]], schema)
    if choices := kind.get("enum"):
        return "one of " + ", ".join(map(str, choices))
    name = {
        "integer": "a whole number",
        "number": "a number",
        "boolean": "true or false",
        "string": "a path" if kind.get("format") == "path" else "a text",
        "array": "a list",
        "object": "a table",
    }.get(str(kind.get("type")), "a value")
    return ", ".join([name, *(words.format(kind[bound]) for bound, words in _BOUNDS.items() if bound in kind)])


def settings_of(package: str) -> type[ServiceConfig]:
    """Return the settings class of a program: the one that its `config` module defines, or what every program has."""
    if importlib.util.find_spec(f"{package}.config") is None:
        return ServiceConfig
    module = importlib.import_module(f"{package}.config")
    (found,) = (
        each
        for each in vars(module).values()
        if isinstance(each, type) and issubclass(each, ServiceConfig) and each.__module__ == module.__name__
    )
    return found


def main() -> int:
    """Check what stands on stdin; return the exit code."""
    found = list(problems(settings_of(sys.argv[1]), json.load(sys.stdin)))
    for line in found:
        print(line)
    return 2 if found else 0


if __name__ == "__main__":
    sys.exit(main())
