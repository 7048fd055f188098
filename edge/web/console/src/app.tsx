// The agents' page: who is logged in, the bar above, and the three columns.

import { useComputed, useSignal, useSignalEffect } from "@preact/signals";
import { useEffect, useRef } from "preact/hooks";
import { AgentStatus } from "@octopus/contracts/octopus/session/v1/session_pb";

import { switchLanguage } from "@octopus/core/language";
import { Keyring } from "@octopus/core/tokens";
import { ConversationColumn } from "./conversation";
import { CustomerColumn } from "./customer";
import { Desk } from "./desk";
import { Icon, Logo } from "./icons";
import { Inbox } from "./inbox";
import { onKeys } from "./keys";
import { now } from "./now";
import { customerName } from "./shown";
import { SignIn } from "./signin";
import { words } from "./words";

const ORIGIN = location.origin;
const TOKENS = "octopus:agent";

/** The whole page. */
export function App() {
  const keyring = useSignal(new Keyring(ORIGIN, TOKENS)).value;
  const desk = useSignal<Desk | null>(null);
  const expired = useSignal(false);
  const enter = () => {
    const opened = new Desk(ORIGIN, keyring, (unasked) => {
      expired.value = unasked;
      opened.stop();
      desk.value = null;
    });
    desk.value = opened;
    opened.start();
  };
  useEffect(() => {
    if (keyring.kept) enter();
    // Another tab logged in as somebody else, or out.
    const onStorage = (event: StorageEvent) => {
      if (event.key !== TOKENS) return;
      const userId = keyring.kept?.userId;
      if (desk.peek() && userId !== desk.peek()!.link.userId.toString()) location.reload();
    };
    window.addEventListener("storage", onStorage);
    return () => window.removeEventListener("storage", onStorage);
  }, []);
  return desk.value ? (
    <Workplace key={desk.value.link.userId.toString()} desk={desk.value} />
  ) : (
    <SignIn origin={ORIGIN} keyring={keyring} expired={expired.value} onDone={enter} />
  );
}

function Workplace({ desk }: { desk: Desk }) {
  const help = useRef<HTMLDialogElement>(null);
  useTitle(desk);
  useEffect(() => onKeys(desk, () => help.current?.showModal()), [desk]);
  return (
    <div class={`workplace show-${desk.pane.value}`}>
      <Bar desk={desk} onHelp={() => help.current?.showModal()} />
      <Banner desk={desk} />
      <div class="columns">
        <Inbox desk={desk} />
        <ConversationColumn desk={desk} />
        <CustomerColumn desk={desk} />
      </div>
      <Notices desk={desk} />
      <Announcements desk={desk} />
      <dialog ref={help} class="dialog" aria-labelledby="help-title" data-testid="help">
        <h2 id="help-title">{words.value.keysTitle}</h2>
        <dl class="keys">
          {words.value.keys.map(([key, meaning]) => (
            <div key={key}>
              <dt><kbd>{key}</kbd></dt>
              <dd>{meaning}</dd>
            </div>
          ))}
        </dl>
        <div class="dialog-foot">
          <button type="button" class="quiet" onClick={() => help.current?.close()}>{words.value.close}</button>
        </div>
      </dialog>
    </div>
  );
}

const STATUSES = [
  ["available", AgentStatus.AVAILABLE],
  ["busy", AgentStatus.BUSY],
  ["away", AgentStatus.AWAY],
] as const;

function Bar({ desk, onHelp }: { desk: Desk; onHelp: () => void }) {
  const text = words.value;
  const agent = desk.agent.value;
  const status = STATUSES.find(([, value]) => value === agent?.status)?.[0] ?? "away";
  const load = desk.offers.value.length + desk.active.value.length;
  const capacity = agent?.capacity ?? 0;
  const choose = (name: string) => {
    const chosen = STATUSES.find(([one]) => one === name);
    if (chosen) void desk.setStatus(chosen[1]);
  };
  return (
    <header class="bar">
      <Logo />
      <div class="whose">
        <strong>{desk.name}</strong>
        <span class="soft">{desk.tenant}</span>
      </div>
      <label class={`status ${status}`} title={text.status.hints[status]}>
        <span class="hidden">{text.status.label}</span>
        <select
          value={status}
          disabled={agent === null || desk.busy.value.has(0n)}
          onChange={(event) => choose(event.currentTarget.value)}
          data-testid="status-select"
        >
          {STATUSES.map(([name]) => (
            <option key={name} value={name}>{text.status[name]}</option>
          ))}
        </select>
      </label>
      {capacity > 0 && (
        <span class="load" role="img" aria-label={text.loadLabel(load, capacity)} data-testid="load">
          <span class="load-text">{text.load(load, capacity)}</span>
          <span class="pips">
            {Array.from({ length: Math.min(capacity, 10) }, (_, index) => (
              <i key={index} class={index < (load / capacity) * Math.min(capacity, 10) ? "full" : ""} />
            ))}
          </span>
        </span>
      )}
      <span class={`queue ${desk.waiting.value > 0 ? "some" : ""}`} role="img" aria-label={text.waitingLabel(desk.waiting.value)} data-testid="waiting">
        {text.waiting(desk.waiting.value)}
      </span>
      <span class="gap" />
      <button type="button" class="plain language" onClick={switchLanguage} data-testid="language">{text.otherLanguage}</button>
      <button type="button" class="plain wide-only" aria-label={text.help} title={`${text.help} (?)`} onClick={onHelp}>
        <Icon name="help" />
      </button>
      <button type="button" class="plain" aria-label={text.logOut} title={text.logOut} onClick={() => void desk.logOut()} data-testid="log-out">
        <Icon name="leave" />
      </button>
    </header>
  );
}

function Banner({ desk }: { desk: Desk }) {
  const text = words.value;
  const state = desk.link.state.value;
  const seconds = useComputed(() => Math.max(0, Math.ceil((desk.link.retryAt.value - now.value) / 1000)));
  const shown = state === "reconnecting" || state === "offline";
  return (
    <div class="banner" role="status" hidden={!shown} data-testid="connection-banner" data-state={state}>
      {shown && (
        <>
          <i class="pulse" />
          {state === "offline" ? text.offline : text.reconnecting(seconds.value)}
          {state === "reconnecting" && seconds.value > 1 && (
            <button type="button" class="link" onClick={desk.link.retryNow}>{text.retryNow}</button>
          )}
        </>
      )}
    </div>
  );
}

function Notices({ desk }: { desk: Desk }) {
  const notice = desk.notice.value;
  return (
    <div class="notice-place" role="alert">
      {notice && (
        <p class="notice" data-testid="notice">
          {"lost" in notice ? words.value.lost : words.value.troubles[notice.trouble]}
          <button type="button" class="link" onClick={() => (desk.notice.value = null)}>{words.value.dismiss}</button>
        </p>
      )}
    </div>
  );
}

/** Tells those who listen instead of look that somebody waits. */
function Announcements({ desk }: { desk: Desk }) {
  const text = words.value;
  const offers = desk.offers.value;
  return (
    <p class="hidden" aria-live="assertive">
      {offers.length === 1
        ? text.newOffer(customerName(offers[0]!.session.value, text))
        : offers.length > 1
          ? text.newOffers(offers.length)
          : ""}
    </p>
  );
}

/** The tab's title counts what waits, and calls while somebody does. */
function useTitle(desk: Desk): void {
  useSignalEffect(() => {
    const text = words.value;
    const offers = desk.offers.value;
    const count = offers.length + desk.unread.value;
    const calling = offers.length > 0 && Math.floor(now.value / 1000) % 2 === 0;
    const name = offers[0] ? customerName(offers[0].session.value, text) : "";
    document.title = (count > 0 ? `(${count}) ` : "") + (calling ? text.newOffer(name) : text.title);
  });
}
