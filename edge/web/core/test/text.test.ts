import assert from "node:assert/strict";
import { test } from "node:test";

import { clip, initial, isolate } from "../src/text.ts";

// Each is one character to its reader: a family, a flag, a skin tone, a keycap, an accent of its own, Devanagari.
const CHARACTERS = ["👩‍👩‍👧‍👦", "🇨🇳", "👍🏽", "1️⃣", "e\u0301", "क्षि", "好", "a"];

test("a text is cut between characters", () => {
  for (const character of CHARACTERS) {
    assert.equal(clip(character.repeat(5), 3), `${character.repeat(3)}…`);
    assert.equal(clip(character.repeat(3), 3), character.repeat(3));
    assert.equal(clip(`ab${character}`, 2), "ab…");
  }
  assert.equal(clip("", 3), "");
  assert.equal(clip("ab cd", 3), "ab…");
});

test("the first character of a name is whole", () => {
  for (const character of CHARACTERS) assert.equal(initial(`${character}小明`), character);
  assert.equal(initial(""), "");
  assert.equal(initial("  王"), "王");
});

test("a name from right to left does not turn its sentence", () => {
  assert.equal(isolate("דנה"), "\u2068דנה\u2069");
  assert.equal(isolate("ليلى 2"), "\u2068ليلى 2\u2069");
  assert.equal(isolate("王小明"), "王小明");
});
