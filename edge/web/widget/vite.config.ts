import { defineConfig, mergeConfig } from "vite";

import { pages, SHOPPERS } from "../vite.shared.ts";

// Not `lib`, which leaves white space and long names in modules.
export default defineConfig(
  mergeConfig(pages("widget", "dist", { "octopus-chat": "src/element.ts" }, SHOPPERS), {
    build: { modulePreload: false, rolldownOptions: { output: { entryFileNames: "[name].js" } } },
  }),
);
