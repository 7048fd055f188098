// Calls about canned replies, by gRPC-Web.

import { type Client, createClient } from "@connectrpc/connect";
import { CannedReplyService } from "@octopus/contracts/octopus/knowledge/v1/canned_reply_service_pb";

import { personalTransport, TIMEOUT_MS, type Tokens } from "./api";

/** A client that calls as somebody. */
export function cannedApi(origin: string, tokens: Tokens): Client<typeof CannedReplyService> {
  return createClient(CannedReplyService, personalTransport(origin, tokens, TIMEOUT_MS));
}
