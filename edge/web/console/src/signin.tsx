// The agent logs in.

import { useSignal } from "@preact/signals";
import { useEffect, useRef } from "preact/hooks";
import { Role } from "@octopus/contracts/octopus/options/v1/options_pb";

import { failureOf, openApi } from "@octopus/core/api";
import { switchLanguage } from "@octopus/core/language";
import { lasting } from "@octopus/core/storage";
import type { Keyring } from "@octopus/core/tokens";
import { Logo } from "./icons";
import { words } from "./words";
import type { Leaving } from "./workspace";

const TENANT = /^[a-z0-9-]{1,32}$/;
const LAST_SHOP = "octopus:shop";

interface SignInProps {
  origin: string;
  keyring: Keyring;
  /** Why the page shows this. */
  leaving: Leaving;
  onDone: () => void;
}

/** The form; `onDone` is called with the tokens in the keyring. */
export function SignIn({ origin, keyring, leaving, onDone }: SignInProps) {
  const text = words.value.logIn;
  const working = useSignal(false);
  const error = useSignal(leaving === "asked" ? "" : text.leaving[leaving]);
  const form = useRef<HTMLFormElement>(null);

  useEffect(() => {
    document.title = words.value.title;
    const empty = [...(form.current?.querySelectorAll("input") ?? [])].find((input) => input.value === "");
    empty?.focus();
  }, []);

  const submit = async (event: SubmitEvent) => {
    event.preventDefault();
    if (working.value) return;
    const fields = new FormData(form.current!);
    const [tenantId, login, password] = ["tenant", "login", "password"].map((name) => String(fields.get(name) ?? ""));
    if (!TENANT.test(tenantId!.trim())) {
      error.value = text.tenantShape;
      return;
    }
    working.value = true;
    error.value = "";
    try {
      const { tokens, user } = await openApi(origin).auth.logIn({
        tenantId: tenantId!.trim(),
        login: login!.trim(),
        password: password!,
      });
      if (!tokens || !user?.roles.includes(Role.AGENT)) {
        error.value = text.noAgent;
        return;
      }
      keyring.keep(tokens, user.id, user.displayName, tenantId!.trim());
      lasting.set(LAST_SHOP, tenantId!.trim());
      onDone();
    } catch (failure) {
      const { trouble, retryAfterS } = failureOf(failure);
      error.value = [text.troubles[trouble], retryAfterS > 0 ? words.value.retryAfter(retryAfterS) : ""].join(" ").trim();
      form.current?.querySelector<HTMLInputElement>("[name=password]")?.select();
    } finally {
      working.value = false;
    }
  };

  return (
    <main class="sign-in">
      <form ref={form} onSubmit={submit} data-testid="login-form" aria-describedby="sign-in-hint">
        <Logo />
        <h1>{text.title}</h1>
        <p id="sign-in-hint" class="soft">{text.hint}</p>
        <label>
          <span>{text.tenant}</span>
          <input
            name="tenant"
            autocomplete="organization"
            autocapitalize="none"
            spellcheck={false}
            placeholder={text.tenantExample}
            defaultValue={lasting.get(LAST_SHOP) ?? ""}
            required
            data-testid="login-tenant"
          />
        </label>
        <label>
          <span>{text.login}</span>
          <input name="login" autocomplete="username" autocapitalize="none" spellcheck={false} maxLength={64} required data-testid="login-name" />
        </label>
        <label>
          <span>{text.password}</span>
          <input name="password" type="password" autocomplete="current-password" maxLength={128} required data-testid="login-password" />
        </label>
        <p class="problem" role="alert" hidden={error.value === ""} data-testid="login-error">{error.value}</p>
        <button type="submit" class="primary" disabled={working.value} data-testid="login-submit">
          {working.value ? text.working : text.submit}
        </button>
      </form>
      <button type="button" class="plain" onClick={switchLanguage}>{words.value.otherLanguage}</button>
    </main>
  );
}
