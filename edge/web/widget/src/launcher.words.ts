// What the launcher says, in both languages.

import type { Language } from "@octopus/core/locale";

export const LAUNCHER_WORDS: Record<Language, { open: string; opening: string; failed: string }> = {
  zh: { open: "打开在线客服", opening: "正在打开在线客服…", failed: "客服没有加载出来，请检查网络后再点一次。" },
  en: {
    open: "Open customer service",
    opening: "Opening customer service…",
    failed: "Customer service could not be loaded. Check your connection and press again.",
  },
};
