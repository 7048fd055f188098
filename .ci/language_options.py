"""Writes into each contract what its package is called in other languages. They follow from its name and its folder.

python .ci/language_options.py FOLDER
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

_OPTION = re.compile(
    r"^option (?:csharp_namespace|go_package|java_\w+|php_\w+|ruby_package) = .*;\n", flags=re.MULTILINE
)


def main() -> int:
    """Bring every contract below the folder up to date."""
    for path in sorted(Path(sys.argv[1]).rglob("*.proto")):
        text = path.read_text(encoding="utf-8")
        if (named := with_names(text, path.stem)) != text:
            path.write_text(named, encoding="utf-8")
    return 0


def with_names(text: str, stem: str) -> str:
    """Return a contract with these options, and only these, behind its imports."""
    found = re.search(r"^package octopus\.(\w+)\.(\w+);\n", text, flags=re.MULTILINE)
    if found is None:
        return text
    service, version = found.groups()
    names = (service.capitalize(), version.upper())
    outer = "".join(word.capitalize() for word in stem.split("_"))
    options = {
        "csharp_namespace": _quoted(".".join(("Octopus", *names))),
        "go_package": _quoted(f"octopus/contracts/octopus/{service}/{version};{service}{version}"),
        "java_multiple_files": "true",
        "java_outer_classname": _quoted(f"{outer}Proto"),
        "java_package": _quoted(f"com.octopus.{service}.{version}"),
        "php_metadata_namespace": _quoted(r"\\".join(("Octopus", *names, "GPBMetadata"))),
        "php_namespace": _quoted(r"\\".join(("Octopus", *names))),
        "ruby_package": _quoted("::".join(("Octopus", *names))),
    }
    block = "".join(f"option {name} = {value};\n" for name, value in options.items())
    if block in text:
        return text
    text = re.sub(r"\n{3,}", "\n\n", _OPTION.sub("", text))
    *_, last = re.finditer(r"^(?:package|import) .*;\n", text, flags=re.MULTILINE)
    return f"{text[: last.end()]}\n{block}{text[last.end() :]}"


def _quoted(value: str) -> str:
    return f'"{value}"'


if __name__ == "__main__":
    sys.exit(main())
