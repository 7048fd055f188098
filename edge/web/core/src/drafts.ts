// What is written and not sent. It survives a reload of the tab, and is personal data: it leaves with the log-out, when
// it is sent, and after half a day.

import { ofTab } from "./storage";

const LASTS_MS = 12 * 3_600_000;
const PREFIX = "octopus:drafts:";

/** The drafts of one person, by conversation. */
export class Drafts {
  private readonly name: string;

  constructor(person: string) {
    this.name = PREFIX + person;
  }

  /** What is written in a conversation; empty when nothing is. */
  read(conversation: string): string {
    return this.all()[conversation]?.[0] ?? "";
  }

  /** Keep what is written in a conversation; nothing but white space is forgotten. */
  write(conversation: string, text: string): void {
    const { [conversation]: before, ...others } = this.all();
    if (text.trim() === "") {
      if (before) this.keep(others);
    } else if (before?.[0] !== text) this.keep({ ...others, [conversation]: [text, Date.now()] });
  }

  /** Forget all drafts of this person in this tab. */
  forget(): void {
    ofTab.remove(this.name);
  }

  /** Forget what other people of the same kind have left in this tab, e.g. an agent whose log-in ended. */
  forgetOthers(kind: string): void {
    for (const name of ofTab.names()) {
      if (name.startsWith(PREFIX + kind) && name !== this.name) ofTab.remove(name);
    }
  }

  private keep(drafts: Record<string, [text: string, at: number]>): void {
    if (Object.keys(drafts).length === 0) this.forget();
    else ofTab.set(this.name, JSON.stringify(drafts));
  }

  private all(): Record<string, [text: string, at: number]> {
    const kept = JSON.parse(ofTab.get(this.name) ?? "{}") as Record<string, [text: string, at: number]>;
    return Object.fromEntries(Object.entries(kept).filter(([, [, at]]) => at > Date.now() - LASTS_MS));
  }
}
