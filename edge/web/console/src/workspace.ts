// An agent's workspace: the link, the sessions on it, and what the agent does with them.

import { computed, effect, signal } from "@preact/signals";
import { timestampMs } from "@bufbuild/protobuf/wkt";
import { Code, ConnectError } from "@connectrpc/connect";
import { SenderKind } from "@octopus/contracts/octopus/chat/v1/message_pb";
import { Reason } from "@octopus/contracts/octopus/errors/v1/errors_pb";
import { Role } from "@octopus/contracts/octopus/options/v1/options_pb";
import { type Agent, AgentStatus, type Session, SessionState } from "@octopus/contracts/octopus/session/v1/session_pb";

import { type Failure, failureOf, metadataOf, openApi, type PersonalApi, personalApi, reasonOf } from "@octopus/core/api";
import { cannedApi } from "@octopus/core/canned";
import { type Conversation, isOpen, isTalking } from "@octopus/core/conversation";
import { Drafts } from "@octopus/core/drafts";
import { Link } from "@octopus/core/link";
import { languageOf } from "@octopus/core/locale";
import { presenceApi } from "@octopus/core/presence";
import { lasting, ofTab } from "@octopus/core/storage";
import type { Keyring } from "@octopus/core/tokens";
import { userApi } from "@octopus/core/users";
import { lastAt, stored, waitsSince } from "./answering";
import { CannedReplies, type Entry } from "./canned";
import { History } from "./history";
import { Queue } from "./queue";
import { isNote } from "./shown";
import { longestFirst } from "./unanswered";

/** Which column a narrow screen shows. */
export type Pane = "inbox" | "conversation" | "customer";

/** Which list the inbox shows. */
export type Tab = "mine" | "waiting" | "ended";

/** What the page tells the agent for a moment. */
export type Notice =
  | Failure
  | { taken: string }
  | "lost"
  | "recallTooLate"
  | "recallFailed"
  | "editFailed"
  | "editSensitive"
  | "pickAway"
  | "pickNoPlace"
  | "notEnded";

/** The reply that is being written, for those who reach it from elsewhere on the page. */
export interface Reply {
  insert: (entry: Entry) => void;
  sendAndEnd: () => void;
}

/** Why nobody is logged in any more. */
export type Leaving = "asked" | "expired" | "disabled" | "revoked";

const QUEUE_EVERY_MS = 10_000;
// While the agent looks at the waiting list.
const WAITING_EVERY_MS = 2_000;
const ENDED_SHOWN = 20;
// The last lines of an ended session are changes of its state; what was said stands before them.
const GLANCE = 6;
// A reply that is not stored by then leaves the session open.
const STORED_WITHIN_MS = 10_000;
const NOTICE_LASTS_MS = 6_000;
const AGENT = "agent:";

/** The workspace of one agent who is logged in. */
export class Workspace {
  readonly api: PersonalApi;
  readonly users: ReturnType<typeof userApi>;
  readonly link: Link;
  readonly presence: ReturnType<typeof presenceApi>;
  readonly queue: Queue;
  readonly canned: CannedReplies;
  readonly name: string;
  readonly tenant: string;

  /** The agent as the queue sees one; null until it is known. */
  readonly agent = signal<Agent | null>(null);
  /** How many customers of the shop wait. */
  readonly waiting = signal(0);
  /** False until the first list of sessions came. */
  readonly ready = signal(false);
  readonly notice = signal<Notice | null>(null);
  /** The reply that is being written; null while there is none. */
  readonly composer = signal<Reply | null>(null);
  /** Whether the canned replies are being edited. */
  readonly managing = signal(false);
  /** Id of the session that is open on the page; 0 for none. */
  readonly selectedId = signal(0n);
  /** The session to which the way back from a former one leads; 0 for none. */
  readonly cameFrom = signal(0n);
  readonly pane = signal<Pane>("inbox");
  readonly tab = signal<Tab>("mine");
  /** What the agent looks for in the lists; empty shows all. */
  readonly filter = signal("");
  /** Sessions with something in the air, so that a button is not pressed twice. */
  readonly busy = signal<ReadonlySet<bigint>>(new Set());
  /** Up to where the agent has read each session. */
  private readonly seen = signal<ReadonlyMap<bigint, bigint>>(new Map());
  private readonly drafts: Drafts;

  private readonly mine = computed(() =>
    [...this.link.conversations.value.values()].filter((one) => one.session.value.agentId === this.link.userId),
  );
  /** Offers, the one that waits longest first. */
  readonly offers = computed(() => this.inState(SessionState.ASSIGNED).sort(by((session) => session.handoffAt)));
  /** Sessions in which the agent talks: the customer who has waited longest for an answer first. */
  readonly active = computed(() =>
    this.mine.value
      .filter((one) => isTalking(one.session.value))
      .map((one) => ({ one, since: waitsSince(one), lastAt: lastAt(one) }))
      .sort(longestFirst)
      .map(({ one }) => one),
  );
  /** Sessions that ended, the last first. */
  readonly ended = computed(() =>
    this.inState(SessionState.ENDED)
      .sort(by((session) => session.endedAt))
      .reverse()
      .slice(0, ENDED_SHOWN),
  );
  /** The inbox from top to bottom. */
  readonly inbox = computed(() => [...this.offers.value, ...this.active.value, ...this.ended.value]);
  readonly selected = computed(() => this.link.conversations.value.get(this.selectedId.value) ?? null);
  /** Everything that has not been read. */
  readonly unread = computed(() => this.active.value.reduce((sum, one) => sum + this.unreadOf(one), 0));

  private readonly histories = new Map<bigint, History>();
  private readonly seenKey: string;
  private readonly openKey: string;
  private readonly stopWatching: (() => void)[] = [];
  /** What the shop is called; empty until it is known. */
  private shop = { zh: "", en: "" };
  private queueTimer = 0;
  private waitingTimer = 0;
  private noticeTimer = 0;

  constructor(
    private readonly origin: string,
    private readonly keyring: Keyring,
    /** Called when nobody is logged in any more. */
    private readonly leave: (why: Leaving) => void,
  ) {
    this.api = personalApi(origin, keyring);
    this.users = userApi(origin, keyring);
    this.link = new Link(origin, keyring, this.api);
    this.presence = presenceApi(origin, keyring);
    this.queue = new Queue(this.api);
    this.canned = new CannedReplies(cannedApi(origin, keyring), this.link.userId, (session) => ({
      customer: session.customerName,
      agent: this.name,
      shop: this.shop[languageOf(session.locale)],
    }));
    this.name = keyring.kept?.displayName ?? "";
    this.tenant = keyring.kept?.note ?? "";
    this.seenKey = `octopus:seen:${this.link.userId}`;
    this.seen.value = readSeen(this.seenKey);
    this.drafts = new Drafts(`${AGENT}${this.link.userId}`);
    this.drafts.forgetOthers(AGENT);
    this.openKey = `octopus:open:${AGENT}${this.link.userId}`;
    [this.selectedId.value, this.cameFrom.value] = readOpen(this.openKey);
    if (this.selectedId.peek() !== 0n) this.pane.value = "conversation";
  }

  /** Connect, and stay so until `stop`. */
  start(): void {
    void this.link.run();
    this.stopWatching.push(
      effect(() => {
        const state = this.link.state.value;
        if (state === "online") void this.catchUp();
        if (state === "signed-out") this.leave(leavingOf(this.link.lastEnd.peek()));
      }),
      // A reload of the tab shows the same conversation again.
      effect(() => ofTab.set(this.openKey, `${this.selectedId.value} ${this.cameFrom.value}`)),
      // A change of one's sessions often goes with a change of the queue.
      effect(() => {
        void this.offers.value.length;
        void this.active.value.length;
        void this.refreshQueue();
      }),
      effect(() => this.noticeLoss()),
      effect(() => {
        const change = this.link.changeRefused.value;
        if (change?.kind === "edit") this.tell(change.reason === Reason.SENSITIVE_WORD ? "editSensitive" : "editFailed");
        else if (change) this.tell(change.reason === Reason.TOO_LATE ? "recallTooLate" : "recallFailed");
      }),
      effect(() => {
        window.clearInterval(this.waitingTimer);
        if (this.tab.value !== "waiting") return;
        this.waitingTimer = window.setInterval(() => void this.refreshWaiting(), WAITING_EVERY_MS);
        void this.refreshWaiting();
      }),
    );
    this.queueTimer = window.setInterval(() => void this.refreshQueue(), QUEUE_EVERY_MS);
  }

  /** Disconnect. */
  stop(): void {
    for (const stop of this.stopWatching) stop();
    window.clearInterval(this.queueTimer);
    window.clearInterval(this.waitingTimer);
    window.clearTimeout(this.noticeTimer);
    this.link.stop();
  }

  /** Become away, and log out of this browser. */
  async logOut(): Promise<void> {
    await this.api.session.setAgentStatus({ status: AgentStatus.AWAY }).catch(() => undefined);
    this.stop();
    this.forgetTab();
    await this.keyring.revoke().catch(() => undefined);
    this.leave("asked");
  }

  /** Log out of every browser and device. Raise the failure when the platform did not do it: then nobody is logged out. */
  async logOutEverywhere(): Promise<void> {
    await this.api.session.setAgentStatus({ status: AgentStatus.AWAY }).catch(() => undefined);
    await this.api.auth.logOutEverywhere({});
    this.stop();
    this.forgetTab();
    this.keyring.forget();
    this.leave("asked");
  }

  /** Change the agent's password; other browsers and devices are logged out, this one goes on. Raise the failure. */
  async changePassword(oldPassword: string, newPassword: string): Promise<void> {
    await this.keyring.exchange(async (access) => {
      const headers = { authorization: `Bearer ${access}` };
      const { tokens } = await openApi(this.origin).auth.changePassword({ oldPassword, newPassword }, { headers });
      return tokens!;
    });
  }

  /** What is written in a session and not sent: the reply, or the note beside it. */
  draftOf(sessionId: bigint, note = false): string {
    return this.drafts.read(note ? `${sessionId}:note` : `${sessionId}`);
  }

  /** Keep what is written in a session; an empty text is forgotten. */
  keepDraft(sessionId: bigint, text: string, note = false): void {
    this.drafts.write(note ? `${sessionId}:note` : `${sessionId}`, text);
  }

  /** The history of a conversation. */
  historyOf(conversation: Conversation): History {
    const { id } = conversation.session.peek();
    const known = this.histories.get(id) ?? new History(this.api, conversation, this.link.mine);
    this.histories.set(id, known);
    return known;
  }

  /** How many messages of the customer have not been read. Who answers has read, be it on another device. */
  unreadOf(conversation: Conversation): number {
    if (!isTalking(conversation.session.value)) return 0;
    const lines = conversation.lines.value;
    const seen = this.seen.value.get(conversation.session.value.id) ?? 0n;
    const answered = lines.findLast((line) => line.delivery === "sent" && !isNote(line.message))?.message.seq ?? 0n;
    const from = answered > seen ? answered : seen;
    return lines.filter(({ message }) => message.sender?.kind === SenderKind.CUSTOMER && message.seq > from).length;
  }

  /** Show a session; 0 shows none. */
  select(sessionId: bigint): void {
    this.selectedId.value = sessionId;
    this.cameFrom.value = 0n;
    this.pane.value = sessionId === 0n ? "inbox" : "conversation";
  }

  /** Show a former session of the same customer, with a way back. */
  visit(session: Session): void {
    const from = this.cameFrom.peek() || this.selectedId.peek();
    this.link.learn(session);
    this.select(session.id);
    this.cameFrom.value = from;
  }

  /** The agent looks at the end of a session. */
  markRead(conversation: Conversation): void {
    const { id } = conversation.session.peek();
    const last = conversation.lastSeq;
    if (document.hidden || last <= (this.seen.peek().get(id) ?? 0n)) return;
    this.seen.value = new Map(this.seen.peek()).set(id, last);
    lasting.set(this.seenKey, JSON.stringify([...this.seen.peek()].map(([key, seq]) => [`${key}`, `${seq}`])));
    if (isTalking(conversation.session.peek())) this.link.markRead(id);
  }

  /** Accept an offer and show it. */
  async accept(session: Session): Promise<void> {
    await this.attempt(session.id, async () => {
      const response = await this.api.session.acceptSession({ sessionId: session.id });
      if (response.session) this.link.learn(response.session);
      this.select(session.id);
    });
  }

  /** Take a session out of the queue and show it; tell who was faster when somebody was. */
  async pick(session: Session): Promise<void> {
    await this.attempt(session.id, async () => {
      try {
        const response = await this.api.session.pickSession({ sessionId: session.id });
        if (response.session) this.link.learn(response.session);
        this.queue.drop(session.id);
        this.tab.value = "mine";
        this.select(session.id);
        // The beginning of the conversation was said before this page followed it.
        const conversation = this.link.conversations.peek().get(session.id);
        if (conversation) void this.historyOf(conversation).open();
      } catch (error) {
        const notice = await this.refusedPick(error);
        if (!notice) throw error;
        this.tell(notice);
      }
    });
    await this.refreshWaiting();
  }

  /** End a session. */
  async end(session: Session): Promise<void> {
    await this.attempt(session.id, async () => {
      const response = await this.api.session.endSession({ sessionId: session.id });
      if (response.session) this.link.learn(response.session);
    });
  }

  /** Send a last reply, and end the session once it is stored. */
  async sendAndEnd(conversation: Conversation, reply: string, quotedSeq: bigint): Promise<void> {
    const session = conversation.session.peek();
    const sent = this.link.say(session.id, reply, quotedSeq);
    if (!(await stored(conversation, sent, STORED_WITHIN_MS))) return this.tell("notEnded");
    await this.end(session);
  }

  /** Read the canned replies again when they are not fresh. */
  async refreshCanned(): Promise<void> {
    try {
      await this.canned.refresh();
    } catch (error) {
      this.tell(failureOf(error));
    }
  }

  /** Set the agent's own status. */
  async setStatus(status: AgentStatus): Promise<void> {
    await this.attempt(0n, async () => {
      const response = await this.api.session.setAgentStatus({ status });
      this.agent.value = response.agent ?? null;
    });
  }

  /** Show a notice for a while. */
  tell(notice: Notice): void {
    if (!this.keyring.kept) return this.leave(leavingOf(this.link.lastEnd.peek()));
    window.clearTimeout(this.noticeTimer);
    this.notice.value = notice;
    this.noticeTimer = window.setTimeout(() => (this.notice.value = null), NOTICE_LASTS_MS);
  }

  private inState(state: SessionState): Conversation[] {
    return this.mine.value.filter((one) => one.session.value.state === state);
  }

  private async attempt(sessionId: bigint, work: () => Promise<void>): Promise<void> {
    if (this.busy.peek().has(sessionId)) return;
    this.busy.value = new Set(this.busy.peek()).add(sessionId);
    try {
      await work();
    } catch (error) {
      this.tell(failureOf(error));
      if (sessionId !== 0n) await this.lookAgain(sessionId);
    } finally {
      const rest = new Set(this.busy.peek());
      rest.delete(sessionId);
      this.busy.value = rest;
    }
  }

  private async refusedPick(error: unknown): Promise<Notice | undefined> {
    if (reasonOf(error) === Reason.AGENT_NOT_AVAILABLE) {
      await this.refreshQueue();
      return this.agent.peek()?.status === AgentStatus.AWAY ? "pickAway" : "pickNoPlace";
    }
    const agentId = metadataOf(error).get("agent_id");
    if (agentId === undefined) return undefined;
    const { agents } = await this.api.session.listAgents({ pageSize: 200 }).catch(() => ({ agents: [] as Agent[] }));
    return { taken: agents.find(({ userId }) => `${userId}` === agentId)?.displayName ?? "" };
  }

  private async refreshWaiting(): Promise<void> {
    if (document.hidden || this.link.state.peek() !== "online") return;
    // The banner tells of a broken connection; the list comes again with the next round.
    await this.queue.refresh().catch(() => undefined);
    if (this.queue.ready.peek()) this.waiting.value = this.queue.sessions.peek().length;
  }

  /** After each connection: what happened to sessions while nobody listened. */
  private async catchUp(): Promise<void> {
    try {
      const [open, ended] = await Promise.all([
        this.api.session.listOpenSessions({}),
        this.api.session.listSessions({ states: [SessionState.ENDED], pageSize: ENDED_SHOWN }),
      ]);
      for (const session of [...open.sessions, ...ended.sessions]) this.link.learn(session);
      const known = new Set(open.sessions.map((session) => session.id));
      const gone = [...this.link.conversations.peek().values()]
        .map((one) => one.session.peek())
        .filter((session) => isOpen(session) && !known.has(session.id));
      await Promise.all(gone.map((session) => this.lookAgain(session.id)));
      // The one that was open before a reload may be an older one.
      const shown = this.selectedId.peek();
      if (shown !== 0n && !this.selected.peek()) await this.lookAgain(shown);
      this.forgetOldMarks();
      this.ready.value = true;
      await Promise.all(this.ended.peek().map((one) => this.glance(one)));
      await this.canned.refresh();
      const me = await this.users.getMe({});
      this.shop = { zh: me.shopNameZh, en: me.shopNameEn };
      this.canned.mayShare.value = (me.user?.roles ?? []).some((role) => role === Role.SUPERVISOR || role === Role.ADMIN);
    } catch (error) {
      this.tell(failureOf(error));
    }
    await this.refreshQueue();
  }

  /** Fetch the last words of a session that ended before this page was opened. */
  private async glance(conversation: Conversation): Promise<void> {
    if (conversation.lines.peek().length > 0) return;
    const sessionId = conversation.session.peek().id;
    const { messages } = await this.api.archive.listMessages({ sessionId, pageSize: GLANCE });
    conversation.prepend(messages, this.link.mine);
  }

  private async lookAgain(sessionId: bigint): Promise<void> {
    try {
      const { session } = await this.api.session.getSession({ sessionId });
      if (session) this.link.learn(session);
    } catch (error) {
      // What one may not see any more has gone to somebody else.
      if (error instanceof ConnectError && error.code === Code.NotFound) this.link.forget(sessionId);
    }
  }

  private async refreshQueue(): Promise<void> {
    if (document.hidden || this.link.state.peek() !== "online") return;
    try {
      const [me, all] = await Promise.all([
        this.api.session.getAgent({}),
        this.api.session.listAgents({ pageSize: 1 }),
      ]);
      this.agent.value = me.agent ?? null;
      this.waiting.value = all.waitingSessions;
    } catch {
      // The banner tells of a broken connection; the numbers come again with the next round.
    }
  }

  private noticeLoss(): void {
    const id = this.selectedId.value;
    // Right after a reload nothing is known yet.
    if (id === 0n || !this.ready.value) return;
    const session = this.selected.value?.session.value;
    if (session && (session.agentId === this.link.userId || !isOpen(session))) return;
    this.select(0n);
    this.tell("lost");
  }

  /** Leave nothing of this person in the tab. */
  private forgetTab(): void {
    this.drafts.forget();
    ofTab.remove(this.openKey);
  }

  private forgetOldMarks(): void {
    const known = this.link.conversations.peek();
    this.seen.value = new Map([...this.seen.peek()].filter(([id]) => known.has(id)));
  }
}

function by(moment: (session: Session) => Parameters<typeof timestampMs>[0] | undefined) {
  const at = (conversation: Conversation) => {
    const timestamp = moment(conversation.session.value);
    return timestamp ? timestampMs(timestamp) : 0;
  };
  return (one: Conversation, other: Conversation) => at(one) - at(other);
}

function readSeen(key: string): ReadonlyMap<bigint, bigint> {
  const kept = JSON.parse(lasting.get(key) ?? "[]") as [string, string][];
  return new Map(kept.map(([id, seq]) => [BigInt(id), BigInt(seq)]));
}

/** The session that is open and the one to which the way back leads; 0 for none. */
function readOpen(key: string): [bigint, bigint] {
  const [shown = 0n, from = 0n] = (ofTab.get(key) ?? "").split(" ").filter(Boolean).map(BigInt);
  return [shown, from];
}

function leavingOf(end: Reason): Leaving {
  switch (end) {
    case Reason.DISABLED:
      return "disabled";
    case Reason.TOKEN_REVOKED:
      return "revoked";
    default:
      return "expired";
  }
}
