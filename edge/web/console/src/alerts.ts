// Calls an agent who looks elsewhere: by a sound and by a notification of the desktop, for those kinds of news that the
// agent chose. The tab's title counts in any case.

import { effect, signal } from "@preact/signals";
import { SenderKind } from "@octopus/contracts/octopus/chat/v1/message_pb";

import { textOf } from "@octopus/core/content";
import { lasting } from "@octopus/core/storage";
import { clip } from "@octopus/core/text";
import { customerName } from "./shown";
import { words } from "./words";
import type { Workspace } from "./workspace";

/** What an agent can be called for. */
export const KINDS = ["offer", "message"] as const;
/** How. */
export const WAYS = ["sound", "desktop"] as const;

export type Kind = (typeof KINDS)[number];
export type Way = (typeof WAYS)[number];
export type Choices = Readonly<Record<Kind, Readonly<Record<Way, boolean>>>>;

const NONE: Choices = { offer: { sound: false, desktop: false }, message: { sound: false, desktop: false } };
const LONGEST_WORDS = 80;
// Two notes for a new chat, one for a message: told apart without looking. In hertz and seconds.
const NOTES: Record<Kind, readonly number[]> = { offer: [660, 880], message: [740] };
const NOTE_S = 0.16;
const LOUDNESS = 0.12;

/** What one agent chose in this browser, and the calling itself. */
export class Alerts {
  readonly choices = signal<Choices>(NONE);
  /** Whether the browser refuses notifications, so that the agent must allow them in its settings. */
  readonly blocked = signal(false);
  private readonly key: string;
  private audio: AudioContext | null = null;
  private offered: ReadonlySet<bigint> | null = null;
  private heard: ReadonlyMap<bigint, bigint> | null = null;

  constructor(private readonly workspace: Workspace) {
    this.key = `octopus:alerts:${workspace.link.userId}`;
    this.choices.value = { ...NONE, ...(JSON.parse(lasting.get(this.key) ?? "{}") as Partial<Choices>) };
  }

  /** Call from now on, until the returned function is called. */
  start(): () => void {
    const stops = [effect(() => this.watchOffers()), effect(() => this.watchMessages())];
    return () => {
      for (const stop of stops) stop();
      void this.audio?.close();
    };
  }

  /** Choose a way to be called for a kind of news. The browser may ask, and refuse. */
  async choose(kind: Kind, way: Way, wanted: boolean): Promise<void> {
    let agreed = wanted;
    if (wanted && way === "desktop") {
      const answer = "Notification" in window ? await Notification.requestPermission() : "denied";
      this.blocked.value = answer === "denied";
      agreed = answer === "granted";
    }
    const choices = this.choices.peek();
    this.choices.value = { ...choices, [kind]: { ...choices[kind], [way]: agreed } };
    lasting.set(this.key, JSON.stringify(this.choices.peek()));
    // So that the agent hears what was chosen; browsers allow sound only after a gesture like this one.
    if (agreed && way === "sound") this.play(kind);
  }

  private watchOffers(): void {
    const { offers, ready } = this.workspace;
    const now = new Set(offers.value.map((one) => one.session.value.id));
    // What was there when the page was opened is seen by who opened it.
    if (!ready.value) return;
    const before = this.offered;
    this.offered = now;
    if (!before) return;
    for (const one of offers.value) {
      const session = one.session.peek();
      if (!before.has(session.id)) this.call("offer", session.id, words.peek().newOffer(customerName(session, words.peek())));
    }
  }

  private watchMessages(): void {
    const { active, ready } = this.workspace;
    const last = new Map(
      active.value.map((one) => {
        const said = one.lines.value.findLast(({ message }) => message.sender?.kind === SenderKind.CUSTOMER);
        return [one.session.value.id, said?.message.seq ?? 0n] as const;
      }),
    );
    if (!ready.value) return;
    const before = this.heard;
    this.heard = last;
    if (!before) return;
    for (const one of active.value) {
      const session = one.session.peek();
      const seq = before.get(session.id);
      // Of a chat that was only just taken, the lines are old.
      if (seq === undefined || (last.get(session.id) ?? 0n) <= seq || this.looksAt(session.id)) continue;
      const said = one.lines.peek().findLast(({ message }) => message.sender?.kind === SenderKind.CUSTOMER);
      const text = said ? clip(textOf(said.message), LONGEST_WORDS) : "";
      this.call("message", session.id, customerName(session, words.peek()), text);
    }
  }

  private looksAt(sessionId: bigint): boolean {
    return document.visibilityState === "visible" && document.hasFocus() && this.workspace.selectedId.peek() === sessionId;
  }

  private call(kind: Kind, sessionId: bigint, title: string, body = ""): void {
    const { sound, desktop } = this.choices.peek()[kind];
    if (sound) this.play(kind);
    if (!desktop || !("Notification" in window) || Notification.permission !== "granted") return;
    // One for each chat: the next word replaces the one before.
    const note = new Notification(title, { body, tag: `octopus:${sessionId}`, icon: "/icon.svg" });
    note.onclick = () => {
      window.focus();
      this.workspace.tab.value = "mine";
      this.workspace.select(sessionId);
      note.close();
    };
  }

  private play(kind: Kind): void {
    try {
      this.audio ??= new AudioContext();
      const { audio } = this;
      void audio.resume();
      NOTES[kind].forEach((hertz, place) => {
        const at = audio.currentTime + place * NOTE_S;
        const tone = audio.createOscillator();
        const loudness = audio.createGain();
        tone.frequency.value = hertz;
        loudness.gain.setValueAtTime(LOUDNESS, at);
        loudness.gain.exponentialRampToValueAtTime(0.001, at + NOTE_S);
        tone.connect(loudness).connect(audio.destination);
        tone.start(at);
        tone.stop(at + NOTE_S);
      });
    } catch {
      // A machine without sound.
    }
  }
}
