import assert from "node:assert/strict";
import { test } from "node:test";

import { pieces } from "../src/links.ts";

/** The links of a text, and everything else as it stands. */
function taken(text: string): string[] {
  const found = pieces(text);
  assert.equal(found.map((piece) => ("link" in piece ? piece.link : piece.text)).join(""), text);
  return found.flatMap((piece) => ("link" in piece ? [piece.link] : []));
}

test("the end of a sentence is not part of a link", () => {
  for (const end of [".", ",", "!", "?", ";", ":", "...", "?!", "。", "，", "！", "？", "；", "：", "、", "…", "~", "'", '"']) {
    assert.deepEqual(taken(`see https://a.example/b${end}`), ["https://a.example/b"], end);
    assert.deepEqual(taken(`see https://a.example/b${end} and more`), ["https://a.example/b"], end);
  }
});

test("a bracket that was opened before a link closes after it", () => {
  for (const [open, close] of ["()", "[]", "{}", "（）", "「」", "【】", "《》", "“”", "‘’", "『』", "<>", "［］"]) {
    assert.deepEqual(taken(`x ${open}https://a.example/b${close}.`), ["https://a.example/b"], open! + close!);
    assert.deepEqual(taken(`x ${open}https://a.example/b.${close}`), ["https://a.example/b"], open! + close!);
  }
});

test("brackets that a link opens itself stay", () => {
  assert.deepEqual(taken("https://en.example/wiki/Octopus_(animal)"), ["https://en.example/wiki/Octopus_(animal)"]);
  assert.deepEqual(taken("(https://en.example/wiki/Octopus_(animal))."), ["https://en.example/wiki/Octopus_(animal)"]);
  assert.deepEqual(taken("https://a.example/?q[0]=1"), ["https://a.example/?q[0]=1"]);
  assert.deepEqual(taken("https://a.example/(x)?y=(z)!"), ["https://a.example/(x)?y=(z)"]);
});

test("punctuation within a link stays", () => {
  assert.deepEqual(taken("https://a.example/b.html?x=1,2&y=3;z#top. Then"), ["https://a.example/b.html?x=1,2&y=3;z#top"]);
  assert.deepEqual(taken("https://a.example/it's/here/"), ["https://a.example/it's/here/"]);
  assert.deepEqual(taken("看HTTPS://A.example/中文。谢谢"), ["HTTPS://A.example/中文"]);
});

test("what is no address is text", () => {
  for (const text of ["https://", "https://.", "https://)", "http:// a", "ftp://a.example", "javascript:alert(1)", "a.example"]) {
    assert.deepEqual(taken(text), [], text);
  }
});

test("several links in one text", () => {
  assert.deepEqual(taken("https://a.example、https://b.example/），https://c.example."), [
    "https://a.example",
    "https://b.example/",
    "https://c.example",
  ]);
});
