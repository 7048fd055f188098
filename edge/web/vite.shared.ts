// What the builds of all packages share.

import { fileURLToPath } from "node:url";

import { fromBinary, toBinary } from "@bufbuild/protobuf";
import { base64Decode } from "@bufbuild/protobuf/wire";
import { type FileDescriptorProto, FileDescriptorProtoSchema } from "@bufbuild/protobuf/wkt";
import type { Plugin, UserConfig } from "vite";

const at = (path: string) => fileURLToPath(new URL(path, import.meta.url));

/**
 * Leave the options out of the contracts that pages contain: who may call what, what is valid, what is personal data, and
 * the names of packages in other languages. Servers enforce them, and pages never read them.
 */
const withoutOptions: Plugin = {
  name: "contracts-without-options",
  transform(code, id) {
    if (!id.endsWith("_pb.ts")) return null;
    return code.replace(/fileDesc\("([^"]+)"/, (_, encoded: string) => {
      const file = fromBinary(FileDescriptorProtoSchema, base64Decode(encoded));
      for (const one of described(file)) if (!isMap(one)) delete one.options;
      // Names repeat, and compress in plain sight only: base64 takes half as much again.
      const plain = String.fromCharCode(...toBinary(FileDescriptorProtoSchema, file));
      return `fileDesc(/*@__PURE__*/ btoa(${JSON.stringify(plain)})`;
    });
  },
};

type Described = { options?: unknown };

/** Everything in a file that has options. */
function described(file: FileDescriptorProto): Described[] {
  const messages = file.messageType.flatMap(function nested(one): typeof file.messageType {
    return [one, ...one.nestedType.flatMap(nested)];
  });
  const enums = [...file.enumType, ...messages.flatMap((one) => one.enumType)];
  return [
    file,
    ...messages,
    ...messages.flatMap((one) => [...one.field, ...one.oneofDecl]),
    ...enums.flatMap((one) => [one, ...one.value]),
    ...file.service.flatMap((one) => [one, ...one.method]),
  ];
}

/** Whether options say how something is read: a message that is the entry of a map. */
function isMap({ options }: Described): boolean {
  return (options as { mapEntry?: boolean } | undefined)?.mapEntry === true;
}

/** Build a package's entries, by name, into `outDir`. Both are relative to this folder. */
export function pages(name: string, outDir: string, input: Record<string, string>): UserConfig {
  return {
    root: at(name),
    publicDir: at("public"),
    plugins: [withoutOptions],
    // Also for the parts of `core`, which lies behind a link that the compiler's own settings do not cover.
    oxc: { jsx: { runtime: "automatic", importSource: "preact" } },
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
