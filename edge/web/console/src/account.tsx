// The agent's own account: another password, and out of every device.

import { failureOf } from "@octopus/core/api";
import { useSignal } from "@preact/signals";
import type { RefObject } from "preact";
import { useRef } from "preact/hooks";

import { words } from "./words";
import type { Workspace } from "./workspace";

// From the contract.
const SHORTEST_PASSWORD = 10;
const LONGEST_PASSWORD = 128;

/** The dialog; whoever opens it calls `showModal`. */
export function AccountDialog({ dialog, workspace }: { dialog: RefObject<HTMLDialogElement | null>; workspace: Workspace }) {
  const text = words.value.account;
  return (
    <dialog ref={dialog} class="dialog" aria-labelledby="account-title" data-testid="account-dialog">
      <h2 id="account-title">{text.title}</h2>
      <p class="soft" dir="auto">{workspace.name} · {workspace.tenant}</p>
      <PasswordForm workspace={workspace} />
      <Everywhere workspace={workspace} />
      <div class="dialog-foot">
        <button type="button" class="quiet" onClick={() => dialog.current?.close()} data-testid="account-close">
          {words.value.close}
        </button>
      </div>
    </dialog>
  );
}

function PasswordForm({ workspace }: { workspace: Workspace }) {
  const text = words.value.account;
  const form = useRef<HTMLFormElement>(null);
  const working = useSignal(false);
  const problem = useSignal("");
  const done = useSignal(false);
  const submit = async (event: SubmitEvent) => {
    event.preventDefault();
    if (working.peek()) return;
    const fields = new FormData(form.current!);
    const [before, after, again] = ["before", "after", "again"].map((name) => String(fields.get(name) ?? ""));
    done.value = false;
    problem.value = wrong(before!, after!, again!);
    if (problem.peek() !== "") return;
    working.value = true;
    try {
      await workspace.changePassword(before!, after!);
      form.current?.reset();
      done.value = true;
    } catch (error) {
      const { trouble, retryAfterS } = failureOf(error);
      const wait = retryAfterS > 0 ? words.value.retryAfter(retryAfterS) : "";
      problem.value = `${text.troubles[trouble]} ${wait}`.trim();
    } finally {
      working.value = false;
    }
  };
  const wrong = (before: string, after: string, again: string): string => {
    if ([...after].length < SHORTEST_PASSWORD) return text.tooShort(SHORTEST_PASSWORD);
    if (after === before) return text.same;
    return after === again ? "" : text.different;
  };
  const field = (name: string, label: string, autocomplete: "current-password" | "new-password") => (
    <label>
      <span>{label}</span>
      <input
        name={name}
        type="password"
        autocomplete={autocomplete}
        maxLength={LONGEST_PASSWORD}
        required
        data-testid={`password-${name}`}
      />
    </label>
  );
  return (
    <form ref={form} onSubmit={submit} class="account-form">
      <h3>{text.password}</h3>
      <p class="soft">{text.passwordHint}</p>
      {field("before", text.before, "current-password")}
      {field("after", text.after(SHORTEST_PASSWORD), "new-password")}
      {field("again", text.again, "new-password")}
      <p class="problem" role="alert" hidden={problem.value === ""} data-testid="password-problem">{problem.value}</p>
      <p class="good" role="status" hidden={!done.value} data-testid="password-changed">{text.changed}</p>
      <button type="submit" class="primary" disabled={working.value} data-testid="password-submit">
        {working.value ? text.working : text.change}
      </button>
    </form>
  );
}

function Everywhere({ workspace }: { workspace: Workspace }) {
  const text = words.value.account;
  const working = useSignal(false);
  const problem = useSignal("");
  const leave = async () => {
    working.value = true;
    problem.value = "";
    try {
      await workspace.logOutEverywhere();
    } catch (error) {
      problem.value = words.value.troubles[failureOf(error).trouble];
    } finally {
      working.value = false;
    }
  };
  return (
    <section class="account-form">
      <h3>{text.everywhere}</h3>
      <p class="soft">{text.everywhereHint}</p>
      <p class="problem" role="alert" hidden={problem.value === ""}>{problem.value}</p>
      <button type="button" class="danger" disabled={working.value} onClick={() => void leave()} data-testid="log-out-everywhere">
        {text.everywhere}
      </button>
    </section>
  );
}
