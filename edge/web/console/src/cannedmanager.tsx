// Where an agent writes canned replies of their own, and sees what the shop shares; supervisors change that here, too.

import { failureOf, reasonOf } from "@octopus/core/api";
import { Reason } from "@octopus/contracts/octopus/errors/v1/errors_pb";
import { useSignal, useSignalEffect } from "@preact/signals";
import { useEffect, useRef } from "preact/hooks";

import type { Entry } from "./canned";
import { words } from "./words";
import type { Workspace } from "./workspace";

// From the contract.
const LONGEST_SHORTCUT = 32;
const LONGEST_CATEGORY = 64;
const LONGEST_TEXT = 2_600;

/** The dialog; it opens while `workspace.managing` holds. */
export function CannedManager({ workspace }: { workspace: Workspace }) {
  const text = words.value.canned;
  const dialog = useRef<HTMLDialogElement>(null);
  const editing = useSignal<Entry | null>(null);
  const problem = useSignal("");
  useSignalEffect(() => {
    if (!workspace.managing.value) return;
    editing.value = null;
    problem.value = "";
    void workspace.refreshCanned();
    if (!dialog.current?.open) dialog.current?.showModal();
  });
  const remove = async (entry: Entry) => {
    problem.value = "";
    try {
      await workspace.canned.remove(entry);
      if (editing.peek()?.id === entry.id) editing.value = null;
    } catch (error) {
      problem.value = words.value.troubles[failureOf(error).trouble];
    }
  };
  const own = workspace.canned.all.value.filter(({ shared }) => !shared);
  const mayShare = workspace.canned.mayShare.value;
  const shared = workspace.canned.all.value.filter((entry) => entry.shared);
  return (
    <dialog
      ref={dialog}
      class="dialog wide"
      aria-labelledby="canned-title"
      onClose={() => (workspace.managing.value = false)}
      data-testid="canned-dialog"
    >
      <h2 id="canned-title">{text.title}</h2>
      <p class="soft">{mayShare ? text.hintSharing : text.hint}</p>
      <Form key={editing.value?.id.toString() ?? ""} workspace={workspace} entry={editing.value} onDone={() => (editing.value = null)} />
      <p class="problem" role="alert" hidden={problem.value === ""}>{problem.value}</p>
      <h3>{text.ownTitle}</h3>
      {own.length === 0 && <p class="soft">{text.noOwn}</p>}
      <ul class="canned-own">
        {own.map((entry) => (
          <Row key={entry.id.toString()} entry={entry} onChange={() => (editing.value = entry)} onRemove={() => void remove(entry)} />
        ))}
      </ul>
      {shared.length > 0 && <h3>{text.sharedTitle}</h3>}
      <ul class="canned-own">
        {shared.map((entry) => (
          <Row
            key={entry.id.toString()}
            entry={entry}
            onChange={mayShare ? () => (editing.value = entry) : undefined}
            onRemove={() => void remove(entry)}
          />
        ))}
      </ul>
      <div class="dialog-foot">
        <button type="button" class="quiet" onClick={() => dialog.current?.close()} data-testid="canned-close">
          {words.value.close}
        </button>
      </div>
    </dialog>
  );
}

interface RowProps {
  entry: Entry;
  /** Undefined for one that the agent may only use. */
  onChange: (() => void) | undefined;
  onRemove: () => void;
}

function Row({ entry, onChange, onRemove }: RowProps) {
  const text = words.value.canned;
  return (
    <li data-testid={entry.shared ? "canned-shared" : "canned-own"}>
      <p>
        <b>/{entry.shortcut}</b> <span class="soft">{entry.category}</span>
        <span class="canned-text" dir="auto">{entry.text}</span>
      </p>
      {onChange && (
        <>
          <button type="button" class="quiet" aria-label={text.changeLabel(entry.shortcut)} onClick={onChange} data-testid="canned-change">
            {text.change}
          </button>
          <button type="button" class="quiet" aria-label={text.removeLabel(entry.shortcut)} onClick={onRemove} data-testid="canned-remove">
            {text.remove}
          </button>
        </>
      )}
    </li>
  );
}

interface FormProps {
  workspace: Workspace;
  /** What is changed; null for a new one. */
  entry: Entry | null;
  onDone: () => void;
}

function Form({ workspace, entry, onDone }: FormProps) {
  const text = words.value.canned;
  const form = useRef<HTMLFormElement>(null);
  const working = useSignal(false);
  const problem = useSignal("");
  // The same for every attempt to create this one, so that it is created once.
  const requestId = useSignal(crypto.randomUUID() as string);
  useEffect(() => {
    if (entry) form.current?.querySelector<HTMLInputElement>("[name=text]")?.focus();
  }, [entry]);
  const submit = async (event: SubmitEvent) => {
    event.preventDefault();
    if (working.peek()) return;
    const fields = new FormData(form.current!);
    const [shortcut, category, body] = ["shortcut", "category", "text"].map((name) => String(fields.get(name) ?? "").trim());
    const content = { shortcut: shortcut!.replace(/^[/、]+/, ""), category: category!, text: body! };
    if (/[\s/]/.test(content.shortcut) || content.shortcut === "") {
      problem.value = text.badShortcut;
      return;
    }
    working.value = true;
    problem.value = "";
    try {
      if (entry) await workspace.canned.update(entry, content);
      else await workspace.canned.create(requestId.peek(), content, fields.get("shared") !== null);
      requestId.value = crypto.randomUUID();
      form.current?.reset();
      onDone();
    } catch (error) {
      problem.value = problemOf(error);
    } finally {
      working.value = false;
    }
  };
  const problemOf = (error: unknown): string => {
    switch (reasonOf(error)) {
      case Reason.ALREADY_EXISTS:
        return text.taken;
      case Reason.VERSION_CONFLICT:
        return text.changedMeanwhile;
      case Reason.INVALID_ARGUMENT:
        return text.badVariable;
      default:
        return words.value.troubles[failureOf(error).trouble];
    }
  };
  return (
    <form ref={form} class="canned-form" onSubmit={submit}>
      <label>
        <span>{text.shortcut}</span>
        <input name="shortcut" required maxLength={LONGEST_SHORTCUT} defaultValue={entry?.shortcut} autocomplete="off" data-testid="canned-shortcut" />
      </label>
      <label>
        <span>{text.category}</span>
        <input name="category" maxLength={LONGEST_CATEGORY} defaultValue={entry?.category} autocomplete="off" data-testid="canned-category" />
      </label>
      <label class="whole">
        <span>{text.text}</span>
        <textarea name="text" required rows={3} maxLength={LONGEST_TEXT} dir="auto" defaultValue={entry?.text} data-testid="canned-text" />
      </label>
      <p class="soft whole">{text.variables}</p>
      {workspace.canned.mayShare.value && !entry && (
        <label class="whole share">
          <input type="checkbox" name="shared" data-testid="canned-share" />
          <span>{text.share}</span>
        </label>
      )}
      <p class="problem whole" role="alert" hidden={problem.value === ""} data-testid="canned-problem">{problem.value}</p>
      <div class="whole canned-actions">
        {entry && <button type="button" class="quiet" onClick={onDone}>{words.value.cancel}</button>}
        <button type="submit" class="primary" disabled={working.value} data-testid="canned-save">
          {entry ? text.save : text.add}
        </button>
      </div>
    </form>
  );
}
