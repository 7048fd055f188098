import { defineConfig, mergeConfig } from "vite";

import { pages } from "../vite.shared.ts";

export default defineConfig(mergeConfig(pages("home", "dist", { home: "index.html" }), { build: { copyPublicDir: true } }));
