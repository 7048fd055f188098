// The whole history of one session: the archive's pages before the lines that came live.

import { signal } from "@preact/signals";
import type { Message } from "@octopus/contracts/octopus/chat/v1/message_pb";

import { type PersonalApi, type Trouble, troubleOf } from "@octopus/core/api";
import { type Conversation, isOpen } from "@octopus/core/conversation";

const PAGE = 50;

/** Pages one conversation's history upwards. */
export class History {
  readonly loading = signal(false);
  readonly trouble = signal<Trouble | null>(null);
  /** True when nothing came before the first line. */
  readonly complete = signal(false);
  private opened = false;

  constructor(
    private readonly api: PersonalApi,
    private readonly conversation: Conversation,
    private readonly mine: (message: Message) => boolean,
  ) {}

  /** Load the newest page, once. */
  async open(): Promise<void> {
    if (this.opened) return;
    this.opened = true;
    // Of an open session the newest lines come live; of an ended one they may have been missed.
    await this.page(isOpen(this.conversation.session.peek()) ? this.first : 0n);
    if (this.trouble.peek()) this.opened = false;
  }

  /** Load the page before the first line. */
  async earlier(): Promise<void> {
    if (this.complete.peek()) return;
    if (!this.opened) return this.open();
    await this.page(this.first);
  }

  private get first(): bigint {
    return this.conversation.lines.peek().find((line) => line.message.seq > 0n)?.message.seq ?? 0n;
  }

  private async page(beforeSeq: bigint): Promise<void> {
    if (this.loading.peek()) return;
    this.loading.value = true;
    this.trouble.value = null;
    try {
      const sessionId = this.conversation.session.peek().id;
      const { messages, nextPageToken } = await this.api.archive.listMessages({ sessionId, beforeSeq, pageSize: PAGE });
      this.conversation.prepend(messages, this.mine);
      this.complete.value = nextPageToken === "";
    } catch (error) {
      this.trouble.value = troubleOf(error);
    } finally {
      this.loading.value = false;
    }
  }
}
