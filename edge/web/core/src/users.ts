// Calls about users, by gRPC-Web.

import { type Client, createClient } from "@connectrpc/connect";
import { UserService } from "@octopus/contracts/octopus/user/v1/user_service_pb";

import { personalTransport, TIMEOUT_MS, type Tokens } from "./api";

/** A client that calls as somebody. */
export function userApi(origin: string, tokens: Tokens): Client<typeof UserService> {
  return createClient(UserService, personalTransport(origin, tokens, TIMEOUT_MS));
}
