// The canned replies an agent may insert: the shop's and their own. All are here, so that a list shows at once.

import { signal } from "@preact/signals";
import {
  type CannedReply,
  type CannedReplyContent,
  CannedReplyScope,
} from "@octopus/contracts/octopus/knowledge/v1/canned_reply_pb";
import type { Session } from "@octopus/contracts/octopus/session/v1/session_pb";

import type { cannedApi } from "@octopus/core/canned";
import { lasting } from "@octopus/core/storage";
import { fill, find, type Names, type Sought } from "./cannedsearch";

const PAGE = 200;
// Older than this, the list is read again when it is looked at.
const FRESH_MS = 60_000;
// Counts of uses that are kept.
const MOST_USES = 200;

/** A canned reply as it is sought and shown. */
export interface Entry extends Sought {
  version: bigint;
  shared: boolean;
}

/** What is written in the form of a canned reply. */
export type Draft = Pick<CannedReplyContent, "shortcut" | "category" | "text">;

/** The canned replies of one agent. */
export class CannedReplies {
  readonly all = signal<readonly Entry[]>([]);
  /** Whether the agent may change what the shop shares. */
  readonly mayShare = signal(false);
  private readonly uses: Map<string, number>;
  private readonly usesKey: string;
  private readAt = 0;

  constructor(
    private readonly api: ReturnType<typeof cannedApi>,
    userId: bigint,
    private readonly namesOf: (session: Session) => Names,
  ) {
    this.usesKey = `octopus:canned-uses:${userId}`;
    this.uses = new Map(JSON.parse(lasting.get(this.usesKey) ?? "[]") as [string, number][]);
  }

  /** Read the list when it is not fresh. Raise the failure. */
  async refresh(now = Date.now()): Promise<void> {
    if (now - this.readAt < FRESH_MS) return;
    this.readAt = now;
    try {
      const found: Entry[] = [];
      let pageToken = "";
      do {
        const page = await this.api.listCannedReplies({ pageSize: PAGE, pageToken });
        found.push(...page.cannedReplies.map(entryOf));
        pageToken = page.nextPageToken;
      } while (pageToken !== "");
      this.all.value = found;
    } catch (error) {
      this.readAt = 0;
      throw error;
    }
  }

  /** The ones that fit what was typed, best first. */
  find(typed: string): Entry[] {
    return find(this.all.value, typed, this.uses);
  }

  /** The text to insert into a session; counts as a use. */
  textFor(entry: Entry, session: Session): string {
    this.uses.set(`${entry.id}`, (this.uses.get(`${entry.id}`) ?? 0) + 1);
    const most = [...this.uses].sort(([, one], [, other]) => other - one).slice(0, MOST_USES);
    lasting.set(this.usesKey, JSON.stringify(most));
    return fill(entry.text, this.namesOf(session));
  }

  /** Add a canned reply of the agent's own, or one that the shop shares. Raise the failure. */
  async create(requestId: string, content: Draft, shared: boolean): Promise<void> {
    const scope = shared ? CannedReplyScope.SHARED : CannedReplyScope.PERSONAL;
    const { cannedReply } = await this.api.createCannedReply({ requestId, scope, content });
    if (cannedReply) this.put(entryOf(cannedReply));
  }

  /** Change one. Raise the failure. */
  async update(entry: Entry, content: Draft): Promise<void> {
    const { cannedReply } = await this.api.updateCannedReply({
      cannedReplyId: entry.id,
      version: entry.version,
      content,
    });
    if (cannedReply) this.put(entryOf(cannedReply));
  }

  /** Delete one. Raise the failure. */
  async remove(entry: Entry): Promise<void> {
    await this.api.deleteCannedReply({ cannedReplyId: entry.id });
    this.all.value = this.all.peek().filter(({ id }) => id !== entry.id);
  }

  private put(entry: Entry): void {
    this.all.value = [...this.all.peek().filter(({ id }) => id !== entry.id), entry];
  }
}

function entryOf({ id, version, scope, content }: CannedReply): Entry {
  return {
    id,
    version,
    shared: scope === CannedReplyScope.SHARED,
    shortcut: content?.shortcut ?? "",
    category: content?.category ?? "",
    text: content?.text ?? "",
  };
}
