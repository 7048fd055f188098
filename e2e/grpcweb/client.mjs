// A gRPC-Web client that a test drives: a command a line on standard input, what happens a line on standard output.
//
//   {"id": 1, "method": "octopus.user.v1.AuthService/LogIn", "token": "", "request": {...}}   starts a call
//   {"id": 1, "cancel": true}                                                                 ends it
//
// Answers carry the id: any number of {"message": ...}, then {"end": {}} or {"end": {"code", "text", "details", "header"}}.
// Messages are in protobuf's JSON mapping. The transport is connect-web, as in the pages.

import { createInterface } from "node:readline";

import { fromJson, toJson } from "@bufbuild/protobuf";
import { Code, ConnectError } from "@connectrpc/connect";
import { createGrpcWebTransport } from "@connectrpc/connect-web";
import { ChatService } from "@octopus/contracts/octopus/chat/v1/chat_service_pb";
import { SessionService } from "@octopus/contracts/octopus/session/v1/session_service_pb";
import { AuthService } from "@octopus/contracts/octopus/user/v1/auth_service_pb";

const methods = new Map(
  [AuthService, SessionService, ChatService].flatMap((service) =>
    service.methods.map((method) => [`${service.typeName}/${method.name}`, method]),
  ),
);
const transport = createGrpcWebTransport({ baseUrl: process.argv[2], useBinaryFormat: true });
const open = new Map();

const say = (line) => process.stdout.write(`${JSON.stringify(line)}\n`);

async function call({ id, method: name, token, request, timeoutMs }) {
  const abort = new AbortController();
  open.set(id, abort);
  try {
    const method = methods.get(name);
    const input = fromJson(method.input, request);
    const headers = token ? { authorization: `Bearer ${token}` } : {};
    if (method.methodKind === "server_streaming") {
      const one = (async function* () {
        yield input;
      })();
      const { message: stream } = await transport.stream(method, abort.signal, undefined, headers, one);
      for await (const message of stream) say({ id, message: toJson(method.output, message) });
    } else {
      const { message } = await transport.unary(method, abort.signal, timeoutMs, headers, input);
      say({ id, message: toJson(method.output, message) });
    }
    say({ id, end: {} });
  } catch (error) {
    const { code, rawMessage, details, metadata } = ConnectError.from(error);
    // What came over the wire: type name and bytes, or a message made in this process.
    const told = details.map(({ type, value }) => ({ type, value: Buffer.from(value ?? []).toString("base64") }));
    // Envoy refuses some calls itself, by HTTP's status; connect leaves the details in the header then.
    const header = metadata.get("grpc-status-details-bin");
    say({ id, end: { code: Code[code], text: rawMessage, details: told, header } });
  } finally {
    open.delete(id);
  }
}

for await (const line of createInterface({ input: process.stdin })) {
  const command = JSON.parse(line);
  if (command.cancel) open.get(command.id)?.abort();
  else void call(command);
}
process.exit(0);
