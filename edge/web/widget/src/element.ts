// `<octopus-chat>`: customer service in any page, by one script tag and one element.
//
//   <script type="module" src="https://chat.example/octopus-chat.js" async></script>
//   <octopus-chat tenant="qingshan" lang="zh-CN"></octopus-chat>
//
// Attributes: `tenant` (the shop), `lang` (zh or en, else the browser's), `identity` (what the shop's server signed, JSON;
// without it the shopper is an anonymous visitor), `channel` (web, h5, miniprogram, app), `origin` (the platform, when it is
// not where the script came from), `open` (shown from the start, or as soon as it is set).
//
// This file is what every page view loads: the launcher, and what must not be missed. The panel follows when the page is
// idle, or is asked for.

import { languageOf } from "@octopus/core/locale";
import theme from "@octopus/core/theme.css?inline";

import type { Chat } from "./chat";
import { contain } from "./containment";
import { announce, type Embedded, withdraw } from "./embedding";
import style from "./launcher.css?inline";
import { LAUNCHER_WORDS } from "./launcher.words";

const SCRIPT_ORIGIN = new URL(import.meta.url).origin;
// Pages that never become idle wait no longer than this for the panel's script.
const IDLE_WITHIN_MS = 4_000;

// Not a style element: a shop's security policy may forbid those, and does not concern constructed sheets.
const sheet = new CSSStyleSheet();
sheet.replaceSync(theme + style);

type ChatModule = typeof import("./chat");
let loading: Promise<ChatModule> | null = null;

function load(): Promise<ChatModule> {
  loading ??= import("./chat").catch((error: unknown) => {
    loading = null;
    throw error;
  });
  return loading;
}

class OctopusChat extends HTMLElement implements Embedded {
  static readonly observedAttributes = ["tenant", "lang", "identity", "open"];

  private readonly root = this.attachShadow({ mode: "open" });
  private readonly stage = document.createElement("div");
  private readonly launcher = document.createElement("button");
  private readonly problem = document.createElement("p");
  private shown = false;
  private failed = false;
  private chat: Chat | null = null;
  private release: () => void = () => undefined;

  constructor() {
    super();
    this.root.adoptedStyleSheets = [sheet];
    this.launcher.type = "button";
    this.launcher.className = "launcher";
    this.launcher.dataset.testid = "launcher";
    this.launcher.innerHTML = '<svg viewBox="0 0 24 24" aria-hidden="true"><path d="M4 5h16v11H9l-5 4z" /></svg>';
    this.launcher.addEventListener("click", () => this.show());
    this.launcher.addEventListener("pointerenter", preload);
    this.problem.className = "launcher-problem";
    this.problem.setAttribute("role", "alert");
    this.root.append(this.problem, this.launcher, this.stage);
    // Scripts of the page that look before they take a key see a text field where one has the focus.
    Object.defineProperty(this, "isContentEditable", {
      get: () => this.root.activeElement?.matches("textarea, input") ?? false,
    });
  }

  connectedCallback(): void {
    this.release = contain(this.root);
    this.shown ||= this.hasAttribute("open");
    if (!this.hasAttribute("tenant")) console.error("octopus: <octopus-chat> needs the attribute `tenant`, the shop's id");
    this.draw();
    announce(this);
    // Not in Safari before 26.
    if ("requestIdleCallback" in window) window.requestIdleCallback(preload, { timeout: IDLE_WITHIN_MS });
    else globalThis.setTimeout(preload, IDLE_WITHIN_MS);
  }

  disconnectedCallback(): void {
    withdraw(this);
    this.release();
    this.chat?.end();
    this.chat = null;
  }

  attributeChangedCallback(name: string, before: string | null, after: string | null): void {
    if (!this.isConnected || before === after) return;
    if (name === "open") this.shown = after !== null;
    // The language only changes words; who is served changes everything.
    if (name === "tenant" || name === "identity") {
      // A customer who logs out of the shop leaves nothing to the next person at the same machine.
      this.chat?.end({ forget: name === "identity" && before !== null });
      this.chat = null;
    }
    this.draw();
  }

  /** Show the conversation. */
  show(): void {
    this.shown = true;
    this.draw();
  }

  /** Show the launcher only. */
  hide(): void {
    this.shown = false;
    this.draw();
    this.launcher.focus();
  }

  private draw(): void {
    const language = languageOf(this.getAttribute("lang"));
    const words = LAUNCHER_WORDS[language];
    if (this.shown && !this.chat) void this.begin();
    const opening = this.shown && !this.chat && !this.failed;
    this.launcher.lang = this.problem.lang = this.stage.lang = language === "zh" ? "zh-CN" : "en";
    this.launcher.setAttribute("aria-label", opening ? words.opening : words.open);
    this.launcher.setAttribute("aria-busy", String(opening));
    this.launcher.hidden = this.shown && this.chat !== null;
    this.problem.textContent = this.failed ? words.failed : "";
    this.chat?.draw(language, this.shown);
  }

  /** Load the panel and connect it, as soon as it is wanted. */
  private async begin(): Promise<void> {
    const tenant = this.getAttribute("tenant");
    if (!tenant) return;
    this.failed = false;
    try {
      const { Chat } = await load();
      // Meanwhile another call may have been faster, or somebody else may be served.
      if (this.chat || !this.isConnected || this.getAttribute("tenant") !== tenant) return;
      this.chat = new Chat(this.root, this.stage, () => this.hide(), {
        origin: this.getAttribute("origin") ?? SCRIPT_ORIGIN,
        tenant,
        locale: () => this.getAttribute("lang") ?? navigator.language,
        channel: this.getAttribute("channel") ?? (window.innerWidth < 600 ? "h5" : "web"),
        identity: this.getAttribute("identity"),
      });
    } catch (error) {
      console.error("octopus: the chat could not be loaded", error);
      this.failed = true;
      this.shown = false;
    }
    this.draw();
  }
}

function preload(): void {
  // Whoever opens the chat tries again, and is told when that fails.
  load().catch(() => undefined);
}

if (!customElements.get("octopus-chat")) customElements.define("octopus-chat", OctopusChat);
