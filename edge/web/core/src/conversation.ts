// One session as a page shows it: what was said, who types, and how far the others have got.

import type { Receipt } from "@octopus/contracts/octopus/chat/v1/frame_pb";
import type { Message } from "@octopus/contracts/octopus/chat/v1/message_pb";
import type { Reason } from "@octopus/contracts/octopus/errors/v1/errors_pb";
import { type Session, SessionState } from "@octopus/contracts/octopus/session/v1/session_pb";
import { batch, type Signal, signal } from "@preact/signals";

import { afterChanges, changedBy } from "./content";

const TYPING_LASTS_MS = 5_000;

/** One line of a conversation. */
export interface Line {
  message: Message;
  /** Own messages: how far they have come. Absent for those of others. */
  delivery?: "sending" | "sent" | "failed";
  /** Why it failed, or is sent again later. */
  reason?: Reason;
  /** After how many seconds it is sent again by itself, counted from the refusal. */
  againS?: number;
}

/** A text that was refused for what it says: the person's box takes it back. */
export interface Returned {
  text: string;
  reason: Reason;
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
  /** The line that the next message quotes. */
  readonly quoting = signal<Line | null>(null);
  /** The line whose text is being edited. */
  readonly editing = signal<Line | null>(null);
  /** What the person wrote and the platform refused, until the box takes it back. */
  readonly returned = signal<Returned | null>(null);
  private typingEnds = 0;
  /** The lines as they were said, and the edits and recalls by the position that they change. */
  private said: readonly Line[] = [];
  private readonly changes = new Map<bigint, readonly Line[]>();

  constructor(readonly session: Signal<Session>) {}

  /** Position of the last line that has one. */
  get lastSeq(): bigint {
    return this.lines.peek().reduce((last, line) => (line.message.seq > last ? line.message.seq : last), 0n);
  }

  /**
   * Add or replace a line. Lines without a position, still on their way, stand last. An edit or a recall changes the line
   * that it names, also while it is on its way; one that failed changes nothing any more.
   */
  put(line: Line): void {
    const target = changedBy(line.message);
    if (target === undefined) this.said = placed(this.said, line);
    else {
      const others = this.changes.get(target) ?? [];
      const failed = line.delivery === "failed";
      this.changes.set(target, failed ? others.filter((other) => !same(line, other)) : placed(others, line));
    }
    this.show();
  }

  /** Take a refused message out of the conversation, and hand its text to the box. */
  giveBack(clientMessageId: string, text: string, quotedSeq: bigint, reason: Reason): void {
    const earlier = this.returned.peek();
    batch(() => {
      this.said = this.said.filter((line) => line.message.seq !== 0n || line.message.clientMessageId !== clientMessageId);
      this.show();
      if (quotedSeq !== 0n) this.quoting.value = this.at(quotedSeq) ?? null;
      this.returned.value = { text: earlier ? `${earlier.text}\n${text}` : text, reason };
    });
  }

  /** The line at a position; undefined when it is not here. */
  at(seq: bigint): Line | undefined {
    return this.lines.value.find((line) => line.message.seq === seq);
  }

  private show(): void {
    this.lines.value = this.changes.size === 0 ? this.said : this.said.map((one) => this.changed(one));
  }

  private changed(line: Line): Line {
    const changes = line.message.seq === 0n ? undefined : this.changes.get(line.message.seq);
    if (!changes) return line;
    const message = afterChanges(line.message, changes.map((change) => change.message));
    return message === line.message ? line : { ...line, message };
  }

  /** Somebody else has received or read up to a position. */
  mark({ deliveredSeq, readSeq }: Receipt): void {
    const { delivered, read } = this.marks.peek();
    this.marks.value = {
      delivered: deliveredSeq > delivered ? deliveredSeq : delivered,
      read: readSeq > read ? readSeq : read,
    };
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

function same(line: Line, other: Line): boolean {
  return (
    (line.message.id !== 0n && other.message.id === line.message.id) ||
    (line.message.clientMessageId !== "" &&
      other.message.clientMessageId === line.message.clientMessageId &&
      other.message.sender?.userId === line.message.sender?.userId)
  );
}

/** Put a line where its position says, in place of the one that is the same. */
function placed(lines: readonly Line[], line: Line): readonly Line[] {
  const others = lines.filter((other) => !same(line, other));
  const place = (l: Line) => (l.message.seq === 0n ? 1n << 62n : l.message.seq);
  let at = others.length;
  while (at > 0 && place(others[at - 1]!) > place(line)) at--;
  return [...others.slice(0, at), line, ...others.slice(at)];
}

/** Whether an agent talks with the customer; that the customer was reminded changes nothing of it. */
export function isTalking(session: Session): boolean {
  return session.state === SessionState.ACTIVE || session.state === SessionState.WARNING;
}

/** Whether a session takes messages. */
export function isOpen(session: Session): boolean {
  return session.state !== SessionState.ENDED && session.state !== SessionState.UNSPECIFIED;
}
