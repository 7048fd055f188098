// Unary calls through the edge, by gRPC-Web. One client for each service the pages use.

import { Code, ConnectError, createClient, type Interceptor } from "@connectrpc/connect";
import { createGrpcWebTransport } from "@connectrpc/connect-web";
import { ArchiveService } from "@octopus/contracts/octopus/archive/v1/archive_service_pb";
import { ChatService } from "@octopus/contracts/octopus/chat/v1/chat_service_pb";
import { SessionService } from "@octopus/contracts/octopus/session/v1/session_service_pb";
import { AuthService } from "@octopus/contracts/octopus/user/v1/auth_service_pb";
import { UserService } from "@octopus/contracts/octopus/user/v1/user_service_pb";

/** Where access tokens come from. */
export interface Tokens {
  /** A token that is good for a while; refreshed when needed. Fails with `SignedOut` when there is none to be had. */
  current(): Promise<string>;
}

/** Nobody is logged in any more: the refresh token was used up, revoked or has ended. */
export class SignedOut extends Error {}

const TIMEOUT_MS = 10_000;

/** Clients that need no token: log-in and refresh. */
export function openApi(origin: string) {
  const transport = createGrpcWebTransport({ baseUrl: origin, useBinaryFormat: true, defaultTimeoutMs: TIMEOUT_MS });
  return { auth: createClient(AuthService, transport) };
}

/** Clients that call as somebody. */
export function personalApi(origin: string, tokens: Tokens) {
  const withToken: Interceptor = (next) => async (request) => {
    request.header.set("authorization", `Bearer ${await tokens.current()}`);
    return next(request);
  };
  const options = { baseUrl: origin, useBinaryFormat: true, interceptors: [withToken] };
  const unary = createGrpcWebTransport({ ...options, defaultTimeoutMs: TIMEOUT_MS });
  return {
    user: createClient(UserService, unary),
    session: createClient(SessionService, unary),
    archive: createClient(ArchiveService, unary),
    send: createClient(ChatService, unary),
    // Streams live longer than any call.
    subscribe: createClient(ChatService, createGrpcWebTransport(options)),
  };
}

export type PersonalApi = ReturnType<typeof personalApi>;

/** What kind of failure a call met, as far as a page words it. */
export type Trouble = "credentials" | "locked" | "refused" | "state" | "offline" | "internal";

/** Judge a failed call. */
export function troubleOf(error: unknown): Trouble {
  if (error instanceof SignedOut) return "credentials";
  if (!(error instanceof ConnectError)) return "offline";
  switch (error.code) {
    case Code.Unauthenticated:
      return "credentials";
    case Code.ResourceExhausted:
      return "locked";
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
