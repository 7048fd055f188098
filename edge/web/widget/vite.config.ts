import { defineConfig, mergeConfig } from "vite";

import { pages } from "../vite.shared.ts";

// Not `lib`, which leaves white space and long names in modules.
export default defineConfig(
  mergeConfig(pages("widget", "dist", { "octopus-chat": "src/element.ts" }), {
    build: { modulePreload: false, rolldownOptions: { output: { entryFileNames: "[name].js" } } },
  }),
);
