// The landing page.

import { useSignal } from "@preact/signals";
import { render } from "preact";
import { useEffect } from "preact/hooks";

import "@octopus/core/theme.css";
import { language, switchLanguage } from "@octopus/core/language";
import "./style.css";
import { WORDS } from "./words";

const SHOP = "/shop/qingshan/";
const SNIPPET = `<script type="module" async src="${location.origin}/octopus-chat.js"></script>
<octopus-chat tenant="qingshan" lang="zh-CN"></octopus-chat>`;

function Home() {
  const text = WORDS[language.value];
  const shops = useSignal(true);
  useEffect(() => {
    document.title = text.title;
  }, [text]);
  useEffect(() => {
    // The demo shops run only where the demo data is loaded.
    fetch(SHOP, { method: "HEAD" }).then(
      ({ status }) => (shops.value = status !== 404),
      () => undefined,
    );
  }, []);
  const pages = text.pages.filter(({ href }) => shops.value || !href.startsWith("/shop/"));
  return (
    <main>
      <header>
        <img src="/icon.svg" alt="" width="40" height="40" />
        <strong>Octopus</strong>
        <button type="button" onClick={switchLanguage} data-testid="language">{text.other}</button>
      </header>
      <h1>{text.claim}</h1>
      <p class="about">{text.about}</p>
      <ul class="pages">
        {pages.map((page) => (
          <li key={page.href}>
            <a href={page.href}>
              <strong>{page.name}</strong>
              <span>{page.what}</span>
              <b>{page.go} →</b>
            </a>
          </li>
        ))}
      </ul>
      <div class="halves">
        {shops.value && <section>
          <h2>{text.tryTitle}</h2>
          <ol>
            {text.steps.map((step) => (
              <li key={step}>{step}</li>
            ))}
          </ol>
          <p>{text.logins}</p>
          <pre>.venv/bin/octopus status</pre>
        </section>}
        <section>
          <h2>{text.embedTitle}</h2>
          <p>{text.embed}</p>
          <pre>{SNIPPET}</pre>
        </section>
      </div>
    </main>
  );
}

render(<Home />, document.getElementById("page")!);
