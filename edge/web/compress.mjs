// Writes compressed copies beside the built files: the page server chooses one for each request and never compresses
// itself.

import { readdirSync, readFileSync, writeFileSync } from "node:fs";
import { extname, join } from "node:path";
import zlib from "node:zlib";

const TEXT = new Set([".css", ".html", ".js", ".json", ".svg", ".txt"]);

const { constants } = zlib;
const ENCODERS = {
  ".br": (body) => zlib.brotliCompressSync(body, { params: { [constants.BROTLI_PARAM_SIZE_HINT]: body.length } }),
  ".gz": (body) => zlib.gzipSync(body, { level: 9 }),
  ".zst": (body) => zlib.zstdCompressSync(body, { params: { [constants.ZSTD_c_compressionLevel]: 19 } }),
};
// Not in a node that is older than the venv's; two of three are enough.
if (!zlib.zstdCompressSync) delete ENCODERS[".zst"];

for (const folder of process.argv.slice(2)) {
  for (const name of readdirSync(folder, { recursive: true })) {
    if (!TEXT.has(extname(name))) continue;
    const path = join(folder, name);
    const body = readFileSync(path);
    for (const [suffix, encode] of Object.entries(ENCODERS)) {
      const encoded = encode(body);
      // A copy that saves nothing is not worth a negotiation.
      if (encoded.length < body.length) writeFileSync(path + suffix, encoded);
    }
  }
}
