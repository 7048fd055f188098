// The canned replies that fit a shortcut, over the reply that is being written.

import { useEffect, useRef } from "preact/hooks";

import { clip } from "@octopus/core/text";
import type { Entry } from "./canned";
import { words } from "./words";

const LONGEST = 120;

/** The id of an entry's option, for `aria-activedescendant`. */
export function optionId(entry: Entry): string {
  return `canned-${entry.id}`;
}

interface CannedListProps {
  entries: readonly Entry[];
  chosen: number;
  onChoose: (entry: Entry) => void;
}

/** The list; the keys that move in it go to the field, which keeps the focus. */
export function CannedList({ entries, chosen, onChoose }: CannedListProps) {
  const list = useRef<HTMLUListElement>(null);
  useEffect(() => list.current?.children[chosen]?.scrollIntoView({ block: "nearest" }), [chosen]);
  return (
    <ul ref={list} class="canned-list" role="listbox" id="canned-list" aria-label={words.value.canned.title} data-testid="canned-list">
      {entries.map((entry, place) => (
        <li
          key={entry.id.toString()}
          id={optionId(entry)}
          role="option"
          aria-selected={place === chosen}
          // The field must not lose the focus before the choice is made.
          onMouseDown={(event) => event.preventDefault()}
          onClick={() => onChoose(entry)}
          data-testid="canned-option"
        >
          <span class="canned-top">
            <b>/{entry.shortcut}</b>
            {entry.category !== "" && <span class="soft">{entry.category}</span>}
            <span class="soft">{entry.shared ? words.value.canned.shared : words.value.canned.own}</span>
          </span>
          <span class="canned-text" dir="auto">{clip(entry.text, LONGEST)}</span>
        </li>
      ))}
    </ul>
  );
}
