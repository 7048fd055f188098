// What the builds of all packages share.

import { fileURLToPath } from "node:url";

import type { UserConfig } from "vite";

const at = (path: string) => fileURLToPath(new URL(path, import.meta.url));

/** Build a package's entries, by name, into `outDir`. Both are relative to this folder. */
export function pages(name: string, outDir: string, input: Record<string, string>): UserConfig {
  return {
    root: at(name),
    publicDir: at("public"),
    // The contracts and the packages are links; what they import is found from here.
    resolve: {
      preserveSymlinks: true,
      alias: [{ find: /^.*\/buf\/validate\/validate_pb$/, replacement: at("core/src/unchecked.ts") }],
    },
    build: {
      target: "es2022",
      outDir: at(outDir),
      // Several packages build into one folder; the root's script empties it first.
      emptyOutDir: false,
      copyPublicDir: false,
      // Styles and scripts are files of their own: the pages' security policy allows no inline scripts.
      assetsInlineLimit: 0,
      modulePreload: { polyfill: false },
      rolldownOptions: {
        input: Object.fromEntries(Object.entries(input).map(([key, path]) => [key, at(`${name}/${path}`)])),
      },
    },
  };
}
