// The right column: who the customer is, and what was before.

import { useSignal } from "@preact/signals";
import { useEffect } from "preact/hooks";
import { type Session, SessionState } from "@octopus/contracts/octopus/session/v1/session_pb";
import { type User, UserKind } from "@octopus/contracts/octopus/user/v1/user_pb";

import { failureOf, troubleOf } from "@octopus/core/api";
import { language } from "@octopus/core/language";
import type { Conversation } from "@octopus/core/conversation";
import { Closing, Stars } from "./closing";
import { Fact } from "./fact";
import { Avatar, Icon } from "./icons";
import { customerName, endText, localeName, momentOf } from "./shown";
import { words } from "./words";
import type { Workspace } from "./workspace";

const FORMER_PAGE = 10;
const LONGEST_TAG = 64;

/** The column; empty while no session is chosen. */
export function CustomerColumn({ workspace }: { workspace: Workspace }) {
  const conversation = workspace.selected.value;
  return (
    <aside class="customer-column" aria-label={words.value.customerPanel} data-testid="customer-panel">
      {conversation && (
        <Card
          key={conversation.session.value.customerId.toString()}
          workspace={workspace}
          conversation={conversation}
        />
      )}
    </aside>
  );
}

function Card({ workspace, conversation }: { workspace: Workspace; conversation: Conversation }) {
  const text = words.value;
  const session = conversation.session.value;
  const user = useSignal<User | null>(null);
  const failed = useSignal(false);
  const load = async () => {
    failed.value = false;
    try {
      const response = await workspace.users.getUser({ userId: session.customerId });
      user.value = response.user ?? null;
    } catch {
      failed.value = true;
    }
  };
  useEffect(() => void load(), [session.customerId]);

  const name = user.value?.displayName || customerName(session, text);
  const visitor = user.value?.kind === UserKind.VISITOR;
  return (
    <>
      <div class="card-head">
        <button
          type="button"
          class="plain only-middle"
          aria-label={text.back}
          onClick={() => (workspace.pane.value = "conversation")}
        >
          <Icon name="back" />
        </button>
        <Avatar name={name} kind="customer" />
        <div>
          <h2 dir="auto">{name}</h2>
          <p class="soft">{user.value ? (visitor ? text.kinds.visitor : text.kinds.customer) : failed.value ? "" : text.loading}</p>
        </div>
      </div>
      {failed.value && (
        <p class="problem" role="alert">
          {text.failed} <button type="button" class="link" onClick={() => void load()}>{text.retry}</button>
        </p>
      )}
      {user.value && <Tags workspace={workspace} user={user.value} onChange={(changed) => (user.value = changed)} />}
      <section>
        <h3>{text.thisChat}</h3>
        <dl>
          <Fact name={text.channel} value={text.channels[session.channel] ?? session.channel} />
          <Fact name={text.locale} value={localeName(session.locale || user.value?.locale || "", language.value)} />
          <Fact name={text.openedAt} value={momentOf(session.openedAt, language.value)} />
          <Fact name={text.shopId} value={visitor ? "" : (user.value?.externalId ?? "")} />
          <Fact name={text.phone} value={user.value?.phone ?? ""} />
          <Fact name={text.since} value={momentOf(user.value?.createdAt, language.value)} />
        </dl>
      </section>
      <Closing workspace={workspace} session={session} />
      <Former workspace={workspace} session={session} />
    </>
  );
}

function Tags({ workspace, user, onChange }: { workspace: Workspace; user: User; onChange: (user: User) => void }) {
  const text = words.value;
  const written = useSignal("");
  const failed = useSignal(false);
  const set = async (tags: string[]) => {
    // Shown at once, and taken back when it was not kept.
    onChange({ ...user, tags });
    failed.value = false;
    try {
      const response = await workspace.users.setTags({ userId: user.id, tags });
      if (response.user) onChange(response.user);
    } catch (error) {
      failed.value = true;
      onChange(user);
      if (troubleOf(error) === "credentials") workspace.tell(failureOf(error));
    }
  };
  const add = () => {
    const tag = written.peek().trim();
    written.value = "";
    if (tag !== "" && !user.tags.includes(tag)) void set([...user.tags, tag]);
  };
  const onKeyDown = (event: KeyboardEvent) => {
    if (event.key !== "Enter" || event.isComposing || event.keyCode === 229) return;
    event.preventDefault();
    add();
  };
  return (
    <section>
      <h3>{text.tags}</h3>
      {user.tags.length > 0 && (
        <ul class="tags">
          {user.tags.map((tag) => (
            <li key={tag} data-testid="tag">
              <bdi>{tag}</bdi>
              <button
                type="button"
                aria-label={text.removeTag(tag)}
                onClick={() => void set(user.tags.filter((other) => other !== tag))}
              >
                <Icon name="close" />
              </button>
            </li>
          ))}
        </ul>
      )}
      <input
        class="tag-input"
        dir="auto"
        value={written.value}
        maxLength={LONGEST_TAG}
        placeholder={`${text.addTag} · ${text.tagHint}`}
        aria-label={text.addTag}
        enterkeyhint="done"
        onInput={(event) => (written.value = event.currentTarget.value)}
        onKeyDown={onKeyDown}
        onBlur={add}
        data-testid="tag-input"
      />
      {failed.value && <p class="problem" role="alert">{text.tagsFailed}</p>}
    </section>
  );
}

function Former({ workspace, session }: { workspace: Workspace; session: Session }) {
  const text = words.value;
  const sessions = useSignal<readonly Session[] | null>(null);
  const token = useSignal("");
  const failed = useSignal(false);
  const load = async () => {
    failed.value = false;
    try {
      const page = await workspace.api.session.listSessions({
        customerId: session.customerId,
        states: [SessionState.ENDED],
        pageSize: FORMER_PAGE,
        pageToken: token.peek(),
      });
      sessions.value = [...(sessions.peek() ?? []), ...page.sessions];
      token.value = page.nextPageToken;
    } catch {
      failed.value = true;
    }
  };
  useEffect(() => {
    sessions.value = null;
    token.value = "";
    void load();
    // A session that ends becomes a former one.
  }, [session.customerId, session.state === SessionState.ENDED]);

  return (
    <section>
      <h3>{text.former}</h3>
      {failed.value && (
        <p class="problem" role="alert">
          {text.failed} <button type="button" class="link" onClick={() => void load()}>{text.retry}</button>
        </p>
      )}
      {sessions.value === null && !failed.value && <p class="soft">{text.loading}</p>}
      {sessions.value?.length === 0 && <p class="soft">{text.noFormer}</p>}
      <ul class="former">
        {sessions.value?.map((former) => (
          <li key={former.id.toString()}>
            <button
              type="button"
              class={workspace.selectedId.value === former.id ? "chosen" : ""}
              onClick={() => former.id !== workspace.selectedId.peek() && workspace.visit(former)}
              data-testid="former-session"
              data-session={former.id.toString()}
            >
              <span>{momentOf(former.openedAt, language.value)}</span>
              <small class="soft">
                {former.satisfaction && <><Stars score={former.satisfaction.score} /> </>}
                {former.id === session.previousSessionId ? text.continues : endText(former, text)}
              </small>
            </button>
          </li>
        ))}
      </ul>
      {token.value !== "" && (
        <button type="button" class="link" onClick={() => void load()}>{text.moreFormer}</button>
      )}
    </section>
  );
}
