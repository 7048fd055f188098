// A shopper's side of one shop: who they are, their link, and their session.

import { HandoffReason, type Session, SessionState } from "@octopus/contracts/octopus/session/v1/session_pb";
import { type Failure, failureOf, openApi, type PersonalApi, personalApi, SignedOut, troubleOf } from "@octopus/core/api";
import { textOf } from "@octopus/core/content";
import { type Conversation, isOpen, type Line } from "@octopus/core/conversation";
import { Drafts } from "@octopus/core/drafts";
import { Link } from "@octopus/core/link";
import { lasting } from "@octopus/core/storage";
import { Keyring } from "@octopus/core/tokens";
import { computed, effect, signal } from "@preact/signals";

/** What the shop's server signed about the person who looks at its page: `octopus.user.v1.SignedIdentity` in JSON. */
export interface SignedIdentity {
  customerId: string;
  displayName: string;
  signedAtUnix: string | number;
  signature: string;
}

const HISTORY_PAGE = 200;
const REFUSAL_LASTS_MS = 5_000;
// There is one box to write in; its text goes to the session that is open when it is sent.
const DRAFT = "next";

export type Phase = "idle" | "loading" | "ready" | "error";

/** The shopper of one shop on one page. */
export class Shopper {
  readonly phase = signal<Phase>("idle");
  /** Why the shopper could not be connected. */
  readonly failure = signal<Failure | null>(null);
  /** For a moment: why something the shopper asked for was not done. */
  readonly refused = signal<Failure | null>(null);
  /** What is written and not sent. */
  readonly draft = signal("");
  /** True while the last session is not there yet, if there may be one: an empty greeting would say that it is gone. */
  readonly looking = signal(false);
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
  private stopWatching: (() => void)[] = [];
  private refusalTimer = 0;
  private starts = 0;
  /** The name under which the browser keeps what concerns this shopper. */
  private readonly person: string;
  private readonly drafts: Drafts;

  constructor(
    private readonly origin: string,
    private readonly tenant: string,
    // The page may change its language at any time.
    private readonly locale: () => string,
    private readonly channel: string,
    private readonly identity: SignedIdentity | null,
  ) {
    this.person = identity ? `${tenant}:customer:${identity.customerId}` : visitorOf(tenant);
    this.drafts = new Drafts(this.person);
    this.draft.value = this.drafts.read(DRAFT);
    if (identity) this.takeOverDraft();
  }

  /** Find out who the shopper is, and connect. Does nothing when that has been done. */
  async start(): Promise<void> {
    if (this.phase.peek() === "loading" || this.phase.peek() === "ready") return;
    this.phase.value = "loading";
    this.looking.value = this.mayHaveTalked;
    const start = ++this.starts;
    try {
      const keyring = await this.identify();
      // The page may have changed its mind meanwhile.
      if (start !== this.starts) return;
      this.api = personalApi(this.origin, keyring);
      const link = new Link(this.origin, keyring, this.api);
      this.link.value = link;
      this.phase.value = "ready";
      void link.run();
      this.watch(link);
    } catch (error) {
      if (start !== this.starts) return;
      this.failure.value = failureOf(error);
      this.phase.value = "error";
    }
  }

  /** Try again after an error. */
  again(): void {
    this.stop();
    void this.start();
  }

  /** Disconnect. */
  stop(): void {
    for (const stop of this.stopWatching.splice(0)) stop();
    this.link.peek()?.stop();
    this.link.value = null;
    this.phase.value = "idle";
    this.starts++;
  }

  /** Leave nothing of what was written. */
  forgetDraft(): void {
    this.draft.value = "";
    this.drafts.forget();
  }

  /** Say something; opens a session when there is none. Return whether that could be done. */
  say(text: string): Promise<boolean> {
    const quoting = this.conversation.peek()?.quoting;
    const quoted = quoting?.peek()?.message;
    if (quoting) quoting.value = null;
    return this.attempt(async () => {
      const sessionId = await this.session();
      // A quote stays in its own session.
      this.link.peek()?.say(sessionId, text, quoted?.sessionId === sessionId ? quoted.seq : 0n);
    });
  }

  /** Quote a line in the next message. */
  quote(line: Line): void {
    const conversation = this.conversation.peek();
    if (conversation) conversation.quoting.value = line;
  }

  /** Send a message again that had failed; in a new session when its own has ended. */
  sayAgain(line: Line): void {
    const session = this.link.peek()?.conversations.peek().get(line.message.sessionId)?.session.peek();
    if (session && isOpen(session)) this.link.peek()?.sayAgain(line);
    else void this.say(textOf(line.message));
  }

  /** Ask for a person. */
  handOff(): Promise<boolean> {
    return this.attempt(async () => {
      const sessionId = await this.session();
      const { session } = await this.api!.session.requestHandoff({ sessionId, reason: HandoffReason.BUTTON });
      this.learn(session);
    });
  }

  /** End the session. */
  async end(): Promise<void> {
    const sessionId = this.conversation.peek()?.session.peek().id;
    if (sessionId === undefined) return;
    await this.attempt(async () => this.learn((await this.api!.session.endSession({ sessionId })).session));
  }

  /** Say how the service was in a session, from 1 to 5 and perhaps in words. */
  rate(sessionId: bigint, score: number, comment: string): Promise<boolean> {
    return this.attempt(async () => {
      this.learn((await this.api!.session.rateSession({ sessionId, score, comment })).session);
    });
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

  private watch(link: Link): void {
    let looked = false;
    this.stopWatching.push(
      // The tokens were revoked or have ended: a visitor simply begins anew.
      effect(() => {
        if (link.state.value === "signed-out") queueMicrotask(() => this.again());
      }),
      effect(() => {
        const shown = this.conversation.value;
        if (shown?.incomplete.value) void this.fillFromHistory(shown, link);
        if (shown) lasting.set(this.lastSession, shown.session.value.id.toString());
      }),
      // The platform tells of open sessions. When there is none, the last one stays readable.
      effect(() => {
        if (link.state.value !== "online" || looked) return;
        looked = true;
        void this.recall(link).finally(() => (this.looking.value = false));
      }),
      effect(() => this.drafts.write(DRAFT, this.draft.value)),
    );
  }

  private get lastSession(): string {
    return `octopus:${this.person}:last`;
  }

  /** A visitor is known to this browser alone; a customer may have talked on another device. */
  private get mayHaveTalked(): boolean {
    return this.identity !== null || lasting.get(this.lastSession) !== null;
  }

  /** Show the session that ended last, on whatever device, when there is one and none is open. */
  private async recall(link: Link, attempts = 3): Promise<void> {
    if (!this.mayHaveTalked || this.conversation.peek()) return;
    try {
      const { sessions } = await this.api!.session.listSessions({ pageSize: 1 });
      if (!sessions[0] || this.conversation.peek()) return;
      const conversation = link.learn(sessions[0]);
      conversation.incomplete.value = true;
    } catch (error) {
      if (attempts > 1 && link === this.link.peek()) {
        setTimeout(() => void this.recall(link, attempts - 1), 2_000);
        return;
      }
      // A greeting is all there is to show then.
      console.warn("octopus: the last session could not be read", troubleOf(error));
    }
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

  private async attempt(work: () => Promise<unknown>): Promise<boolean> {
    window.clearTimeout(this.refusalTimer);
    this.refused.value = null;
    try {
      await work();
      return true;
    } catch (error) {
      if (error instanceof SignedOut) this.again();
      else {
        const failure = failureOf(error);
        this.refused.value = failure;
        const lasts = Math.max(REFUSAL_LASTS_MS, failure.retryAfterS * 1_000);
        this.refusalTimer = window.setTimeout(() => (this.refused.value = null), lasts);
      }
      return false;
    }
  }

  private async identify(): Promise<Keyring> {
    const visitor = new Keyring(this.origin, `octopus:${visitorOf(this.tenant)}`);
    const keyring = this.identity ? new Keyring(this.origin, `octopus:${this.person}`) : visitor;
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
      const { userApi } = await import("@octopus/core/users");
      await userApi(this.origin, customer).mergeVisitor({ visitorRefreshToken: refresh });
    } catch (error) {
      // The visitor's tokens may have ended; there is nothing to take over then, and no reason not to go on.
      console.warn("octopus: the visitor could not be merged", troubleOf(error));
    }
  }

  /** What a visitor was writing goes with them when the shop learns who they are. */
  private takeOverDraft(): void {
    const drafts = new Drafts(visitorOf(this.tenant));
    this.draft.value ||= drafts.read(DRAFT);
    drafts.forget();
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

/** The name of whoever a shop does not know. */
function visitorOf(tenant: string): string {
  return `${tenant}:visitor`;
}
