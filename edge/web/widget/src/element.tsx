// `<octopus-chat>`: customer service in any page, by one script tag and one element.
//
//   <script type="module" src="https://chat.example/octopus-chat.js"></script>
//   <octopus-chat tenant="qingshan" lang="zh-CN"></octopus-chat>
//
// Attributes: `tenant` (the shop), `lang` (zh or en, else the browser's), `identity` (what the shop's server signed, JSON;
// without it the shopper is an anonymous visitor), `channel` (web, h5, miniprogram, app), `origin` (the platform, when it is
// not where the script came from), `open` (shown from the start).

import { signal } from "@preact/signals";
import { render } from "preact";

import theme from "@octopus/core/theme.css?inline";
import { languageOf } from "@octopus/core/text";
import { Panel } from "./panel";
import { Shopper, type SignedIdentity } from "./shopper";
import style from "./style.css?inline";
import { WORDS } from "./words";

const SCRIPT_ORIGIN = new URL(import.meta.url).origin;

class OctopusChat extends HTMLElement {
  static readonly observedAttributes = ["tenant", "lang", "identity", "open"];

  private readonly root = this.attachShadow({ mode: "open" });
  private readonly stage = document.createElement("div");
  private readonly shown = signal(false);
  private shopper: Shopper | null = null;

  constructor() {
    super();
    const sheet = document.createElement("style");
    sheet.textContent = theme + style;
    this.root.append(sheet, this.stage);
  }

  connectedCallback(): void {
    this.shown.value ||= this.hasAttribute("open");
    this.begin();
    this.stage.addEventListener("keydown", this.onKeyDown);
  }

  disconnectedCallback(): void {
    this.stage.removeEventListener("keydown", this.onKeyDown);
    this.shopper?.stop();
    this.shopper = null;
    render(null, this.stage);
  }

  attributeChangedCallback(name: string, before: string | null, after: string | null): void {
    if (!this.isConnected || before === after) return;
    if (name === "open") this.shown.value = after !== null;
    // The language only changes words; who is served changes everything.
    if (name === "tenant" || name === "identity") this.begin();
    else this.draw();
  }

  /** Show the conversation. */
  show(): void {
    this.shown.value = true;
    void this.shopper?.start();
  }

  /** Show the launcher only. */
  hide(): void {
    this.shown.value = false;
    queueMicrotask(() => this.root.querySelector<HTMLButtonElement>(".launcher")?.focus());
  }

  private begin(): void {
    this.shopper?.stop();
    const tenant = this.getAttribute("tenant");
    if (!tenant) {
      console.error("octopus: <octopus-chat> needs the attribute `tenant`, the shop's id");
      return;
    }
    this.shopper = new Shopper(
      this.getAttribute("origin") ?? SCRIPT_ORIGIN,
      tenant,
      () => this.getAttribute("lang") ?? navigator.language,
      this.getAttribute("channel") ?? (window.innerWidth < 600 ? "h5" : "web"),
      this.identity(),
    );
    if (this.shown.peek()) void this.shopper.start();
    this.draw();
  }

  private identity(): SignedIdentity | null {
    const text = this.getAttribute("identity");
    if (!text) return null;
    try {
      return JSON.parse(text) as SignedIdentity;
    } catch {
      console.error("octopus: the attribute `identity` is not JSON; the shopper is taken for a visitor");
      return null;
    }
  }

  private readonly onKeyDown = (event: KeyboardEvent): void => {
    if (event.key === "Escape" && this.shown.peek()) this.hide();
  };

  private draw(): void {
    const shopper = this.shopper;
    if (!shopper) return;
    const language = languageOf(this.getAttribute("lang"));
    const Stage = () =>
      this.shown.value ? (
        <Panel shopper={shopper} language={language} onClose={() => this.hide()} />
      ) : (
        <button
          type="button"
          class="launcher"
          aria-label={WORDS[language].open}
          onClick={() => this.show()}
          data-testid="launcher"
        >
          <svg viewBox="0 0 24 24" aria-hidden="true"><path d="M4 5h16v11H9l-5 4z" /></svg>
        </button>
      );
    this.stage.lang = language === "zh" ? "zh-CN" : "en";
    render(<Stage />, this.stage);
  }
}

customElements.define("octopus-chat", OctopusChat);
