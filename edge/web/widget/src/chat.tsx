// The chat itself, once somebody wants it: who the shopper is, the connection, and the panel.

import type { Language } from "@octopus/core/locale";
import { render } from "preact";

import style from "./panel.css?inline";
import { Panel } from "./panel";
import { Shopper, type SignedIdentity } from "./shopper";

const sheet = new CSSStyleSheet();
sheet.replaceSync(style);

/** What the element's attributes say. */
export interface Setting {
  origin: string;
  tenant: string;
  // The page may change its language at any time.
  locale: () => string;
  channel: string;
  /** What the shop's server signed, as JSON. */
  identity: string | null;
}

/** One shopper in one panel. */
export class Chat {
  private readonly shopper: Shopper;
  private shown = false;

  constructor(
    root: ShadowRoot,
    private readonly stage: HTMLElement,
    private readonly close: () => void,
    setting: Setting,
  ) {
    if (!root.adoptedStyleSheets.includes(sheet)) root.adoptedStyleSheets = [...root.adoptedStyleSheets, sheet];
    this.shopper = new Shopper(
      setting.origin,
      setting.tenant,
      setting.locale,
      setting.channel,
      identityOf(setting.identity),
    );
    stage.addEventListener("keydown", this.onKeyDown);
  }

  /** Show the panel, or nothing. Opening it connects, unless that has been done. */
  draw(language: Language, shown: boolean): void {
    if (shown && !this.shown) void this.shopper.start();
    this.shown = shown;
    render(shown ? <Panel shopper={this.shopper} language={language} onClose={this.close} /> : null, this.stage);
  }

  /** Disconnect, and remove the panel; with `forget`, leave nothing of what was written. */
  end({ forget = false } = {}): void {
    this.stage.removeEventListener("keydown", this.onKeyDown);
    this.shopper.stop();
    if (forget) this.shopper.forgetDraft();
    render(null, this.stage);
  }

  private readonly onKeyDown = (event: KeyboardEvent): void => {
    if (event.key !== "Escape" || event.isComposing) return;
    event.preventDefault();
    this.close();
  };
}

function identityOf(text: string | null): SignedIdentity | null {
  if (!text) return null;
  try {
    return JSON.parse(text) as SignedIdentity;
  } catch {
    console.error("octopus: the attribute `identity` is not JSON; the shopper is taken for a visitor");
    return null;
  }
}
