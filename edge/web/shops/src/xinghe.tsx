// 星河数码, the electronics shop.

import { openShop } from "./storefront";

const LINE = { fill: "none", "stroke-linecap": "round", "stroke-linejoin": "round" } as const;

function Phone({ body, screen }: { body: string; screen: string }) {
  return (
    <svg viewBox="0 0 120 120">
      <rect x="34" y="8" width="52" height="104" rx="11" fill={body} />
      <rect x="38" y="12" width="44" height="96" rx="8" fill={screen} />
      <rect x="52" y="16" width="16" height="4" rx="2" fill={body} />
      <circle cx="60" cy="58" r="15" fill="#fff" opacity=".28" />
      <circle cx="68" cy="50" r="15" fill="#fff" opacity=".22" />
      <path d="M52 102h16" stroke="#fff" stroke-width="2.5" opacity=".8" {...LINE} />
    </svg>
  );
}

function Headphones() {
  return (
    <svg viewBox="0 0 120 120">
      <path d="M22 74V62a38 38 0 0176 0v12" stroke="#3b4257" stroke-width="7" {...LINE} />
      <rect x="14" y="66" width="22" height="38" rx="10" fill="#5865d6" />
      <rect x="84" y="66" width="22" height="38" rx="10" fill="#5865d6" />
      <path d="M28 74v22m64-22v22" stroke="#2b3494" stroke-width="3" {...LINE} />
    </svg>
  );
}

function Laptop() {
  return (
    <svg viewBox="0 0 120 120">
      <rect x="20" y="26" width="80" height="54" rx="6" fill="#3b4257" />
      <rect x="25" y="31" width="70" height="44" rx="3" fill="#7c8bea" />
      <path d="M25 66c16-18 28 6 42-10s20-8 28-14v33H25z" fill="#4858c7" />
      <path d="M8 84h104l-6 8c-1 2-3 2-5 2H19c-2 0-4 0-5-2z" fill="#9aa3b8" />
    </svg>
  );
}

function Watch() {
  return (
    <svg viewBox="0 0 120 120">
      <path d="M46 10h28l4 26H42zm-4 74h36l-4 26H46z" fill="#2f3a4d" />
      <rect x="34" y="32" width="52" height="56" rx="16" fill="#171c28" />
      <circle cx="60" cy="60" r="18" stroke="#ffffff33" stroke-width="5" {...LINE} />
      <path d="M60 42a18 18 0 11-17 24" stroke="#4ad6b2" stroke-width="5" {...LINE} />
      <path d="M60 52v9l6 4" stroke="#fff" stroke-width="2.5" {...LINE} />
    </svg>
  );
}

function Speaker() {
  return (
    <svg viewBox="0 0 120 120">
      <rect x="34" y="10" width="52" height="100" rx="16" fill="#d36a4a" />
      <circle cx="60" cy="78" r="19" fill="#3a2620" /><circle cx="60" cy="78" r="8" fill="#6b473c" />
      <circle cx="60" cy="36" r="11" fill="#3a2620" /><circle cx="60" cy="36" r="4" fill="#6b473c" />
    </svg>
  );
}

function Charger() {
  return (
    <svg viewBox="0 0 120 120">
      <rect x="30" y="44" width="60" height="56" rx="13" fill="#f7f8fb" stroke="#c3c9d8" stroke-width="2" />
      <path d="M46 44V26m28 18V26" stroke="#9aa3b8" stroke-width="7" {...LINE} />
      <path d="M63 56 51 74h9l-3 14 13-19h-9z" fill="#4858c7" />
    </svg>
  );
}

function Tablet() {
  return (
    <svg viewBox="0 0 120 120">
      <rect x="12" y="22" width="96" height="74" rx="9" fill="#2f3a4d" />
      <rect x="18" y="28" width="84" height="62" rx="4" fill="#f2c9a1" />
      <circle cx="76" cy="48" r="9" fill="#fff3df" /><path d="M18 78l24-24 18 18 12-10 30 26v2H18z" fill="#d2875b" />
      <path d="M104 104 66 66l-2-6 6 2 38 38z" fill="#f7f8fb" stroke="#9aa3b8" stroke-width="1.5" />
    </svg>
  );
}

openShop({
  tenant: "xinghe",
  name: { zh: "星河数码", en: "Xinghe Digital" },
  slogan: { zh: "把星河，装进口袋。", en: "A galaxy in your pocket." },
  promise: {
    zh: "手机、电脑与影音，正品联保。没有激活，七天可退；一线城市和省会次日达。",
    en: "Phones, computers and sound with a national warranty. Seven days to return what was not activated; next-day delivery in the large cities.",
  },
  sections: [
    { zh: "手机", en: "Phones" },
    { zh: "电脑", en: "Computers" },
    { zh: "影音", en: "Sound" },
    { zh: "配件", en: "Accessories" },
  ],
  services: [
    [{ zh: "全国联保", en: "National warranty" }, { zh: "整机 1 年，电池 6 个月", en: "One year, six months for the battery" }],
    [{ zh: "以旧换新", en: "Trade in" }, { zh: "在线估价，上门取件", en: "Valued online, fetched at your door" }],
    [{ zh: "极速送达", en: "Fast delivery" }, { zh: "一线城市和省会次日达", en: "The next day in the large cities" }],
    [{ zh: "真人客服", en: "People who answer" }, { zh: "机器人先答，随时转人工", en: "The assistant first, a person whenever you like" }],
  ],
  products: [
    { name: { zh: "星河 X2 手机", en: "Xinghe X2" }, detail: { zh: "6.3 英寸 · 256 GB", en: "6.3 inches · 256 GB" }, price: 3999, tint: "#e4e8fa", art: <Phone body="#20263c" screen="#4858c7" /> },
    { name: { zh: "降噪耳机 Air", en: "Air headphones" }, detail: { zh: "主动降噪 · 40 小时", en: "Noise cancelling · 40 hours" }, price: 899, tint: "#ece9f7", art: <Headphones /> },
    { name: { zh: "轻薄本 14", en: "Book 14" }, detail: { zh: "1.2 千克 · 18 小时", en: "1.2 kg · 18 hours" }, price: 5699, tint: "#e5eaf2", art: <Laptop /> },
    { name: { zh: "运动手表 S", en: "Watch S" }, detail: { zh: "心率血氧 · 14 天", en: "Heart and oxygen · 14 days" }, price: 1099, tint: "#dff0eb", art: <Watch /> },
    { name: { zh: "星河 X2 青春版", en: "Xinghe X2 lite" }, detail: { zh: "6.1 英寸 · 128 GB", en: "6.1 inches · 128 GB" }, price: 2299, tint: "#f6e6e1", art: <Phone body="#7a3f33" screen="#e2785b" /> },
    { name: { zh: "平板 11", en: "Tablet 11" }, detail: { zh: "2.8K 屏 · 手写笔", en: "2.8K screen · with a pen" }, price: 2499, tint: "#f7eddf", art: <Tablet /> },
    { name: { zh: "蓝牙音箱", en: "Speaker" }, detail: { zh: "防水 · 20 小时", en: "Waterproof · 20 hours" }, price: 329, tint: "#f5e5de", art: <Speaker /> },
    { name: { zh: "65W 充电器", en: "65 W charger" }, detail: { zh: "氮化镓 · 双口", en: "GaN · two ports" }, price: 149, tint: "#e8ebf1", art: <Charger /> },
  ],
  hero: (
    <svg viewBox="0 0 400 260">
      <circle cx="210" cy="130" r="104" fill="#3147a8" opacity=".12" />
      <circle cx="210" cy="130" r="70" fill="#3147a8" opacity=".14" />
      <ellipse cx="210" cy="130" rx="172" ry="44" transform="rotate(-18 210 130)" stroke="#3147a8" stroke-width="2" opacity=".5" fill="none" />
      <g fill="#3147a8"><circle cx="50" cy="188" r="7" /><circle cx="366" cy="76" r="5" /><circle cx="112" cy="48" r="3" /><circle cx="330" cy="212" r="4" /></g>
      <g transform="rotate(8 210 130)">
        <rect x="164" y="28" width="98" height="204" rx="20" fill="#151d3f" />
        <rect x="171" y="35" width="84" height="190" rx="14" fill="#4858c7" />
        <rect x="198" y="42" width="30" height="8" rx="4" fill="#151d3f" />
        <circle cx="204" cy="126" r="30" fill="#fff" opacity=".24" /><circle cx="222" cy="110" r="30" fill="#fff" opacity=".2" />
        <path d="M196 212h36" stroke="#fff" stroke-width="4" opacity=".8" {...LINE} />
      </g>
    </svg>
  ),
});
