// The contracts are TypeScript, and packages lie with the pages: one file of it all is what node runs.

import { fileURLToPath } from "node:url";

const at = (path) => fileURLToPath(new URL(path, import.meta.url));

export default {
  input: at("client.mjs"),
  platform: "node",
  resolve: { modules: [at("../../edge/web/node_modules")], symlinks: false },
};
