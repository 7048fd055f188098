// A small shop with customer service in its corner. What is special about a shop is in its own file.

import { useSignal } from "@preact/signals";
import { type ComponentChildren, render } from "preact";
import { useEffect } from "preact/hooks";

import "@octopus/core/theme.css";
import { language, switchLanguage } from "@octopus/core/language";
import { type Language, tagOf } from "@octopus/core/locale";
import { onShortcuts } from "./shortcuts";
import "./style.css";

type InBoth = Record<Language, string>;

export interface Product {
  name: InBoth;
  detail: InBoth;
  /** In yuan. */
  price: number;
  /** What stands behind the picture. */
  tint: string;
  art: ComponentChildren;
}

export interface Shop {
  tenant: string;
  name: InBoth;
  slogan: InBoth;
  promise: InBoth;
  sections: readonly InBoth[];
  services: readonly (readonly [InBoth, InBoth])[];
  products: readonly Product[];
  hero: ComponentChildren;
}

const WORDS = {
  zh: {
    other: "English",
    ask: "咨询客服",
    askAbout: (name: string) => `咨询客服：${name}`,
    browsing: "您正在以访客身份浏览",
    customer: "您好，王小明",
    logIn: "以顾客王小明登录",
    logOut: "退出，变回访客",
    working: "请稍候…",
    failed: "登录没有成功：演示店铺的数据还没有载入，请稍后再试。",
    collection: "本季精选",
    demo: "演示店铺 · 商品不出售",
    home: "返回 Octopus 首页",
    search: "搜索商品",
    found: (count: number) => `${count} 件商品`,
    shortcuts: "快捷键：/ 搜索 · s 服务承诺 · ? 显示或隐藏这一行",
  },
  en: {
    other: "中文",
    ask: "Customer service",
    askAbout: (name: string) => `Customer service: ${name}`,
    browsing: "You are looking around as a visitor",
    customer: "Hello, 王小明",
    logIn: "Log in as the customer 王小明",
    logOut: "Log out, be a visitor again",
    working: "One moment…",
    failed: "Log-in failed: the demo shop's data is not loaded yet. Please try again later.",
    collection: "This season",
    demo: "A demo shop; nothing is for sale",
    home: "Back to Octopus",
    search: "Search products",
    found: (count: number) => `${count} products`,
    shortcuts: "Shortcuts: / search · s services · ? shows or hides this line",
  },
} as const;

const DEMO_CUSTOMER = "wang-xiaoming";

declare global {
  interface Window {
    octopus?: { push(...calls: string[]): unknown };
  }
}

/** Open customer service; when its script has not arrived yet, as soon as it has. */
function openChat(): void {
  (window.octopus ??= []).push("open");
}

function chat(): HTMLElement {
  return document.querySelector<HTMLElement>("octopus-chat")!;
}

/** Draw a shop into the page. */
export function openShop(shop: Shop): void {
  render(<Storefront shop={shop} />, document.getElementById("page")!);
}

function Storefront({ shop }: { shop: Shop }) {
  const shown = language.value;
  const text = WORDS[shown];
  const wanted = useSignal("");
  const help = useSignal(false);
  useEffect(() => {
    document.title = shop.name[shown];
    chat().setAttribute("lang", tagOf(shown));
  }, [shown]);
  useEffect(
    () =>
      onShortcuts({
        "/": () => document.getElementById("search")?.focus(),
        s: () => document.getElementById("services")?.scrollIntoView(),
        "?": () => (help.value = !help.value),
      }),
    [],
  );
  const products = shop.products.filter(({ name, detail }) =>
    [name.zh, name.en, detail.zh, detail.en].some((one) => one.toLowerCase().includes(wanted.value.trim().toLowerCase())),
  );
  return (
    <div class={`shop ${shop.tenant}`}>
      <header class="top">
        <strong class="brand">{shop.name[shown]}</strong>
        <nav>
          {shop.sections.map((section) => (
            <a key={section.en} href="#products">{section[shown]}</a>
          ))}
        </nav>
        <Who shop={shop} />
        <button type="button" class="text-button" onClick={switchLanguage} data-testid="language">{text.other}</button>
      </header>
      <main>
        <section class="hero">
          <div>
            <h1>{shop.slogan[shown]}</h1>
            <p>{shop.promise[shown]}</p>
            <button type="button" class="solid" onClick={() => openChat()} data-testid="ask">{text.ask}</button>
          </div>
          <div class="hero-art" aria-hidden="true">{shop.hero}</div>
        </section>
        <section class="goods" id="products">
          <div class="collection">
            <h2>{text.collection}</h2>
            <input
              id="search"
              type="search"
              dir="auto"
              value={wanted.value}
              placeholder={`${text.search} /`}
              aria-label={text.search}
              onInput={(event) => (wanted.value = event.currentTarget.value)}
              data-testid="search"
            />
          </div>
          <p class="hidden" role="status">{wanted.value && text.found(products.length)}</p>
          <ul class="products">
            {products.map((product) => (
              <li key={product.name.en}>
                <div class="picture" style={{ background: product.tint }} aria-hidden="true">{product.art}</div>
                <h3>{product.name[shown]}</h3>
                <p>{product.detail[shown]}</p>
                <div class="buy">
                  <b>¥{product.price}</b>
                  <button type="button" class="text-button" aria-label={text.askAbout(product.name[shown])} onClick={() => openChat()}>
                    {text.ask}
                  </button>
                </div>
              </li>
            ))}
          </ul>
          <ul class="services" id="services">
            {shop.services.map(([title, detail]) => (
              <li key={title.en}>
                <strong>{title[shown]}</strong>
                <span>{detail[shown]}</span>
              </li>
            ))}
          </ul>
        </section>
      </main>
      <footer>
        <span>{text.demo}</span>
        {help.value && <span data-testid="shortcuts">{text.shortcuts}</span>}
        <a href="/">{text.home}</a>
      </footer>
    </div>
  );
}

/** Who the shop thinks is looking: its server signs a customer, and the chat is told. */
function Who({ shop }: { shop: Shop }) {
  const text = WORDS[language.value];
  const kept = `octopus:shop:${shop.tenant}:customer`;
  const known = useSignal(false);
  const working = useSignal(false);
  const failed = useSignal(false);

  const logIn = async () => {
    working.value = true;
    failed.value = false;
    try {
      const response = await fetch(`/shop/${shop.tenant}/identity?customer=${DEMO_CUSTOMER}`, { method: "POST" });
      if (!response.ok) throw new Error(`${response.status}`);
      chat().setAttribute("identity", await response.text());
      sessionStorage.setItem(kept, DEMO_CUSTOMER);
      known.value = true;
    } catch {
      failed.value = true;
    } finally {
      working.value = false;
    }
  };
  const logOut = () => {
    chat().removeAttribute("identity");
    sessionStorage.removeItem(kept);
    known.value = false;
  };
  useEffect(() => {
    if (sessionStorage.getItem(kept)) void logIn();
  }, []);

  return (
    <div class="who">
      <span data-testid="who">{failed.value ? <em role="alert">{text.failed}</em> : known.value ? text.customer : text.browsing}</span>
      <button
        type="button"
        class="outlined"
        aria-pressed={known.value}
        disabled={working.value}
        onClick={() => (known.value ? logOut() : void logIn())}
        data-testid="identity"
      >
        {working.value ? text.working : known.value ? text.logOut : text.logIn}
      </button>
    </div>
  );
}
