// What the command palette offers: made from what the page has, so that none of it waits for the platform.

import { AgentStatus } from "@octopus/contracts/octopus/session/v1/session_pb";

import { switchLanguage } from "@octopus/core/language";
import { clip } from "@octopus/core/text";
import { customerName } from "./shown";
import type { Words } from "./words";
import type { Workspace } from "./workspace";

const LONGEST_HINT = 60;

/** One thing to do. */
export interface Command {
  /** Unique in the list. */
  id: string;
  label: string;
  hint: string;
  run: () => void;
}

/** Everything that can be done now. */
export function commandsOf(
  workspace: Workspace,
  text: Words,
  open: { alerts: () => void; account: () => void; help: () => void },
): Command[] {
  return [
    ...chats(workspace, text),
    ...replies(workspace, text),
    ...statuses(workspace, text),
    // Never the first, so that nobody ends a chat by pressing Enter once too often.
    ...inTheChat(workspace, text),
    ...page(workspace, text, open),
  ];
}

/** The commands that contain every word that was typed, in their order. */
export function matching(commands: readonly Command[], typed: string): Command[] {
  const wanted = typed.toLowerCase().split(/\s+/).filter(Boolean);
  return commands.filter(({ label, hint }) => {
    const there = `${label} ${hint}`.toLowerCase();
    return wanted.every((word) => there.includes(word));
  });
}

function inTheChat(workspace: Workspace, text: Words): Command[] {
  const composer = workspace.composer.value;
  const session = workspace.selected.value?.session.value;
  if (!composer || !session) return [];
  const name = customerName(session, text);
  return [
    { id: "send-end", label: text.palette.sendAndEnd, hint: `${name} · Ctrl+Enter`, run: composer.sendAndEnd },
    { id: "end", label: text.end, hint: name, run: askToEnd },
  ];
}

/** Ask whether to end the open session, as the button does. */
export function askToEnd(): void {
  document.querySelector<HTMLElement>("[data-testid=end-session]")?.click();
}

function chats(workspace: Workspace, text: Words): Command[] {
  const accept = workspace.offers.value.map((one) => {
    const session = one.session.value;
    const name = customerName(session, text);
    return { id: `accept-${session.id}`, label: text.acceptLabel(name), hint: text.offers, run: () => void workspace.accept(session) };
  });
  const others = workspace.active.value.filter((one) => one.session.value.id !== workspace.selectedId.value);
  const go = others.map((one) => {
    const session = one.session.value;
    const unread = workspace.unreadOf(one);
    return {
      id: `go-${session.id}`,
      label: text.palette.go(customerName(session, text)),
      hint: unread > 0 ? text.unread(unread) : text.active,
      run: () => workspace.select(session.id),
    };
  });
  const pick = workspace.queue.sessions.value.map((session) => ({
    id: `pick-${session.id}`,
    label: text.pickLabel(customerName(session, text)),
    hint: clip(workspace.queue.questions.value.get(session.id) ?? "", LONGEST_HINT),
    run: () => void workspace.pick(session),
  }));
  return [...accept, ...go, ...pick];
}

function statuses(workspace: Workspace, text: Words): Command[] {
  const all = [
    ["available", AgentStatus.AVAILABLE],
    ["busy", AgentStatus.BUSY],
    ["away", AgentStatus.AWAY],
  ] as const;
  return all
    .filter(([, status]) => status !== workspace.agent.value?.status)
    .map(([name, status]) => ({
      id: `status-${name}`,
      label: text.palette.become(text.status[name]),
      hint: text.status.hints[name],
      run: () => void workspace.setStatus(status),
    }));
}

function replies(workspace: Workspace, text: Words): Command[] {
  const composer = workspace.composer.value;
  if (!composer) return [];
  return workspace.canned.find("").map((entry) => ({
    id: `reply-${entry.id}`,
    label: text.palette.insert(entry.shortcut),
    hint: clip(entry.text, LONGEST_HINT),
    run: () => composer.insert(entry),
  }));
}

function page(
  workspace: Workspace,
  text: Words,
  open: { alerts: () => void; account: () => void; help: () => void },
): Command[] {
  return [
    { id: "tab-mine", label: text.palette.show(text.tabs.mine), hint: "1", run: () => (workspace.tab.value = "mine") },
    { id: "tab-waiting", label: text.palette.show(text.tabs.waiting), hint: "2", run: () => (workspace.tab.value = "waiting") },
    { id: "tab-ended", label: text.palette.show(text.tabs.ended), hint: "3", run: () => (workspace.tab.value = "ended") },
    { id: "language", label: text.palette.language, hint: text.otherLanguage, run: switchLanguage },
    { id: "canned", label: text.canned.manage, hint: text.canned.title, run: () => (workspace.managing.value = true) },
    { id: "alerts", label: text.alerts.open, hint: "", run: open.alerts },
    { id: "account", label: text.account.open, hint: "", run: open.account },
    { id: "help", label: text.keysTitle, hint: "?", run: open.help },
    { id: "log-out", label: text.logOut, hint: workspace.name, run: () => void workspace.logOut() },
  ];
}
