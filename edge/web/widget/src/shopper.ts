// A shopper's side of one shop: who they are, their link, and their session.

import { computed, effect, signal } from "@preact/signals";
import { HandoffReason, type Session, SessionState } from "@octopus/contracts/octopus/session/v1/session_pb";

import { openApi, type PersonalApi, personalApi, SignedOut, type Trouble, troubleOf } from "@octopus/core/api";
import { type Conversation, isOpen, Link, type Line } from "@octopus/core/link";
import { Keyring } from "@octopus/core/tokens";

/** What the shop's server signed about the person who looks at its page: `octopus.user.v1.SignedIdentity` in JSON. */
export interface SignedIdentity {
  customerId: string;
  displayName: string;
  signedAtUnix: string | number;
  signature: string;
}

const HISTORY_PAGE = 200;

export type Phase = "idle" | "loading" | "ready" | "error";

/** The shopper of one shop on one page. */
export class Shopper {
  readonly phase = signal<Phase>("idle");
  readonly trouble = signal<Trouble>("offline");
  /** True for a moment when something asked for did not work. */
  readonly hiccup = signal(false);
  readonly link = signal<Link | null>(null);
  /** The session that is shown: the open one, else the last. */
  readonly conversation = computed<Conversation | null>(() => {
    const all = [...(this.link.value?.conversations.value.values() ?? [])];
    const open = all.filter((one) => isOpen(one.session.value));
    const shown = open.length > 0 ? open : all;
    return shown.reduce<Conversation | null>(
      (last, one) => (last === null || one.session.value.id > last.session.value.id ? one : last),
      null,
    );
  });

  private api: PersonalApi | null = null;
  private opening: Promise<bigint> | null = null;
  private stopWatching: () => void = () => undefined;

  constructor(
    private readonly origin: string,
    private readonly tenant: string,
    // The page may change its language at any time.
    private readonly locale: () => string,
    private readonly channel: string,
    private readonly identity: SignedIdentity | null,
  ) {}

  /** Find out who the shopper is, and connect. Does nothing when that has been done. */
  async start(): Promise<void> {
    if (this.phase.peek() === "loading" || this.phase.peek() === "ready") return;
    this.phase.value = "loading";
    try {
      const keyring = await this.identify();
      this.api = personalApi(this.origin, keyring);
      const link = new Link(this.origin, keyring, this.api);
      this.link.value = link;
      this.phase.value = "ready";
      void link.run();
      this.stopWatching = effect(() => {
        // The tokens were revoked or have ended: a visitor simply begins anew.
        if (link.state.value === "signed-out") queueMicrotask(() => this.again());
        const shown = this.conversation.value;
        if (shown?.incomplete.value) void this.fillFromHistory(shown, link);
      });
    } catch (error) {
      this.trouble.value = troubleOf(error);
      this.phase.value = "error";
    }
  }

  /** Try again after an error. */
  again(): void {
    this.stop();
    this.phase.value = "idle";
    void this.start();
  }

  /** Disconnect. */
  stop(): void {
    this.stopWatching();
    this.link.peek()?.stop();
    this.link.value = null;
  }

  /** Say something; opens a session when there is none. */
  async say(text: string): Promise<void> {
    await this.try(async () => this.link.peek()?.say(await this.session(), text));
  }

  /** Send a message again that had failed. */
  sayAgain(line: Line): void {
    this.link.peek()?.sayAgain(line);
  }

  /** Ask for a person. */
  async handOff(): Promise<void> {
    await this.try(async () => {
      const sessionId = await this.session();
      const { session } = await this.api!.session.requestHandoff({ sessionId, reason: HandoffReason.BUTTON });
      this.learn(session);
    });
  }

  /** End the session. */
  async end(): Promise<void> {
    const sessionId = this.conversation.peek()?.session.peek().id;
    if (sessionId === undefined) return;
    await this.try(async () => this.learn((await this.api!.session.endSession({ sessionId })).session));
  }

  /** Put the ended session away. */
  startAgain(): void {
    const ended = this.conversation.peek();
    if (ended && !isOpen(ended.session.peek())) this.link.peek()?.forget(ended.session.peek().id);
  }

  /** The shopper is typing. */
  typing(): void {
    const session = this.conversation.peek()?.session.peek();
    if (session && isOpen(session) && session.state !== SessionState.BOT) this.link.peek()?.type(session.id);
  }

  /** The shopper looks at the conversation. */
  seen(): void {
    const session = this.conversation.peek()?.session.peek();
    if (session) this.link.peek()?.markRead(session.id);
  }

  /** The log no longer has the beginning of a long conversation; the archive has it. */
  private async fillFromHistory(conversation: Conversation, link: Link): Promise<void> {
    conversation.incomplete.value = false;
    const sessionId = conversation.session.peek().id;
    let pageToken = "";
    try {
      do {
        const page = await this.api!.archive.listMessages({ sessionId, pageSize: HISTORY_PAGE, pageToken });
        conversation.prepend(page.messages, link.mine);
        pageToken = page.nextPageToken;
      } while (pageToken !== "");
    } catch (error) {
      // What is there stays; the next connection says again that something is missing.
      console.warn("octopus: history could not be read", troubleOf(error));
    }
  }

  private learn(session: Session | undefined): void {
    if (session) this.link.peek()?.learn(session);
  }

  /** The open session's id; one is opened when there is none. */
  private session(): Promise<bigint> {
    const open = this.conversation.peek()?.session.peek();
    if (open && isOpen(open)) return Promise.resolve(open.id);
    this.opening ??= this.api!.session
      .openSession({ channel: this.channel, locale: this.locale() })
      .then(({ session }) => {
        this.learn(session);
        return session!.id;
      })
      .finally(() => (this.opening = null));
    return this.opening;
  }

  private async try(work: () => Promise<unknown>): Promise<void> {
    try {
      await work();
    } catch (error) {
      if (error instanceof SignedOut) return this.again();
      this.hiccup.value = true;
      window.setTimeout(() => (this.hiccup.value = false), 4_000);
      throw error;
    }
  }

  private async identify(): Promise<Keyring> {
    const visitor = new Keyring(this.origin, `octopus:${this.tenant}:visitor`);
    const keyring = this.identity
      ? new Keyring(this.origin, `octopus:${this.tenant}:customer:${this.identity.customerId}`)
      : visitor;
    if (keyring.kept && (await this.stillGood(keyring))) return keyring;
    const identity = this.identity && {
      customerId: this.identity.customerId,
      displayName: this.identity.displayName,
      signedAtUnix: BigInt(this.identity.signedAtUnix),
      signature: this.identity.signature,
    };
    const { tokens, user } = await openApi(this.origin).auth.identifyShopper({
      tenantId: this.tenant,
      locale: this.locale(),
      ...(identity ? { identity } : {}),
    });
    keyring.keep(tokens!, user!.id, user!.displayName);
    if (this.identity && visitor.kept) await this.merge(keyring, visitor);
    return keyring;
  }

  /** Who was a visitor here until now is this customer: what was said so far becomes theirs. */
  private async merge(customer: Keyring, visitor: Keyring): Promise<void> {
    const refresh = visitor.kept!.refresh;
    visitor.forget();
    try {
      await personalApi(this.origin, customer).user.mergeVisitor({ visitorRefreshToken: refresh });
    } catch (error) {
      // The visitor's tokens may have ended; there is nothing to take over then, and no reason not to go on.
      console.warn("octopus: the visitor could not be merged", troubleOf(error));
    }
  }

  private async stillGood(keyring: Keyring): Promise<boolean> {
    try {
      await keyring.current();
      return true;
    } catch (error) {
      if (error instanceof SignedOut) return false;
      throw error;
    }
  }
}
