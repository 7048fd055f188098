import assert from "node:assert/strict";
import { test } from "node:test";

import { longestFirst, type Said, unansweredSince, urgencyOf } from "../src/unanswered.ts";

const TAKEN = { handoffAt: 100, acceptedAt: 150 };
const customer = (at: number): Said => ({ by: "customer", at });
const agent = (at: number): Said => ({ by: "agent", at });
const bot = (at: number): Said => ({ by: "other", at });

test("before the first answer a customer waits since a person was asked for", () => {
  assert.equal(unansweredSince(TAKEN, []), 100);
  assert.equal(unansweredSince(TAKEN, [customer(10), bot(20), customer(160), customer(170)]), 100);
  assert.equal(unansweredSince({ handoffAt: undefined, acceptedAt: 150 }, []), 150);
});

test("after an answer a customer waits since the first word that followed it", () => {
  assert.equal(unansweredSince(TAKEN, [customer(10), agent(200)]), undefined);
  assert.equal(unansweredSince(TAKEN, [agent(200), customer(300), customer(400)]), 300);
  assert.equal(unansweredSince(TAKEN, [agent(200), customer(300), agent(350), customer(400)]), 400);
});

test("neither the bot nor the system answers", () => {
  assert.equal(unansweredSince(TAKEN, [agent(200), customer(300), bot(310)]), 300);
  assert.equal(unansweredSince(TAKEN, [agent(200), bot(310)]), undefined);
});

test("an answer is due after 30 seconds, and late after 3 minutes", () => {
  assert.deepEqual([0, 29_999, 30_000, 179_999, 180_000].map(urgencyOf), ["calm", "calm", "soon", "soon", "late"]);
});

test("who has waited longest is first, and of those who do not wait the last heard", () => {
  const chats = [
    { since: undefined, lastAt: 10 },
    { since: 300, lastAt: 400 },
    { since: undefined, lastAt: 20 },
    { since: 200, lastAt: 900 },
  ];
  assert.deepEqual([...chats].sort(longestFirst), [chats[3], chats[1], chats[2], chats[0]]);
});
