// A person's link to the platform: stays connected, resumes after breaks, sends again what was not acknowledged, and
// keeps what was said as signals that pages draw.

import { create } from "@bufbuild/protobuf";
import { durationMs, timestampNow } from "@bufbuild/protobuf/wkt";
import { batch, type ReadonlySignal, type Signal, signal } from "@preact/signals";
import {
  type ClientFrame,
  ClientFrameSchema,
  HelloSchema,
  type PostMessage,
  PostMessageSchema,
  ReceiptSchema,
  type Receipt,
  type Refusal,
  type ServerFrame,
  TypingSchema,
} from "@octopus/contracts/octopus/chat/v1/frame_pb";
import { type Message, MessageSchema, SenderKind } from "@octopus/contracts/octopus/chat/v1/message_pb";
import { Reason } from "@octopus/contracts/octopus/errors/v1/errors_pb";
import { type Session, SessionState } from "@octopus/contracts/octopus/session/v1/session_pb";

import { type PersonalApi, SignedOut } from "./api";
import { overGrpcWeb, overWebSocket, type Stream, type StreamEnd } from "./streams";
import type { Keyring } from "./tokens";

/** Ends that say the token is not good any more: a refresh shows whether another one is to be had. */
const DOUBTFUL: ReadonlySet<Reason> = new Set([
  Reason.TOKEN_EXPIRED,
  Reason.TOKEN_INVALID,
  Reason.TOKEN_REVOKED,
  Reason.DISABLED,
]);

export type LinkState = "connecting" | "online" | "reconnecting" | "offline" | "signed-out";

/** One line of a conversation. */
export interface Line {
  message: Message;
  /** Own messages: how far they have come. Absent for those of others. */
  delivery?: "sending" | "sent" | "failed";
  /** Why it failed. */
  reason?: Reason;
}

/** How far the others have got in a session. */
export interface Marks {
  delivered: bigint;
  read: bigint;
}

/** One session as a page shows it. */
export class Conversation {
  readonly lines = signal<readonly Line[]>([]);
  readonly typing = signal<string | null>(null);
  readonly marks = signal<Marks>({ delivered: 0n, read: 0n });
  /** Set when the log no longer has the beginning: page the history before the first line. */
  readonly incomplete = signal(false);
  private typingEnds = 0;

  constructor(readonly session: Signal<Session>) {}

  /** Position of the last line that has one. */
  get lastSeq(): bigint {
    return this.lines.peek().reduce((last, line) => (line.message.seq > last ? line.message.seq : last), 0n);
  }

  /** Add or replace a line. Lines without a position, still on their way, stand last. */
  put(line: Line): void {
    const same = (other: Line) =>
      (line.message.id !== 0n && other.message.id === line.message.id) ||
      (line.message.clientMessageId !== "" &&
        other.message.clientMessageId === line.message.clientMessageId &&
        other.message.sender?.userId === line.message.sender?.userId);
    const others = this.lines.peek().filter((other) => !same(other));
    const place = (l: Line) => (l.message.seq === 0n ? 1n << 62n : l.message.seq);
    let at = others.length;
    while (at > 0 && place(others[at - 1]!) > place(line)) at--;
    this.lines.value = [...others.slice(0, at), line, ...others.slice(at)];
  }

  /** Put a page of history before what is there. */
  prepend(messages: readonly Message[], mine: (message: Message) => boolean): void {
    batch(() => {
      for (const message of messages) this.put(mine(message) ? { message, delivery: "sent" } : { message });
    });
  }

  /** Somebody types; forgotten after a while. */
  showTyping(name: string): void {
    this.typing.value = name;
    window.clearTimeout(this.typingEnds);
    this.typingEnds = window.setTimeout(() => (this.typing.value = null), TYPING_LASTS_MS);
  }

  /** Whoever typed has sent. */
  hideTyping(): void {
    window.clearTimeout(this.typingEnds);
    this.typing.value = null;
  }
}

const TYPING_LASTS_MS = 5_000;
const TYPING_EVERY_MS = 3_000;
const RECEIPT_AFTER_MS = 400;
const PAUSES_MS = [300, 1_000, 2_000, 4_000, 8_000, 15_000];
// WebSockets that never opened, one after the other, before gRPC-Web is tried.
const BLOCKED_AFTER = 3;
const FIRST_FRAME_WITHIN_MS = 12_000;

/** The link of one person on one page. */
export class Link {
  readonly state = signal<LinkState>("connecting");
  /** When the next attempt is due, in milliseconds since the epoch; 0 when none is. */
  readonly retryAt = signal(0);
  readonly conversations = signal<ReadonlyMap<bigint, Conversation>>(new Map());
  readonly userId: bigint;

  private stream: Stream | null = null;
  private stopped = false;
  private wake: () => void = () => undefined;
  private heartbeatMs = 15_000;
  private quiet = 0;
  private readonly cursors = new Map<bigint, bigint>();
  private readonly waiting = new Map<string, PostMessage>();
  private readonly receiptsDue = new Map<bigint, { delivered: bigint; read: bigint; timer: number }>();
  private typedAt = 0;

  constructor(
    private readonly origin: string,
    private readonly keyring: Keyring,
    private readonly api: PersonalApi,
  ) {
    this.userId = BigInt(keyring.kept?.userId ?? "0");
    window.addEventListener("online", this.retryNow);
    window.addEventListener("offline", this.noteOffline);
  }

  /** Stay connected until `stop`. */
  async run(): Promise<void> {
    let failures = 0;
    let blocked = 0;
    while (!this.stopped) {
      let wasOnline = false;
      try {
        const end = await this.once(blocked >= BLOCKED_AFTER, () => (wasOnline = true));
        if (DOUBTFUL.has(end.reason)) this.keyring.doubt();
      } catch (error) {
        if (error instanceof SignedOut) {
          this.state.value = "signed-out";
          return;
        }
      }
      if (this.stopped) return;
      failures = wasOnline ? 0 : failures + 1;
      blocked = wasOnline || !navigator.onLine ? 0 : blocked + 1;
      this.state.value = navigator.onLine ? "reconnecting" : "offline";
      await this.pause(PAUSES_MS[Math.min(failures, PAUSES_MS.length - 1)]! * (0.8 + 0.4 * Math.random()));
    }
  }

  /** Disconnect for good. */
  stop(): void {
    this.stopped = true;
    window.removeEventListener("online", this.retryNow);
    window.removeEventListener("offline", this.noteOffline);
    this.stream?.close();
    this.wake();
  }

  /** Do not wait for the next attempt. */
  readonly retryNow = (): void => {
    this.wake();
  };

  /** The conversation of a session, made when it is new. */
  learn(session: Session): Conversation {
    const known = this.conversations.peek().get(session.id);
    if (known) {
      const before = known.session.peek();
      // A place in the queue changes without a new version.
      if (session.version >= before.version) known.session.value = session;
      return known;
    }
    const conversation = new Conversation(signal(session));
    this.conversations.value = new Map(this.conversations.peek()).set(session.id, conversation);
    return conversation;
  }

  /** Forget a session. */
  forget(sessionId: bigint): void {
    const rest = new Map(this.conversations.peek());
    rest.delete(sessionId);
    this.cursors.delete(sessionId);
    this.conversations.value = rest;
  }

  /** Whether a message is the person's own. */
  readonly mine = (message: Message): boolean => message.sender?.userId === this.userId && this.userId !== 0n;

  /** Say something: it is shown at once, and sent until it is acknowledged. */
  say(sessionId: bigint, text: string): void {
    const post = create(PostMessageSchema, {
      sessionId,
      clientMessageId: crypto.randomUUID(),
      content: { kind: { case: "text", value: { text } } },
    });
    this.waiting.set(post.clientMessageId, post);
    this.showOwn(post, "sending");
    this.send({ case: "post", value: post });
  }

  /** Send a message again that had failed. */
  sayAgain(line: Line): void {
    if (!line.message.content) return;
    const post = create(PostMessageSchema, {
      sessionId: line.message.sessionId,
      clientMessageId: line.message.clientMessageId,
      content: line.message.content,
    });
    this.waiting.set(post.clientMessageId, post);
    this.showOwn(post, "sending");
    this.send({ case: "post", value: post });
  }

  /** The person types; told to the others now and then. */
  type(sessionId: bigint): void {
    if (Date.now() - this.typedAt < TYPING_EVERY_MS) return;
    this.typedAt = Date.now();
    this.send({ case: "typing", value: create(TypingSchema, { sessionId }) });
  }

  /** The person has seen a session up to its last line. */
  markRead(sessionId: bigint): void {
    const seq = this.conversations.peek().get(sessionId)?.lastSeq ?? 0n;
    this.receive(sessionId, seq, seq);
  }

  private once(blocked: boolean, online: () => void): Promise<StreamEnd> {
    return new Promise((resolve, reject) => {
      void (async () => {
        const token = await this.keyring.current();
        const hello = create(HelloSchema, {
          cursors: [...this.cursors].map(([sessionId, seq]) => ({ sessionId, seq })),
        });
        let ended = false;
        const finish = (end: StreamEnd) => {
          if (ended) return;
          ended = true;
          window.clearTimeout(this.quiet);
          this.stream = null;
          resolve(end);
        };
        const listener = {
          frame: (frame: ServerFrame) => {
            if (ended) return;
            this.listenFor(3 * this.heartbeatMs, stream);
            if (frame.frame.case === "welcome") {
              this.stream = stream;
              online();
            }
            batch(() => this.take(frame, stream));
          },
          ended: finish,
        };
        const stream: Stream = blocked
          ? overGrpcWeb(this.api, hello, listener)
          : overWebSocket(this.origin, token, hello, listener);
        this.listenFor(FIRST_FRAME_WITHIN_MS, stream);
      })().catch(reject);
    });
  }

  /** Break the stream off when nothing comes for too long: the other end may be gone without a word. */
  private listenFor(ms: number, stream: Stream): void {
    window.clearTimeout(this.quiet);
    this.quiet = window.setTimeout(() => stream.close(), ms);
  }

  private take({ frame }: ServerFrame, stream: Stream): void {
    switch (frame.case) {
      case "welcome": {
        if (frame.value.heartbeat) this.heartbeatMs = Math.max(durationMs(frame.value.heartbeat), 1_000);
        for (const session of frame.value.sessions) this.learn(session);
        for (const receipt of frame.value.receipts) this.mark(receipt);
        this.state.value = "online";
        this.retryAt.value = 0;
        for (const post of this.waiting.values()) this.send({ case: "post", value: post });
        // Receipts may have been lost with the stream before; they only grow, so saying them again is harmless.
        for (const sessionId of this.receiptsDue.keys()) {
          if (frame.value.sessions.some((session) => session.id === sessionId)) this.sendReceipt(sessionId);
        }
        break;
      }
      case "message":
        this.show(frame.value);
        break;
      case "ack": {
        const { clientMessageId, messageId, seq, sentAt } = frame.value;
        const post = this.waiting.get(clientMessageId);
        this.waiting.delete(clientMessageId);
        if (post) this.showOwn(post, "sent", { id: messageId, seq, sentAt });
        break;
      }
      case "refusal":
        this.refuse(frame.value);
        break;
      case "typing":
        this.conversations
          .peek()
          .get(frame.value.sessionId)
          ?.showTyping(frame.value.sender?.displayName ?? "");
        break;
      case "receipt":
        this.mark(frame.value);
        break;
      case "session":
        if (frame.value.session) this.learn(frame.value.session);
        break;
      case "tooOld": {
        const { sessionId, firstSeq } = frame.value;
        const conversation = this.conversations.peek().get(sessionId);
        if (conversation) conversation.incomplete.value = true;
        // A log that was lost counts anew: a position from before would hide what comes.
        if ((this.cursors.get(sessionId) ?? 0n) >= firstSeq) this.cursors.delete(sessionId);
        break;
      }
      case "ping":
        stream.send(
          create(ClientFrameSchema, { frame: { case: "pong", value: { nonce: frame.value.nonce } } }),
        );
        break;
      default:
        break;
    }
  }

  private show(message: Message): void {
    // Positions move by messages only: an acknowledgement may overtake somebody else's message.
    const seen = this.cursors.get(message.sessionId) ?? 0n;
    if (message.seq > seen) this.cursors.set(message.sessionId, message.seq);
    let conversation = this.conversations.peek().get(message.sessionId);
    const kind = message.content?.kind;
    if (kind?.case === "change" && kind.value.session) {
      conversation = this.learn(kind.value.session);
    }
    if (!conversation) return;
    const own = this.mine(message);
    if (own) this.waiting.delete(message.clientMessageId);
    else conversation.hideTyping();
    conversation.put(own ? { message, delivery: "sent" } : { message });
    if (!own) this.receive(message.sessionId, message.seq, 0n);
  }

  private showOwn(post: PostMessage, delivery: Line["delivery"], stored?: Partial<Message>, reason?: Reason): void {
    const conversation = this.conversations.peek().get(post.sessionId);
    if (!conversation || !post.content) return;
    const message = create(MessageSchema, {
      sessionId: post.sessionId,
      clientMessageId: post.clientMessageId,
      sender: { userId: this.userId, kind: SenderKind.UNSPECIFIED },
      content: post.content,
      sentAt: stored?.sentAt ?? timestampNow(),
      id: stored?.id ?? 0n,
      seq: stored?.seq ?? 0n,
    });
    conversation.put({ message, delivery, ...(reason === undefined ? {} : { reason }) });
  }

  private refuse(refusal: Refusal): void {
    const post = this.waiting.get(refusal.clientMessageId);
    if (!post) return;
    const again = refusal.retryAfter ? durationMs(refusal.retryAfter) : refusal.reason === Reason.UNAVAILABLE ? 1_000 : 0;
    if (again > 0) {
      window.setTimeout(() => {
        if (this.waiting.has(post.clientMessageId)) this.send({ case: "post", value: post });
      }, again);
      return;
    }
    this.waiting.delete(refusal.clientMessageId);
    this.showOwn(post, "failed", undefined, refusal.reason);
  }

  private mark(receipt: Receipt): void {
    if (receipt.sender?.userId === this.userId) return;
    const conversation = this.conversations.peek().get(receipt.sessionId);
    if (!conversation) return;
    const { delivered, read } = conversation.marks.peek();
    conversation.marks.value = {
      delivered: receipt.deliveredSeq > delivered ? receipt.deliveredSeq : delivered,
      read: receipt.readSeq > read ? receipt.readSeq : read,
    };
  }

  /** Tell how far this device has got, a little later and together. */
  private receive(sessionId: bigint, delivered: bigint, read: bigint): void {
    const due = this.receiptsDue.get(sessionId) ?? { delivered: 0n, read: 0n, timer: 0 };
    if (delivered <= due.delivered && read <= due.read) return;
    due.delivered = delivered > due.delivered ? delivered : due.delivered;
    due.read = read > due.read ? read : due.read;
    window.clearTimeout(due.timer);
    due.timer = window.setTimeout(() => this.sendReceipt(sessionId), RECEIPT_AFTER_MS);
    this.receiptsDue.set(sessionId, due);
  }

  private sendReceipt(sessionId: bigint): void {
    const due = this.receiptsDue.get(sessionId);
    if (!due) return;
    const { delivered: deliveredSeq, read: readSeq } = due;
    this.send({ case: "receipt", value: create(ReceiptSchema, { sessionId, deliveredSeq, readSeq }) });
  }

  private send(frame: ClientFrame["frame"]): void {
    this.stream?.send(create(ClientFrameSchema, { frame }));
  }

  private readonly noteOffline = (): void => {
    this.state.value = "offline";
    this.stream?.close();
  };

  private pause(ms: number): Promise<void> {
    this.retryAt.value = Date.now() + ms;
    return new Promise((resolve) => {
      const timer = window.setTimeout(done, ms);
      const self = this;
      function done(): void {
        window.clearTimeout(timer);
        self.wake = () => undefined;
        self.retryAt.value = 0;
        resolve();
      }
      this.wake = done;
    });
  }
}

/** Whether a session takes messages. */
export function isOpen(session: Session): boolean {
  return session.state !== SessionState.ENDED && session.state !== SessionState.UNSPECIFIED;
}

export type { ReadonlySignal };
