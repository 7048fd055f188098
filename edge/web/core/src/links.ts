// Web addresses in what people write. Nothing else of a text is ever more than text.

export type Piece = { text: string } | { link: string };

// Chinese is written without spaces, so an address also ends where Chinese punctuation begins.
const CANDIDATES = /https?:\/\/[^\s<>"\u2018-\u201f\u2026\u3000-\u303f\uff01-\uff0f\uff1a-\uff20\uff3b-\uff40\uff5b-\uff65]+/gi;
// Punctuation that ends a sentence and not an address.
const TRAILING = new Set(".,;:!?'*_~|`");
const OPENING: Record<string, string> = { ")": "(", "]": "[", "}": "{" };

/** Cut a text at its web addresses. */
export function pieces(text: string): Piece[] {
  const found: Piece[] = [];
  let from = 0;
  for (const match of text.matchAll(CANDIDATES)) {
    const link = withoutTrailing(match[0]);
    if (!isAddress(link)) continue;
    if (match.index > from) found.push({ text: text.slice(from, match.index) });
    found.push({ link });
    from = match.index + link.length;
  }
  if (from < text.length) found.push({ text: text.slice(from) });
  return found;
}

/** Drop what belongs to the sentence: closing punctuation, and brackets that the address did not open itself. */
function withoutTrailing(candidate: string): string {
  let end = candidate.length;
  for (; end > 0; end--) {
    const last = candidate[end - 1]!;
    const opening = OPENING[last];
    const kept = candidate.slice(0, end);
    if (opening ? count(kept, opening) >= count(kept, last) : !TRAILING.has(last)) break;
  }
  return candidate.slice(0, end);
}

function count(text: string, character: string): number {
  return text.split(character).length - 1;
}

function isAddress(link: string): boolean {
  return URL.canParse(link) && new URL(link).hostname !== "";
}
