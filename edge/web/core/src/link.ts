// A person's link to the platform: stays connected, resumes after breaks, sends again what was not acknowledged, and
// keeps what was said as signals that pages draw.

import { create } from "@bufbuild/protobuf";
import { durationMs, timestampMs, timestampNow } from "@bufbuild/protobuf/wkt";
import {
  type ClientFrame,
  ClientFrameSchema,
  HelloSchema,
  type PostMessage,
  PostMessageSchema,
  type Receipt,
  type Refusal,
  type ServerFrame,
  TypingSchema,
  type Welcome,
} from "@octopus/contracts/octopus/chat/v1/frame_pb";
import {
  type Content,
  ContentSchema,
  EditSchema,
  type Message,
  MessageSchema,
  NoteSchema,
  RecallSchema,
  SenderKind,
  TextSchema,
} from "@octopus/contracts/octopus/chat/v1/message_pb";
import { Reason } from "@octopus/contracts/octopus/errors/v1/errors_pb";
import type { Session } from "@octopus/contracts/octopus/session/v1/session_pb";
import { batch, signal } from "@preact/signals";

import { type PersonalApi, SignedOut } from "./api";
import { Conversation, type Line } from "./conversation";
import { deviceId } from "./device";
import { Outbox } from "./outbox";
import { Receipts } from "./receipts";
import { overGrpcWeb, overWebSocket, type Stream, StreamEnd } from "./streams";
import type { Keyring } from "./tokens";

/** Ends that say the token is not good any more: a refresh shows whether another one is to be had. */
const DOUBTFUL: ReadonlySet<Reason> = new Set([
  Reason.TOKEN_EXPIRED,
  Reason.TOKEN_INVALID,
  Reason.TOKEN_REVOKED,
  Reason.DISABLED,
]);

export type LinkState = "connecting" | "online" | "reconnecting" | "offline" | "signed-out";

/** Why an edit or a recall was not done. */
export interface RefusedChange {
  kind: "edit" | "recall";
  reason: Reason;
}

/** How long a message can be recalled; from the contract. */
export const RECALL_WITHIN_S = 120;

const REFUSED_SHOWN_MS = 6_000;
const TYPING_EVERY_MS = 3_000;
const PAUSES_MS = [300, 1_000, 2_000, 4_000, 8_000, 15_000];
// How much shorter a pause may be by chance: thousands whose connections broke at once must not come back in waves.
const SPREAD = 0.5;
// WebSockets that never opened, one after the other, before gRPC-Web is tried.
const BLOCKED_AFTER = 3;
// An instance that takes a connection and does not answer is left soon; a platform under load gets longer each time.
const WELCOMED_WITHIN_MS = [5_000, 8_000, 12_000];

/** The link of one person on one page. */
export class Link {
  readonly state = signal<LinkState>("connecting");
  /** When the next attempt is due, in milliseconds since the epoch; 0 when none is. */
  readonly retryAt = signal(0);
  readonly conversations = signal<ReadonlyMap<bigint, Conversation>>(new Map());
  /** The reason for which the platform ended the last stream; `Reason.UNSPECIFIED` when it just broke. */
  readonly lastEnd = signal<Reason>(Reason.UNSPECIFIED);
  /** For a moment: the edit or recall that the platform refused. */
  readonly changeRefused = signal<RefusedChange | null>(null);
  readonly userId: bigint;

  private stream: Stream | null = null;
  /** The stream that is being opened, or is open. */
  private attempt: Stream | null = null;
  private stopped = false;
  private wake: () => void = () => undefined;
  private heartbeatMs = 15_000;
  private quiet = 0;
  private failures = 0;
  /** When the stream said goodbye instead of a welcome: how long to wait, because too many connect at once. */
  private comeBackMs = 0;
  private typedAt = 0;
  /** How far this machine's clock is ahead of the platform's, at the last acknowledgement. */
  private aheadMs = 0;
  private readonly cursors = new Map<bigint, bigint>();
  private readonly outbox = new Outbox(
    (post) => this.send({ case: "post", value: post }),
    () => this.leaveSilent(),
  );
  private readonly receipts = new Receipts((receipt) => void this.send({ case: "receipt", value: receipt }));

  /** Whether something the person said waits for its acknowledgement for longer than it should. */
  readonly stalled = this.outbox.stalled;

  constructor(
    private readonly origin: string,
    private readonly keyring: Keyring,
    private readonly api: PersonalApi,
  ) {
    this.userId = BigInt(keyring.kept?.userId ?? "0");
    window.addEventListener("online", this.retryNow);
    window.addEventListener("offline", this.noteOffline);
    document.addEventListener("visibilitychange", this.retryWhenSeen);
  }

  /** Stay connected until `stop`. */
  async run(): Promise<void> {
    let blocked = 0;
    while (!this.stopped) {
      let wasOnline = false;
      try {
        const end = await this.once(blocked >= BLOCKED_AFTER, () => (wasOnline = true));
        this.lastEnd.value = end.reason;
        if (DOUBTFUL.has(end.reason)) this.keyring.doubt();
      } catch (error) {
        if (error instanceof SignedOut) {
          this.state.value = "signed-out";
          return;
        }
      }
      if (this.stopped) return;
      // A stream that opened and acknowledged nothing is no success: pauses grow until something is acknowledged.
      this.failures = wasOnline && !this.stalled.peek() ? 0 : this.failures + 1;
      // Who was told to come back later has been heard: nothing blocks the way.
      const told = wasOnline ? 0 : this.comeBackMs;
      // Where gRPC-Web fails as well, WebSockets are not what is blocked: too many connect at once, or nobody is there.
      blocked = wasOnline || told > 0 || !navigator.onLine || blocked >= BLOCKED_AFTER ? 0 : blocked + 1;
      this.state.value = navigator.onLine ? "reconnecting" : "offline";
      await this.pause(Math.max(told, at(PAUSES_MS, this.failures) * (1 - SPREAD * Math.random())));
    }
  }

  /** Disconnect for good. */
  stop(): void {
    this.stopped = true;
    window.removeEventListener("online", this.retryNow);
    window.removeEventListener("offline", this.noteOffline);
    document.removeEventListener("visibilitychange", this.retryWhenSeen);
    this.outbox.stop();
    this.attempt?.close();
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

  /**
   * Say something, perhaps with a quote: it is shown at once, and sent until it is acknowledged. Return the client's id
   * of the message.
   */
  say(sessionId: bigint, text: string, quotedSeq = 0n): string {
    return this.postNew(sessionId, { case: "text", value: create(TextSchema, { text }) }, quotedSeq);
  }

  /** Write an internal note, in the same way. */
  note(sessionId: bigint, text: string, quotedSeq = 0n): void {
    this.postNew(sessionId, { case: "note", value: create(NoteSchema, { text }) }, quotedSeq);
  }

  /** Take a message back: its words go at once. When the platform refuses, they come back and `changeRefused` says why. */
  recall({ message: { sessionId, seq } }: Line): void {
    this.postNew(sessionId, { case: "recall", value: create(RecallSchema, { targetSeq: seq }) });
  }

  /** Replace the text of a message, in the same way. */
  edit({ message: { sessionId, seq } }: Line, text: string): void {
    this.postNew(sessionId, { case: "edit", value: create(EditSchema, { targetSeq: seq, text: { text } }) });
  }

  /** For how many seconds the platform still lets a message be recalled; not positive when it does no more. */
  recallableS({ sentAt }: Message): number {
    const age = sentAt ? Date.now() - this.aheadMs - timestampMs(sentAt) : Infinity;
    return Math.floor(RECALL_WITHIN_S - age / 1_000);
  }

  /** Send a message again that had failed. */
  sayAgain({ message: { sessionId, clientMessageId, content, quotedSeq } }: Line): void {
    if (content) this.post(create(PostMessageSchema, { sessionId, clientMessageId, content, quotedSeq }));
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
    this.receipts.note(sessionId, seq, seq);
  }

  private postNew(sessionId: bigint, kind: Content["kind"], quotedSeq = 0n): string {
    const content = create(ContentSchema, { kind });
    const clientMessageId = crypto.randomUUID();
    this.post(create(PostMessageSchema, { sessionId, clientMessageId, content, quotedSeq }));
    return clientMessageId;
  }

  private post(post: PostMessage): void {
    this.showOwn(post, "sending");
    this.outbox.add(post);
  }

  /** Hold one stream, from hello to end. */
  private async once(blocked: boolean, online: () => void): Promise<StreamEnd> {
    const token = await this.keyring.current();
    // Pages stop while a token is fetched.
    if (this.stopped) return new StreamEnd(Reason.UNSPECIFIED);
    this.comeBackMs = 0;
    const hello = create(HelloSchema, {
      cursors: [...this.cursors].map(([sessionId, seq]) => ({ sessionId, seq })),
      deviceId: deviceId(),
    });
    return new Promise((resolve) => {
      let ended = false;
      const listener = {
        frame: (frame: ServerFrame) => {
          if (ended) return;
          this.closeAfter(3 * this.heartbeatMs, stream);
          if (frame.frame.case === "welcome") {
            this.stream = stream;
            online();
          }
          batch(() => this.take(frame, stream));
        },
        ended: (end: StreamEnd) => {
          if (ended) return;
          ended = true;
          window.clearTimeout(this.quiet);
          this.stream = this.attempt = null;
          this.outbox.closed();
          resolve(end);
        },
      };
      const stream: Stream = blocked
        ? overGrpcWeb(this.api, hello, listener)
        : overWebSocket(this.origin, token, hello, listener);
      this.attempt = stream;
      this.closeAfter(at(WELCOMED_WITHIN_MS, this.failures), stream);
    });
  }

  /** Give a stream up when nothing comes for too long: the other end may be gone without a word. */
  private closeAfter(ms: number, stream: Stream): void {
    window.clearTimeout(this.quiet);
    this.quiet = window.setTimeout(() => stream.close(), ms);
  }

  /** Leave an instance that does not acknowledge; the next stream leads elsewhere. */
  private leaveSilent(): void {
    if (!this.stream) return;
    this.state.value = "reconnecting";
    this.stream.close();
  }

  private take({ frame }: ServerFrame, stream: Stream): void {
    switch (frame.case) {
      case "welcome":
        this.begin(frame.value);
        break;
      case "message":
        this.show(frame.value);
        break;
      case "ack": {
        const { clientMessageId, messageId, seq, sentAt } = frame.value;
        const post = this.outbox.get(clientMessageId);
        this.outbox.settle(clientMessageId);
        if (sentAt && !frame.value.duplicate) this.aheadMs = Date.now() - timestampMs(sentAt);
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
      case "goodbye":
        if (frame.value.reconnectAfter) this.comeBackMs = durationMs(frame.value.reconnectAfter);
        break;
      case "ping":
        stream.send(create(ClientFrameSchema, { frame: { case: "pong", value: { nonce: frame.value.nonce } } }));
        break;
      default:
        break;
    }
  }

  private begin(welcome: Welcome): void {
    if (welcome.heartbeat) this.heartbeatMs = Math.max(durationMs(welcome.heartbeat), 1_000);
    for (const session of welcome.sessions) this.learn(session);
    for (const receipt of welcome.receipts) this.mark(receipt);
    this.state.value = "online";
    this.retryAt.value = 0;
    this.outbox.opened();
    this.receipts.opened(new Set(welcome.sessions.map((session) => session.id)));
  }

  private show(message: Message): void {
    // Positions move by messages only: an acknowledgement may overtake somebody else's message.
    const seen = this.cursors.get(message.sessionId) ?? 0n;
    if (message.seq > seen) this.cursors.set(message.sessionId, message.seq);
    let conversation = this.conversations.peek().get(message.sessionId);
    const kind = message.content?.kind;
    if (kind?.case === "change" && kind.value.session) conversation = this.learn(kind.value.session);
    if (!conversation) return;
    const own = this.mine(message);
    if (own) this.outbox.settle(message.clientMessageId);
    else conversation.hideTyping();
    conversation.put(own ? { message, delivery: "sent" } : { message });
    if (!own) this.receipts.note(message.sessionId, message.seq, 0n);
  }

  private showOwn(
    post: PostMessage,
    delivery: Line["delivery"],
    stored?: Partial<Message>,
    reason?: Reason,
    againS?: number,
  ): void {
    const conversation = this.conversations.peek().get(post.sessionId);
    if (!conversation || !post.content) return;
    const message = create(MessageSchema, {
      sessionId: post.sessionId,
      clientMessageId: post.clientMessageId,
      sender: { userId: this.userId, kind: SenderKind.UNSPECIFIED },
      content: post.content,
      quotedSeq: post.quotedSeq,
      sentAt: stored?.sentAt ?? timestampNow(),
      id: stored?.id ?? 0n,
      seq: stored?.seq ?? 0n,
    });
    conversation.put({
      message,
      delivery,
      ...(reason === undefined ? {} : { reason }),
      ...(againS === undefined ? {} : { againS }),
    });
  }

  private refuse(refusal: Refusal): void {
    const post = this.outbox.get(refusal.clientMessageId);
    if (!post) return;
    const again = refusal.retryAfter ? durationMs(refusal.retryAfter) : refusal.reason === Reason.UNAVAILABLE ? 1_000 : 0;
    if (again > 0) {
      this.showOwn(post, "sending", undefined, refusal.reason, Math.ceil(again / 1_000));
      return this.outbox.sendLater(post.clientMessageId, again);
    }
    this.outbox.settle(refusal.clientMessageId);
    const content = post.content?.kind;
    if (refusal.reason === Reason.SENSITIVE_WORD && content?.case === "text") {
      // To send it again as it is makes no sense.
      const conversation = this.conversations.peek().get(post.sessionId);
      conversation?.giveBack(post.clientMessageId, content.value.text, post.quotedSeq, refusal.reason);
      return;
    }
    this.showOwn(post, "failed", undefined, refusal.reason);
    const kind = content?.case;
    if (kind === "edit" || kind === "recall") this.tellRefused({ kind, reason: refusal.reason });
  }

  private tellRefused(change: RefusedChange): void {
    this.changeRefused.value = change;
    window.setTimeout(() => {
      if (this.changeRefused.peek() === change) this.changeRefused.value = null;
    }, REFUSED_SHOWN_MS);
  }

  private mark(receipt: Receipt): void {
    if (receipt.sender?.userId === this.userId) return;
    this.conversations.peek().get(receipt.sessionId)?.mark(receipt);
  }

  private send(frame: ClientFrame["frame"]): boolean {
    this.stream?.send(create(ClientFrameSchema, { frame }));
    return this.stream !== null;
  }

  private readonly noteOffline = (): void => {
    this.state.value = "offline";
    this.attempt?.close();
  };

  private readonly retryWhenSeen = (): void => {
    // Timers rest in tabs that nobody sees.
    if (document.visibilityState === "visible") this.wake();
  };

  private pause(ms: number): Promise<void> {
    this.retryAt.value = Date.now() + ms;
    return new Promise((resolve) => {
      const done = () => {
        window.clearTimeout(timer);
        this.wake = () => undefined;
        this.retryAt.value = 0;
        resolve();
      };
      const timer = window.setTimeout(done, ms);
      this.wake = done;
    });
  }
}

/** The value of a step; the last one for all further steps. */
function at(values: readonly number[], step: number): number {
  return values[Math.min(step, values.length - 1)]!;
}
