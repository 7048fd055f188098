"""Is a wish for a person recognised, and nothing else taken for one? Measures on public dialogues.

    python -m services.bot.bench.intents FOLDER

Measured on 2026-11-21: 66 of 66 messages in jddc_dialogues that say 转人工, or nothing but 人工, 人工客服 or 人工服务;
77 of 81 English ones in bitext_intent_en (the other four are misspelt: "taok to an agent"), with no false alarm among
its other messages but those of contact_customer_service, which wish for the same; one alarm, and a right one, among the
4,518 messages of jddc_intent.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from services.bot.intent import Intent, understand

_BARE = frozenset({"人工", "人工客服", "人工服务"})


def _rows(path: Path) -> Iterator[dict[str, Any]]:
    with path.open(encoding="utf-8") as file:
        yield from map(json.loads, file)


def _wants_person(text: str) -> bool:
    return understand(text).intent is Intent.PERSON


def main() -> None:
    """Run the measurement."""
    parser = argparse.ArgumentParser(description="Measures how well wishes for a person are recognised.")
    parser.add_argument("folder", type=Path, help="folder of the public evaluation sets")
    folder = parser.parse_args().folder
    said = [
        turn["text"]
        for path in sorted((folder / "jddc_dialogues").glob("dev*.jsonl"))
        for row in _rows(path)
        for turn in row["turns"]
        if turn["role"] == "customer"
    ]
    wished = [text for text in said if "转人工" in text or text.strip() in _BARE]
    print(f"jddc_dialogues: {sum(map(_wants_person, wished))} of {len(wished)}")
    print(*(f"  also: {text[:60]}" for text in said if text not in wished and _wants_person(text)), sep="\n")
    bitext = list(_rows(folder / "bitext_intent_en" / "dev.jsonl"))
    wished = [row["text"] for row in bitext if row["intent"] == "contact_human_agent"]
    print(f"bitext_intent_en: {sum(map(_wants_person, wished))} of {len(wished)}")
    alarms = [row for row in bitext if not row["intent"].startswith("contact_") and _wants_person(row["text"])]
    print(*(f"  false: {row['text']}" for row in alarms), sep="\n")
    intents = list(_rows(folder / "jddc_intent" / "dev.jsonl"))
    alarms = [row for row in intents if _wants_person(row["text"])]
    print(f"jddc_intent: {len(alarms)} alarms among {len(intents)}")
    print(*(f"  {row['intent']}: {row['text']}" for row in alarms), sep="\n")


if __name__ == "__main__":
    main()
