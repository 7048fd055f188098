// Who of the shop's agents is online, and whether they take chats.

import { useSignal } from "@preact/signals";
import { useEffect, useRef } from "preact/hooks";
import { type Agent, AgentStatus } from "@octopus/contracts/octopus/session/v1/session_pb";

import { words } from "./words";
import type { Workspace } from "./workspace";

const EVERY_MS = 10_000;
const MOST = 100;

interface Colleague {
  agent: Agent;
  online: boolean;
}

/** A button with the number of colleagues who are online, and the list of all of them. */
export function Colleagues({ workspace }: { workspace: Workspace }) {
  const text = words.value.colleagues;
  const colleagues = useSignal<readonly Colleague[]>([]);
  const place = useRef<HTMLDetailsElement>(null);
  useEffect(() => {
    const look = async () => {
      if (document.hidden || workspace.link.state.peek() !== "online") return;
      // What is not known now is asked for again with the next turn.
      colleagues.value = await colleaguesOf(workspace).catch(() => colleagues.peek());
    };
    const close = (event: Event) => {
      if (event instanceof KeyboardEvent ? event.key === "Escape" : !place.current?.contains(event.target as Node)) {
        if (place.current) place.current.open = false;
      }
    };
    const timer = window.setInterval(() => void look(), EVERY_MS);
    const stop = workspace.link.state.subscribe(() => void look());
    document.addEventListener("click", close);
    document.addEventListener("keydown", close);
    return () => {
      window.clearInterval(timer);
      stop();
      document.removeEventListener("click", close);
      document.removeEventListener("keydown", close);
    };
  }, [workspace]);
  const online = colleagues.value.filter((one) => one.online).length;
  if (colleagues.value.length === 0) return null;
  return (
    <details class="colleagues" ref={place} data-testid="colleagues">
      <summary aria-label={text.label(online)}>
        <i class={`dot ${online > 0 ? "online" : ""}`} />
        <span class="colleagues-word">{text.word}</span> {online}
      </summary>
      <ul aria-label={text.title}>
        {colleagues.value.map(({ agent, online }) => (
          <li key={agent.userId.toString()} data-testid="colleague" data-online={online}>
            <i class={`dot ${online ? statusOf(agent) : ""}`} />
            <span dir="auto">{agent.displayName}</span>
            <small class="soft">{online ? words.value.status[statusOf(agent)] : text.offline}</small>
          </li>
        ))}
      </ul>
    </details>
  );
}

async function colleaguesOf(workspace: Workspace): Promise<Colleague[]> {
  const { agents } = await workspace.api.session.listAgents({ pageSize: MOST });
  const others = agents.filter((agent) => agent.userId !== workspace.link.userId);
  if (others.length === 0) return [];
  const { presences } = await workspace.presence.listPresence({ userIds: others.map((agent) => agent.userId) });
  const online = new Set(presences.filter((one) => one.online).map((one) => one.userId));
  return others
    .map((agent) => ({ agent, online: online.has(agent.userId) }))
    .sort((one, other) => Number(other.online) - Number(one.online));
}

function statusOf(agent: Agent): "available" | "busy" | "away" {
  if (agent.status === AgentStatus.AVAILABLE) return "available";
  return agent.status === AgentStatus.BUSY ? "busy" : "away";
}
