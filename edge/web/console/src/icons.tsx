// The few pictures of the page.

import { initial } from "@octopus/core/text";

const PATHS = {
  back: "M15 5l-7 7 7 7",
  person: "M12 12a4 4 0 100-8 4 4 0 000 8zM4 20c0-4 3.6-6 8-6s8 2 8 6",
  send: "M5 12l14-7-5 14-3-6-6-1z",
  help: "M9.2 9a3 3 0 115 2.2c-1.2.9-2.2 1.5-2.2 3M12 17.5v.1",
  leave: "M14 4H6a1 1 0 00-1 1v14a1 1 0 001 1h8M10 12h10m-3.5-3.5L20 12l-3.5 3.5",
  search: "M10.5 17a6.5 6.5 0 100-13 6.5 6.5 0 000 13zM15.5 15.5L20 20",
  bolt: "M13 3L5 13.5h6L10 21l8.500-10.500h-6L13 3z",
  bell: "M6 16v-5a6 6 0 1112 0v5l1.5 2h-15L6 16zM10 20.5h4",
  close: "M6 6l12 12M18 6L6 18",
  down: "M12 5v13m-5-5l5 5 5-5",
  bot: "M12 4v3M6 8h12a1 1 0 011 1v8a1 1 0 01-1 1H6a1 1 0 01-1-1V9a1 1 0 011-1zM9.5 12v1.5M14.5 12v1.5M2.5 11.5v3M21.5 11.5v3",
  chats: "M4 5h16v11H9l-5 4V5zM8 9.5h8M8 12.5h5",
  single: "M5 12.5l4.5 4.5L19 7.5",
  double: "M2.5 12.5L7 17l9.5-9.5M12 16.2l.8.8 9.2-9.5",
} as const;

/** One icon, decoration only: whatever it stands on has a label. */
export function Icon({ name }: { name: keyof typeof PATHS }) {
  return (
    <svg class="icon" viewBox="0 0 24 24" aria-hidden="true">
      <path d={PATHS[name]} />
    </svg>
  );
}

/** The octopus. */
export function Logo() {
  return <img class="logo" src="/icon.svg" alt="Octopus" width="32" height="32" />;
}

/** The first letter of a name in a circle. */
export function Avatar({ name, kind }: { name: string; kind: string }) {
  return (
    <span class={`avatar ${kind}`} aria-hidden="true">
      {kind === "bot" ? <Icon name="bot" /> : (initial(name) || "?").toUpperCase()}
    </span>
  );
}
