// 青衫服饰, the clothes shop.

import { openShop } from "./storefront";

const LINE = { fill: "none", "stroke-linecap": "round", "stroke-linejoin": "round" } as const;

function Shirt({ cloth, seam }: { cloth: string; seam: string }) {
  return (
    <svg viewBox="0 0 120 120">
      <path d="M42 18 18 32l-8 28 16 5 4-12v49h60V53l4 12 16-5-8-28-24-14c-4 8-10 12-18 12s-14-4-18-12z" fill={cloth} />
      <path d="M60 30v72M42 18l12 18 6-6 6 6 12-18M30 53v-8m60 8v-8" stroke={seam} stroke-width="2" {...LINE} />
      <path d="M66 48h14v12H66z" stroke={seam} stroke-width="2" {...LINE} />
      <g fill={seam}><circle cx="60" cy="46" r="1.6" /><circle cx="60" cy="62" r="1.6" /><circle cx="60" cy="78" r="1.6" /></g>
    </svg>
  );
}

function Dress() {
  return (
    <svg viewBox="0 0 120 120">
      <path d="M46 12c0 8 28 8 28 0l8 4c-2 14-2 20 2 28l18 58c-20 10-64 10-84 0l18-58c4-8 4-14 2-28z" fill="#b56b5c" />
      <path d="M38 46c14 6 30 6 44 0M48 60l-8 44m32-44 8 44M60 62v46" stroke="#8d4a3d" stroke-width="2" {...LINE} />
    </svg>
  );
}

function Coat() {
  return (
    <svg viewBox="0 0 120 120">
      <path d="M46 10 22 22l-8 60 14 2 4-34v58h56V50l4 34 14-2-8-60-24-12-14 14z" fill="#8a7458" />
      <path d="M46 10l14 32 14-32M60 42v66M40 78h10m24 0h8" stroke="#5f4e38" stroke-width="2" {...LINE} />
      <g fill="#5f4e38"><circle cx="66" cy="56" r="2" /><circle cx="66" cy="72" r="2" /><circle cx="66" cy="88" r="2" /></g>
    </svg>
  );
}

function Trousers() {
  return (
    <svg viewBox="0 0 120 120">
      <path d="M36 12h48l8 96H68l-8-58-8 58H28z" fill="#46566b" />
      <path d="M36 24h48M60 24v26M40 24c0 8-4 12-6 12m46-12c0 8 4 12 6 12" stroke="#2c394a" stroke-width="2" {...LINE} />
    </svg>
  );
}

function Scarf() {
  return (
    <svg viewBox="0 0 120 120">
      <path d="M28 24c20-12 44-12 64 0 4 12-4 22-16 26l14 50H70L58 54c-14 0-28-8-30-30z" fill="#c08a3e" />
      <path d="M34 34c16-8 36-8 52 0M66 62l20 0M69 74l20 0M72 86l20 0M70 100v8m7-8v8m7-8v8" stroke="#8f6325" stroke-width="2" {...LINE} />
    </svg>
  );
}

function Bag() {
  return (
    <svg viewBox="0 0 120 120">
      <path d="M22 46h76l-6 62H28z" fill="#d8cbb3" />
      <path d="M42 58V34c0-24 36-24 36 0v24" stroke="#8d7c5c" stroke-width="4" {...LINE} />
      <path d="M50 92c-4-16 6-24 22-24 0 16-8 26-22 24zm0 0c4-8 8-12 14-16" stroke="#3d5a50" stroke-width="2.5" {...LINE} />
    </svg>
  );
}

openShop({
  tenant: "qingshan",
  name: { zh: "青衫服饰", en: "Qingshan Clothing" },
  slogan: { zh: "一件好衣服，慢慢穿。", en: "Good clothes, worn slowly." },
  promise: {
    zh: "亚麻、棉与羊毛，素净的颜色，宽松的剪裁。七天无理由退换，尺码不合适免费换。",
    en: "Linen, cotton and wool in quiet colours and easy cuts. Seven days to return, and a free exchange of size.",
  },
  sections: [
    { zh: "新品", en: "New" },
    { zh: "衬衫", en: "Shirts" },
    { zh: "外套", en: "Coats" },
    { zh: "配饰", en: "Accessories" },
  ],
  services: [
    [{ zh: "24 小时内发货", en: "Sent within 24 hours" }, { zh: "每天 16:00 前付款当天发出", en: "Paid before 16:00, sent the same day" }],
    [{ zh: "七天无理由", en: "Seven days to return" }, { zh: "吊牌完好即可退换", en: "With its tag, whatever the reason" }],
    [{ zh: "免费换码", en: "Free exchange of size" }, { zh: "换出的运费我们承担", en: "We pay for sending the new one" }],
    [{ zh: "真人客服", en: "People who answer" }, { zh: "机器人先答，随时转人工", en: "The assistant first, a person whenever you like" }],
  ],
  products: [
    { name: { zh: "亚麻立领衬衫", en: "Linen shirt" }, detail: { zh: "雾蓝 · 宽松", en: "Mist blue · relaxed" }, price: 269, tint: "#e3eaee", art: <Shirt cloth="#8fa9b8" seam="#5c7888" /> },
    { name: { zh: "陶土连衣裙", en: "Clay dress" }, detail: { zh: "棉麻混纺 · 及膝", en: "Cotton and linen · knee length" }, price: 429, tint: "#f3e4df", art: <Dress /> },
    { name: { zh: "驼色羊毛大衣", en: "Camel wool coat" }, detail: { zh: "双面呢 · 手工缝制", en: "Double-faced · sewn by hand" }, price: 1299, tint: "#eee6d9", art: <Coat /> },
    { name: { zh: "直筒牛仔裤", en: "Straight jeans" }, detail: { zh: "水洗靛蓝 · 高腰", en: "Washed indigo · high waist" }, price: 319, tint: "#e2e6ec", art: <Trousers /> },
    { name: { zh: "白棉衬衫", en: "White cotton shirt" }, detail: { zh: "免烫 · 修身", en: "No ironing · slim" }, price: 239, tint: "#dfe8e2", art: <Shirt cloth="#fbfbf8" seam="#b3b9b0" /> },
    { name: { zh: "羊绒围巾", en: "Cashmere scarf" }, detail: { zh: "秋香黄 · 180 厘米", en: "Autumn gold · 180 cm" }, price: 359, tint: "#f6ecd9", art: <Scarf /> },
    { name: { zh: "帆布手提袋", en: "Canvas bag" }, detail: { zh: "加厚 · 青叶刺绣", en: "Heavy · with a leaf" }, price: 99, tint: "#e6ede3", art: <Bag /> },
    { name: { zh: "松绿衬衫", en: "Pine shirt" }, detail: { zh: "灯芯绒 · 秋冬", en: "Corduroy · for winter" }, price: 299, tint: "#dce6df", art: <Shirt cloth="#54756a" seam="#2f4c42" /> },
  ],
  hero: (
    <svg viewBox="0 0 400 260">
      <path d="M40 40h320" stroke="#8a7458" stroke-width="5" {...LINE} />
      <path d="M60 40v210M340 40v210" stroke="#8a7458" stroke-width="5" {...LINE} />
      {[
        ["#8fa9b8", 110],
        ["#fbfbf8", 165],
        ["#54756a", 220],
        ["#b56b5c", 275],
      ].map(([cloth, x]) => (
        <g key={x} transform={`translate(${x} 40)`}>
          <path d="M0 0c-8-10 8-16 8-6M0 0v10L-26 28h52L0 10" stroke="#8a7458" stroke-width="3" {...LINE} />
          <path d="M-14 22-32 34l-4 60 10 2v86h52V96l10-2-4-60-18-12c-6 8-22 8-28 0z" fill={cloth as string} />
          <path d="M0 30v150M-26 96V60m52 36V60" stroke="rgb(0 0 0 / .16)" stroke-width="2" {...LINE} />
        </g>
      ))}
    </svg>
  ),
});
