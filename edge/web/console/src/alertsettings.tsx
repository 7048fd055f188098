// For what and how an agent wants to be called.

import type { RefObject } from "preact";

import { type Alerts, KINDS, WAYS } from "./alerts";
import { words } from "./words";

/** The dialog; whoever opens it calls `showModal`. */
export function AlertsDialog({ dialog, alerts }: { dialog: RefObject<HTMLDialogElement | null>; alerts: Alerts }) {
  const text = words.value.alerts;
  return (
    <dialog ref={dialog} class="dialog" aria-labelledby="alerts-title" data-testid="alerts-dialog">
      <h2 id="alerts-title">{text.title}</h2>
      <p class="soft">{text.hint}</p>
      {KINDS.map((kind) => (
        <fieldset key={kind} class="choices">
          <legend>{text.kinds[kind]}</legend>
          {WAYS.map((way) => (
            <label key={way}>
              <input
                type="checkbox"
                checked={alerts.choices.value[kind][way]}
                onChange={(event) => {
                  const box = event.currentTarget;
                  // The browser may refuse: the box shows what came of it.
                  void alerts
                    .choose(kind, way, box.checked)
                    .finally(() => (box.checked = alerts.choices.peek()[kind][way]));
                }}
                data-testid={`alert-${kind}-${way}`}
              />
              <span>{text.ways[way]}</span>
            </label>
          ))}
        </fieldset>
      ))}
      <p class="problem" role="alert" hidden={!alerts.blocked.value} data-testid="alerts-blocked">{text.blocked}</p>
      <div class="dialog-foot">
        <button type="button" class="quiet" onClick={() => dialog.current?.close()} data-testid="alerts-close">
          {words.value.close}
        </button>
      </div>
    </dialog>
  );
}
