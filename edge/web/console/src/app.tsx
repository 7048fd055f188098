// The agents' page: who is logged in, and what they see.

import { Keyring } from "@octopus/core/tokens";
import { useSignal, useSignalEffect } from "@preact/signals";
import { useEffect, useMemo, useRef } from "preact/hooks";

import { AwayBanner } from "./absence";
import { AccountDialog } from "./account";
import { Alerts } from "./alerts";
import { AlertsDialog } from "./alertsettings";
import { Bar } from "./bar";
import { ConversationColumn } from "./conversation";
import { CannedManager } from "./cannedmanager";
import { CustomerColumn } from "./customer";
import { Inbox } from "./inbox";
import { onKeys } from "./keys";
import { Announcements, Banner, Notices } from "./notices";
import { now } from "./now";
import { Palette } from "./palette";
import { customerName } from "./shown";
import { SignIn } from "./signin";
import { words } from "./words";
import { type Leaving, Workspace } from "./workspace";

const ORIGIN = location.origin;
const TOKENS = "octopus:agent";

/** The whole page. */
export function App() {
  const keyring = useSignal(new Keyring(ORIGIN, TOKENS)).value;
  const workspace = useSignal<Workspace | null>(null);
  const leaving = useSignal<Leaving>("asked");
  const enter = () => {
    const opened = new Workspace(ORIGIN, keyring, (why) => {
      leaving.value = why;
      opened.stop();
      workspace.value = null;
    });
    workspace.value = opened;
    opened.start();
  };
  useEffect(() => {
    if (keyring.kept) enter();
    // Another tab logged in as somebody else, or out.
    const onStorage = (event: StorageEvent) => {
      if (event.key !== TOKENS) return;
      const userId = keyring.kept?.userId;
      if (workspace.peek() && userId !== workspace.peek()!.link.userId.toString()) location.reload();
    };
    window.addEventListener("storage", onStorage);
    return () => window.removeEventListener("storage", onStorage);
  }, []);
  return workspace.value ? (
    <WorkspacePage key={workspace.value.link.userId.toString()} workspace={workspace.value} />
  ) : (
    <SignIn origin={ORIGIN} keyring={keyring} leaving={leaving.value} onDone={enter} />
  );
}

function WorkspacePage({ workspace }: { workspace: Workspace }) {
  const help = useRef<HTMLDialogElement>(null);
  const account = useRef<HTMLDialogElement>(null);
  const calls = useRef<HTMLDialogElement>(null);
  const palette = useRef<HTMLDialogElement>(null);
  const open = {
    alerts: () => calls.current?.showModal(),
    account: () => account.current?.showModal(),
    help: () => help.current?.showModal(),
    palette: () => palette.current?.showModal(),
  };
  const alerts = useMemo(() => new Alerts(workspace), [workspace]);
  useTitle(workspace);
  useEffect(() => alerts.start(), [alerts]);
  useEffect(() => onKeys(workspace, open), [workspace]);
  return (
    <div class={`workspace show-${workspace.pane.value}`}>
      <Bar
        workspace={workspace}
        open={open}
      />
      <Banner workspace={workspace} />
      <AwayBanner workspace={workspace} />
      <div class="columns">
        <Inbox workspace={workspace} />
        <ConversationColumn workspace={workspace} />
        <CustomerColumn workspace={workspace} />
      </div>
      <Notices workspace={workspace} />
      <Announcements workspace={workspace} />
      <Palette dialog={palette} workspace={workspace} open={open} />
      <CannedManager workspace={workspace} />
      <AlertsDialog dialog={calls} alerts={alerts} />
      <AccountDialog dialog={account} workspace={workspace} />
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

/** The tab's title counts what waits, and calls while somebody does. */
function useTitle(workspace: Workspace): void {
  useSignalEffect(() => {
    const text = words.value;
    const offers = workspace.offers.value;
    const count = offers.length + workspace.unread.value;
    const calling = offers.length > 0 && Math.floor(now.value / 1000) % 2 === 0;
    const name = offers[0] ? customerName(offers[0].session.value, text) : "";
    document.title = (count > 0 ? `(${count}) ` : "") + (calling ? text.newOffer(name) : text.title);
  });
}
