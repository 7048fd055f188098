import { defineConfig } from "vite";

import { pages } from "../vite.shared.ts";

export default defineConfig(pages("console", "dist", { agent: "agent/index.html" }));
