import { defineConfig } from "vite";

import { pages } from "../vite.shared.ts";

// Apart from the platform's own pages: the demo shops have a server of their own, below /shop/.
export default defineConfig(
  pages("shops", "dist", { qingshan: "shop/qingshan/index.html", xinghe: "shop/xinghe/index.html" }),
);
