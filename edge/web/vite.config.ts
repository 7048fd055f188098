// Two builds: the pages with hashed assets, and, in mode `widget`, the one file that shops embed.

import { fileURLToPath } from "node:url";

import { defineConfig } from "vite";

const at = (path: string) => fileURLToPath(new URL(path, import.meta.url));

export default defineConfig(({ mode }) => ({
  root: at("."),
  // The contracts are linked from gen/ts; their own imports are found from here.
  resolve: {
    preserveSymlinks: true,
    alias: [{ find: /^.*\/buf\/validate\/validate_pb$/, replacement: at("src/core/unchecked.ts") }],
  },
  build:
    mode === "widget"
      ? {
          target: "es2022",
          emptyOutDir: false,
          copyPublicDir: false,
          modulePreload: false,
          // Not `lib`, which leaves white space and long names in modules.
          rolldownOptions: {
            input: at("src/chat/element.tsx"),
            output: { entryFileNames: "octopus-chat.js" },
          },
        }
      : {
          target: "es2022",
          // Styles and scripts are files of their own: the pages' security policy allows no inline scripts.
          assetsInlineLimit: 0,
          modulePreload: { polyfill: false },
          rolldownOptions: {
            input: {
              home: at("index.html"),
              agent: at("agent/index.html"),
              qingshan: at("shop/qingshan/index.html"),
              xinghe: at("shop/xinghe/index.html"),
            },
          },
        },
}));
