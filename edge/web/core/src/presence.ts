// Who is online, by gRPC-Web.

import { type Client, createClient } from "@connectrpc/connect";
import { PresenceService } from "@octopus/contracts/octopus/presence/v1/presence_service_pb";

import { personalTransport, TIMEOUT_MS, type Tokens } from "./api";

/** A client that calls as somebody of the shop's staff. */
export function presenceApi(origin: string, tokens: Tokens): Client<typeof PresenceService> {
  return createClient(PresenceService, personalTransport(origin, tokens, TIMEOUT_MS));
}
