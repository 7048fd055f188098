// The landing page.

import { render } from "preact";
import { useEffect } from "preact/hooks";

import "@octopus/core/theme.css";
import { language, switchLanguage } from "@octopus/core/language";
import "./style.css";
import { WORDS } from "./words";

const SNIPPET = `<script type="module" src="${location.origin}/octopus-chat.js"></script>
<octopus-chat tenant="qingshan" lang="zh-CN"></octopus-chat>`;

function Home() {
  const text = WORDS[language.value];
  useEffect(() => {
    document.title = text.title;
  }, [text]);
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
        {text.pages.map((page) => (
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
        <section>
          <h2>{text.tryTitle}</h2>
          <ol>
            {text.steps.map((step) => (
              <li key={step}>{step}</li>
            ))}
          </ol>
          <p>{text.logins}</p>
          <pre>octopus status</pre>
        </section>
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
