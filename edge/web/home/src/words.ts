// The landing page's texts, in both languages.

import type { Language } from "@octopus/core/locale";

const zh = {
  other: "English",
  title: "Octopus 智能客服",
  claim: "顾客一问，马上有答；需要人时，人就在。",
  about: "一个多租户客服平台：机器人用店铺自己的知识作答，随时转给人工客服，每一条消息都持久、有序、不丢失。",
  pages: [
    { href: "/shop/qingshan/", name: "青衫服饰", what: "演示店铺 · 服装。右下角就是在线客服。", go: "逛逛" },
    { href: "/shop/xinghe/", name: "星河数码", what: "演示店铺 · 数码。另一个租户，另一套知识。", go: "逛逛" },
    { href: "/agent/", name: "客服工作台", what: "客服接待顾客的地方：会话列表、历史、顾客资料。", go: "登录" },
  ],
  tryTitle: "一分钟体验",
  steps: [
    "打开一家店铺，问机器人“多久发货？”",
    "在另一个窗口登录客服工作台，把状态切换为“接待中”。",
    "在店铺里点“转人工”，回到工作台接受会话。",
  ],
  logins: "演示账号在哪里，运行这条命令会告诉您：",
  embedTitle: "放进您的网页",
  embed: "一个脚本，一个标签：",
};

export type Words = typeof zh;

const en: Words = {
  other: "中文",
  title: "Octopus customer service",
  claim: "Answered at once, and by a person when it matters.",
  about:
    "One platform for many shops: a bot answers from the shop's own knowledge, hands over to people at any time, and keeps every message durable and in order.",
  pages: [
    { href: "/shop/qingshan/", name: "Qingshan Clothing", what: "A demo shop for clothes. Customer service is in the corner.", go: "Look around" },
    { href: "/shop/xinghe/", name: "Xinghe Digital", what: "A demo shop for electronics: another tenant, other knowledge.", go: "Look around" },
    { href: "/agent/", name: "Agent console", what: "Where agents talk with customers: inbox, history, customer.", go: "Log in" },
  ],
  tryTitle: "Try it in a minute",
  steps: [
    "Open a shop and ask the bot how long delivery takes.",
    "In another window, log in to the agent console and become available.",
    "Ask for a person in the shop, and accept the chat in the console.",
  ],
  logins: "This command tells where the demo log-ins are:",
  embedTitle: "In your own page",
  embed: "One script and one element:",
};

export const WORDS: Record<Language, Words> = { zh, en };
