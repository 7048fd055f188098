// Unary calls through the edge, by gRPC-Web. One client for each service the pages use.

import { fromBinary } from "@bufbuild/protobuf";
import { BinaryReader, WireType } from "@bufbuild/protobuf/wire";
import { durationMs, DurationSchema } from "@bufbuild/protobuf/wkt";
import { Code, ConnectError, createClient, type Interceptor, type Transport } from "@connectrpc/connect";
import { createGrpcWebTransport } from "@connectrpc/connect-web";
import { ArchiveService } from "@octopus/contracts/octopus/archive/v1/archive_service_pb";
import { ChatService } from "@octopus/contracts/octopus/chat/v1/chat_service_pb";
import { Reason } from "@octopus/contracts/octopus/errors/v1/errors_pb";
import { SessionService } from "@octopus/contracts/octopus/session/v1/session_service_pb";
import { AuthService } from "@octopus/contracts/octopus/user/v1/auth_service_pb";

/** Where access tokens come from. */
export interface Tokens {
  /** A token that is good for a while; refreshed when needed. Fails with `SignedOut` when there is none to be had. */
  current(): Promise<string>;
}

/** Nobody is logged in any more: the refresh token was used up, revoked or has ended. */
export class SignedOut extends Error {}

/** How long a call may take. */
export const TIMEOUT_MS = 10_000;

/** Clients that need no token: log-in and refresh. */
export function openApi(origin: string) {
  const transport = createGrpcWebTransport({ baseUrl: origin, useBinaryFormat: true, defaultTimeoutMs: TIMEOUT_MS });
  return { auth: createClient(AuthService, transport) };
}

/** Clients that call as somebody. That of the users is apart, for shoppers' pages hardly ever need it. */
export function personalApi(origin: string, tokens: Tokens) {
  const unary = personalTransport(origin, tokens, TIMEOUT_MS);
  return {
    auth: createClient(AuthService, unary),
    session: createClient(SessionService, unary),
    archive: createClient(ArchiveService, unary),
    send: createClient(ChatService, unary),
    // Streams live longer than any call.
    subscribe: createClient(ChatService, personalTransport(origin, tokens)),
  };
}

/** A way to call as somebody. */
export function personalTransport(origin: string, tokens: Tokens, defaultTimeoutMs?: number): Transport {
  const withToken: Interceptor = (next) => async (request) => {
    request.header.set("authorization", `Bearer ${await tokens.current()}`);
    return next(request);
  };
  const limit = defaultTimeoutMs === undefined ? {} : { defaultTimeoutMs };
  return createGrpcWebTransport({ baseUrl: origin, useBinaryFormat: true, interceptors: [withToken], ...limit });
}

export type PersonalApi = ReturnType<typeof personalApi>;

/** What kind of failure a call met, as far as a page words it. */
export type Trouble = "credentials" | "limited" | "full" | "refused" | "disabled" | "state" | "offline" | "internal";

/** A failure as a page tells it. */
export interface Failure {
  trouble: Trouble;
  /** After how many seconds trying again makes sense; 0 when the platform did not say. */
  retryAfterS: number;
}

/** Judge a failed call, and say when to try again. */
export function failureOf(error: unknown): Failure {
  return { trouble: troubleOf(error), retryAfterS: retryAfter(error) };
}

/** Judge a failed call. */
export function troubleOf(error: unknown): Trouble {
  if (error instanceof SignedOut) return "credentials";
  if (!(error instanceof ConnectError)) return "offline";
  const reason = reasonOf(error);
  if (reason === Reason.DISABLED) return "disabled";
  if (reason === Reason.STORAGE_FULL) return "full";
  switch (error.code) {
    case Code.Unauthenticated:
      return "credentials";
    case Code.ResourceExhausted:
      return "limited";
    case Code.FailedPrecondition:
    case Code.Aborted:
      return "state";
    case Code.Unavailable:
    case Code.DeadlineExceeded:
    case Code.Unknown:
      return "offline";
    case Code.Internal:
      return "internal";
    default:
      return "refused";
  }
}

/** The reason an error carries; `Reason.UNSPECIFIED` when it carries none. */
export function reasonOf(error: unknown): Reason {
  const detail = detailOf(error, "google.rpc.ErrorInfo");
  // `reason` is the first field of ErrorInfo.
  const name = detail && new TextDecoder().decode(firstField(detail)).replace(/^REASON_/, "");
  return name && name in Reason ? Reason[name as keyof typeof Reason] : Reason.UNSPECIFIED;
}

/** What an error says besides its reason, e.g. who has a session; see the method's contract for the keys. */
export function metadataOf(error: unknown): ReadonlyMap<string, string> {
  const found = new Map<string, string>();
  const detail = detailOf(error, "google.rpc.ErrorInfo");
  const reader = new BinaryReader(detail ?? new Uint8Array());
  while (reader.pos < reader.len) {
    const [field, wireType] = reader.tag();
    // `metadata` is the third field of ErrorInfo, a map: each entry has a key and a value.
    if (field === 3 && wireType === WireType.LengthDelimited) {
      const entry = new BinaryReader(reader.bytes());
      const pair = ["", ""];
      while (entry.pos < entry.len) {
        const [place] = entry.tag();
        pair[place - 1] = entry.string();
      }
      found.set(pair[0]!, pair[1]!);
    } else reader.skip(wireType, field);
  }
  return found;
}

function retryAfter(error: unknown): number {
  const detail = detailOf(error, "google.rpc.RetryInfo");
  // `retry_delay` is the only field of RetryInfo.
  return detail ? Math.ceil(durationMs(fromBinary(DurationSchema, firstField(detail))) / 1000) : 0;
}

function detailOf(error: unknown, type: string): Uint8Array | undefined {
  if (!(error instanceof ConnectError)) return undefined;
  // What came over the wire: a type's name and bytes.
  for (const detail of error.details) if ("type" in detail && detail.type === type) return detail.value;
  return undefined;
}

/** The bytes of a message's first field, when that is its field 1 and has a length; else none. */
function firstField(message: Uint8Array): Uint8Array {
  const reader = new BinaryReader(message);
  const [field, wireType] = message.length > 0 ? reader.tag() : [0, WireType.Varint];
  return field === 1 && wireType === WireType.LengthDelimited ? reader.bytes() : new Uint8Array();
}
