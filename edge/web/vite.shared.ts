// What the builds of all packages share.

import { fileURLToPath } from "node:url";

import { fromBinary, toBinary } from "@bufbuild/protobuf";
import { base64Decode, BinaryReader, WireType } from "@bufbuild/protobuf/wire";
import { type FileDescriptorProto, FileDescriptorProtoSchema } from "@bufbuild/protobuf/wkt";
import type { Plugin, UserConfig } from "vite";

const at = (path: string) => fileURLToPath(new URL(path, import.meta.url));

/**
 * Leave the options out of the contracts that pages contain: who may call what, what is valid, what is personal data, and
 * the names of packages in other languages. Servers enforce them, and pages never read them.
 */
const withoutOptions = (roles: readonly number[] | null): Plugin => ({
  name: "contracts-without-options",
  transform(code, id) {
    if (!id.endsWith("_pb.ts")) return null;
    return code.replace(/fileDesc\("([^"]+)"/, (_, encoded: string) => {
      const file = fromBinary(FileDescriptorProtoSchema, base64Decode(encoded));
      if (roles) forget(file, roles);
      // Its names are what others refer to.
      if (file.name === "octopus/options/v1/options.proto") for (const message of file.messageType) message.field = [];
      for (const one of described(file)) {
        if (!isMap(one)) delete one.options;
        if (one.reservedName) Object.assign(one, { reservedName: [], reservedRange: [] });
      }
      // Names repeat, and compress in plain sight only: base64 takes half as much again.
      const plain = String.fromCharCode(...toBinary(FileDescriptorProtoSchema, file));
      return `fileDesc(/*@__PURE__*/ btoa(${JSON.stringify(plain)})`;
    });
  },
});

/**
 * Leave out the methods that none of these roles may call, and what they say and answer. Those messages keep their
 * places, by which the generated code finds the others.
 */
function forget(file: FileDescriptorProto, roles: readonly number[]): void {
  // On the wire values are numbers, and the code has names of its own.
  for (const { value } of file.enumType) value.forEach((one, place) => (one.name = `V${place}`));
  for (const service of file.service) {
    const kept = service.method.filter(({ options }) => callersOf(options).some((role) => roles.includes(role)));
    for (const { inputType, outputType } of service.method.filter((method) => !kept.includes(method))) {
      file.messageType.forEach((message, place) => {
        if (![inputType, outputType].some((type) => type.endsWith(`.${message.name}`))) return;
        message.name = `M${place}`;
        message.field = [];
        message.oneofDecl = [];
      });
    }
    service.method = kept;
  }
}

/** The roles in the option `octopus.options.v1.access` of a method. */
function callersOf(options: { $unknown?: { no: number; data: Uint8Array }[] } | undefined): number[] {
  const roles: number[] = [];
  for (const { no, data } of options?.$unknown ?? []) {
    if (no !== ACCESS) continue;
    const access = new BinaryReader(new BinaryReader(data).bytes());
    while (access.pos < access.len) {
      const [field, type] = access.tag();
      if (field !== ROLES) access.skip(type, field);
      else if (type === WireType.Varint) roles.push(access.int32());
      else for (const end = access.uint32() + access.pos; access.pos < end; ) roles.push(access.int32());
    }
  }
  return roles;
}

// Numbers of the contract: the extension `access`, its roles, and the roles of shoppers and of whoever is not known yet.
const ACCESS = 50001;
const ROLES = 1;
/** For a page that only shoppers see. */
export const SHOPPERS: readonly number[] = [1, 3, 4];

type Described = { options?: unknown; reservedName?: string[] };

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

/**
 * Build a package's entries, by name, into `outDir`. Both are relative to this folder. With `roles`, the contracts in it
 * know what these may call.
 */
export function pages(
  name: string,
  outDir: string,
  input: Record<string, string>,
  roles: readonly number[] | null = null,
): UserConfig {
  return {
    root: at(name),
    publicDir: at("public"),
    plugins: [withoutOptions(roles)],
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
