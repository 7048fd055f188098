import assert from "node:assert/strict";
import { test } from "node:test";

import { fill, find, shortcutAt } from "../src/cannedsearch.ts";

const reply = (id: number, shortcut: string, category = "", text = "") => ({ id: BigInt(id), shortcut, category, text });
const shortcuts = (replies: readonly { shortcut: string }[]) => replies.map(({ shortcut }) => shortcut);

test("a shortcut begins with a slash at the start or after a blank", () => {
  assert.deepEqual(shortcutAt("/"), { from: 0, typed: "" });
  assert.deepEqual(shortcutAt("您好 /fa"), { from: 3, typed: "fa" });
  assert.deepEqual(shortcutAt("一行\n/发货"), { from: 3, typed: "发货" });
  assert.deepEqual(shortcutAt("、发"), { from: 0, typed: "发" });
  for (const text of ["", "您好", "1/2", "https://a", "/fa huo", "苹果、梨"]) assert.equal(shortcutAt(text), undefined, text);
});

test("what fits better comes first, then what was used more often", () => {
  const replies = [
    reply(1, "ship", "物流"),
    reply(2, "reship"),
    reply(3, "hello", "ship"),
    reply(4, "bye", "", "We SHIP today"),
    reply(5, "shipping"),
    reply(6, "other"),
  ];
  assert.deepEqual(shortcuts(find(replies, "Ship", new Map())), ["ship", "shipping", "reship", "hello", "bye"]);
  assert.deepEqual(shortcuts(find(replies, "ship", new Map([["5", 2]]))).slice(0, 2), ["shipping", "ship"]);
  assert.equal(find(replies, "", new Map()).length, replies.length);
  assert.deepEqual(find(replies, "nothing", new Map()), []);
});

test("variables are filled in, and leave no blank when there is no name", () => {
  const names = { customer: "林小青", agent: "小林", shop: "青衫" };
  assert.equal(fill("您好 {{customer.name}}，我是{{ shop.name }}的{{agent.name}}", names), "您好 林小青，我是青衫的小林");
  assert.equal(fill("Hello {{customer.name}}, {{agent.name}} here", { ...names, customer: "" }), "Hello, 小林 here");
  assert.equal(fill("{{other}} {x}", names), "{{other}} {x}");
  // A name is no pattern of a replacement.
  assert.equal(fill("{{customer.name}}", { ...names, customer: "$& $1" }), "$& $1");
});
