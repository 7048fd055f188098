// How far this device has got in each session; told a little later and together.

import { create } from "@bufbuild/protobuf";
import { type Receipt, ReceiptSchema } from "@octopus/contracts/octopus/chat/v1/frame_pb";

const TOLD_AFTER_MS = 400;

interface Due {
  delivered: bigint;
  read: bigint;
  timer: number;
}

/** Tells receipts. Values only grow, so telling one again is harmless. */
export class Receipts {
  private readonly due = new Map<bigint, Due>();

  constructor(private readonly send: (receipt: Receipt) => void) {}

  /** The device has a session up to `delivered`, and the person has read it up to `read`. */
  note(sessionId: bigint, delivered: bigint, read: bigint): void {
    const due = this.due.get(sessionId) ?? { delivered: 0n, read: 0n, timer: 0 };
    if (delivered <= due.delivered && read <= due.read) return;
    due.delivered = delivered > due.delivered ? delivered : due.delivered;
    due.read = read > due.read ? read : due.read;
    window.clearTimeout(due.timer);
    due.timer = window.setTimeout(() => this.tell(sessionId), TOLD_AFTER_MS);
    this.due.set(sessionId, due);
  }

  /** A stream is open: what was told may have been lost with the one before. */
  opened(sessionIds: ReadonlySet<bigint>): void {
    for (const sessionId of this.due.keys()) if (sessionIds.has(sessionId)) this.tell(sessionId);
  }

  private tell(sessionId: bigint): void {
    const due = this.due.get(sessionId);
    if (!due) return;
    this.send(create(ReceiptSchema, { sessionId, deliveredSeq: due.delivered, readSeq: due.read }));
  }
}
