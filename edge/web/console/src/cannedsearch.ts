// Which canned replies are meant by what an agent types, and what is inserted.

/** What is sought in a canned reply. */
export interface Sought {
  id: bigint;
  shortcut: string;
  category: string;
  text: string;
}

/** What the variables of canned replies stand for; empty for what has no name. */
export interface Names {
  customer: string;
  agent: string;
  shop: string;
}

// The start of a line or a blank, then the sign. Chinese input methods write "、" for the key of "/".
const TRIGGER = /(?:^|\s)([/、][^\s/、]*)$/u;
const VARIABLE = /\{\{\s*(customer|agent|shop)\.name\s*\}\}/g;

/** Where a shortcut that is being typed begins in a text that ends at the caret, and what was typed of it. */
export function shortcutAt(beforeCaret: string): { from: number; typed: string } | undefined {
  const found = TRIGGER.exec(beforeCaret)?.[1];
  return found === undefined ? undefined : { from: beforeCaret.length - found.length, typed: found.slice(1) };
}

/**
 * The canned replies that fit what was typed, best first: by how they fit (shortcut begins so, contains it, category,
 * text), then by how often they were used.
 */
export function find<T extends Sought>(replies: readonly T[], typed: string, uses: ReadonlyMap<string, number>): T[] {
  const wanted = typed.trim().toLowerCase();
  return replies
    .map((reply) => ({ reply, fit: fitOf(reply, wanted), used: uses.get(`${reply.id}`) ?? 0 }))
    .filter(({ fit }) => fit < NO_FIT)
    .sort((one, other) => one.fit - other.fit || other.used - one.used || compare(one.reply, other.reply))
    .map(({ reply }) => reply);
}

/** The text that is inserted. A variable without a value leaves nothing, nor the blanks before it. */
export function fill(text: string, names: Names): string {
  return text.replace(/[ \t]*\{\{\s*(?:customer|agent|shop)\.name\s*\}\}/g, (whole) =>
    whole.replace(VARIABLE, (_, who: keyof Names) => names[who]).replace(/^[ \t]+$/, ""),
  );
}

const NO_FIT = 4;

function fitOf({ shortcut, category, text }: Sought, wanted: string): number {
  if (shortcut.toLowerCase().startsWith(wanted)) return 0;
  if (shortcut.toLowerCase().includes(wanted)) return 1;
  if (category.toLowerCase().includes(wanted)) return 2;
  return text.toLowerCase().includes(wanted) ? 3 : NO_FIT;
}

function compare(one: Sought, other: Sought): number {
  return one.shortcut < other.shortcut ? -1 : one.shortcut > other.shortcut ? 1 : 0;
}
