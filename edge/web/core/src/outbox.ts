// What the person has said and the platform has not acknowledged.

import type { PostMessage } from "@octopus/contracts/octopus/chat/v1/frame_pb";
import { signal } from "@preact/signals";

/** How long a message may wait for its acknowledgement before the page says so and the stream is given up. */
export const ACKNOWLEDGED_WITHIN_MS = 5_000;

interface Waiting {
  post: PostMessage;
  /** When the person said it, in milliseconds since the epoch. */
  saidAt: number;
  /** When the open stream got it; 0 while none has. */
  sentAt: number;
}

/** Sends messages until each is acknowledged or refused for good, over as many streams as that takes. */
export class Outbox {
  /** Whether a message waits for longer than it should. */
  readonly stalled = signal(false);

  private readonly waiting = new Map<string, Waiting>();
  private timer = 0;

  constructor(
    /** Hand a message to the open stream; false when there is none. */
    private readonly send: (post: PostMessage) => boolean,
    /** The open stream has not acknowledged a message in time. */
    private readonly overdue: () => void,
  ) {}

  /** Send a message, now or as soon as there is a stream. */
  add(post: PostMessage): void {
    const waiting = { post, saidAt: Date.now(), sentAt: 0 };
    this.waiting.set(post.clientMessageId, waiting);
    this.attempt(waiting);
  }

  /** The message that waits under a client id. */
  get(clientMessageId: string): PostMessage | undefined {
    return this.waiting.get(clientMessageId)?.post;
  }

  /** A message is acknowledged or refused: it waits no longer. */
  settle(clientMessageId: string): void {
    if (this.waiting.delete(clientMessageId)) this.watch();
  }

  /** Send a message again after a while, as the platform asked for. */
  sendLater(clientMessageId: string, ms: number): void {
    const waiting = this.waiting.get(clientMessageId);
    if (!waiting) return;
    waiting.sentAt = 0;
    this.watch();
    window.setTimeout(() => {
      // A stream that opened meanwhile has it.
      if (this.waiting.get(clientMessageId) === waiting && waiting.sentAt === 0) this.attempt(waiting);
    }, ms);
  }

  /** A stream is open: send everything that waits, in the order in which it was said. */
  opened(): void {
    for (const waiting of this.waiting.values()) this.attempt(waiting);
  }

  /** The stream is gone; nobody will acknowledge over it. */
  closed(): void {
    for (const waiting of this.waiting.values()) waiting.sentAt = 0;
    this.watch();
  }

  /** Stop watching. */
  stop(): void {
    window.clearTimeout(this.timer);
  }

  private attempt(waiting: Waiting): void {
    waiting.sentAt = this.send(waiting.post) ? Date.now() : 0;
    this.watch();
  }

  /** Judge what waits, and look again when the next message becomes overdue. */
  private watch(): void {
    window.clearTimeout(this.timer);
    const all = [...this.waiting.values()];
    const now = Date.now();
    this.stalled.value = all.some(({ saidAt }) => now - saidAt >= ACKNOWLEDGED_WITHIN_MS);
    const moments = all.flatMap(({ saidAt, sentAt }) => [saidAt, sentAt]).map((at) => at + ACKNOWLEDGED_WITHIN_MS);
    const next = Math.min(...moments.filter((at) => at > now));
    if (next !== Infinity) {
      this.timer = window.setTimeout(() => {
        const late = Date.now() - ACKNOWLEDGED_WITHIN_MS;
        const overdue = [...this.waiting.values()].some(({ sentAt }) => sentAt !== 0 && sentAt <= late);
        this.watch();
        if (overdue) this.overdue();
      }, next - now);
    }
  }
}
