// The bar above the columns: who is logged in, their status, and the load.

import { AgentStatus } from "@octopus/contracts/octopus/session/v1/session_pb";
import { switchLanguage } from "@octopus/core/language";

import { Icon, Logo } from "./icons";
import { Colleagues } from "./colleagues";
import { words } from "./words";
import type { Workspace } from "./workspace";

const STATUSES = [
  ["available", AgentStatus.AVAILABLE],
  ["busy", AgentStatus.BUSY],
  ["away", AgentStatus.AWAY],
] as const;

interface BarProps {
  workspace: Workspace;
  /** Opens the dialogs of the page. */
  open: Record<"help" | "alerts" | "account" | "palette", () => void>;
}

/** The bar. */
export function Bar({ workspace, open }: BarProps) {
  const text = words.value;
  const agent = workspace.agent.value;
  const status = STATUSES.find(([, value]) => value === agent?.status)?.[0] ?? "away";
  const load = workspace.offers.value.length + workspace.active.value.length;
  const capacity = agent?.capacity ?? 0;
  const choose = (name: string) => {
    const chosen = STATUSES.find(([one]) => one === name);
    if (chosen) void workspace.setStatus(chosen[1]);
  };
  return (
    <header class="bar">
      <Logo />
      <div class="whose">
        <strong dir="auto">{workspace.name}</strong>
        <span class="soft">{workspace.tenant}</span>
      </div>
      <label class={`status ${status}`} title={text.status.hints[status]}>
        <span class="hidden">{text.status.label}</span>
        <select
          value={status}
          disabled={agent === null || workspace.busy.value.has(0n)}
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
      <span class={`queue ${workspace.waiting.value > 0 ? "some" : ""}`} role="img" aria-label={text.waitingLabel(workspace.waiting.value)} data-testid="waiting">
        {text.waiting(workspace.waiting.value)}
      </span>
      <Colleagues workspace={workspace} />
      <span class="gap" />
      <button type="button" class="plain language" onClick={switchLanguage} data-testid="language">{text.otherLanguage}</button>
      <button type="button" class="plain" aria-label={text.palette.title} title={`${text.palette.title} (Ctrl+K)`} onClick={open.palette} data-testid="palette-open">
        <Icon name="search" />
      </button>
      <button type="button" class="plain wide-only" aria-label={text.help} title={`${text.help} (?)`} onClick={open.help}>
        <Icon name="help" />
      </button>
      <button type="button" class="plain alerts" aria-label={text.alerts.open} title={text.alerts.open} onClick={open.alerts} data-testid="alerts">
        <Icon name="bell" />
      </button>
      <button type="button" class="plain" aria-label={text.account.open} title={text.account.open} onClick={open.account} data-testid="account">
        <Icon name="person" />
      </button>
      <button type="button" class="plain" aria-label={text.logOut} title={text.logOut} onClick={() => void workspace.logOut()} data-testid="log-out">
        <Icon name="leave" />
      </button>
    </header>
  );
}

