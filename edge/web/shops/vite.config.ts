import { defineConfig, mergeConfig } from "vite";

import { pages } from "../vite.shared.ts";

// Apart from the platform's own pages: the demo shops have a server of their own, below /shop/.
export default defineConfig(
  mergeConfig(pages("shops", "shops/dist", { qingshan: "qingshan/index.html", xinghe: "xinghe/index.html" }), {
    base: "/shop/",
    build: { copyPublicDir: true },
  }),
);
