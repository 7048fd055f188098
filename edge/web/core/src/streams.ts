// Two ways to hold a conversation: WebSocket, and gRPC-Web (`Subscribe` and `Send`) where WebSockets are blocked.

import { create, fromBinary, toBinary } from "@bufbuild/protobuf";
import { durationFromMs } from "@bufbuild/protobuf/wkt";
import { Code, ConnectError } from "@connectrpc/connect";
import { ConverseRequestSchema, ConverseResponseSchema } from "@octopus/contracts/octopus/chat/v1/chat_service_pb";
import {
  type ClientFrame,
  ClientFrameSchema,
  type Hello,
  type ServerFrame,
  ServerFrameSchema,
} from "@octopus/contracts/octopus/chat/v1/frame_pb";
import { Reason } from "@octopus/contracts/octopus/errors/v1/errors_pb";

import { failureOf, type PersonalApi, reasonOf } from "./api";

/** Why a stream ended. `Reason.UNSPECIFIED` when it just broke. */
export class StreamEnd extends Error {
  constructor(readonly reason: Reason) {
    super(Reason[reason]);
  }
}

/** An open stream. */
export interface Stream {
  send(frame: ClientFrame): void;
  /** Break it off. */
  close(): void;
}

/** What a stream tells. `ended` is called once, and nothing after it. */
export interface Listener {
  frame(frame: ServerFrame): void;
  ended(end: StreamEnd): void;
}

const SUBPROTOCOL = "octopus.v1.proto";
// Close codes from here on are numbers of `octopus.errors.v1.Reason`.
const APPLICATION_CODES = 4000;

/** Open a WebSocket and say hello. */
export function overWebSocket(origin: string, token: string, hello: Hello, listener: Listener): Stream {
  const socket = new WebSocket(`${origin.replace(/^http/, "ws")}/ws`, SUBPROTOCOL);
  socket.binaryType = "arraybuffer";
  const send = (frame: ClientFrame) => {
    if (socket.readyState === WebSocket.OPEN) {
      socket.send(toBinary(ConverseRequestSchema, create(ConverseRequestSchema, { frames: [frame] })));
    }
  };
  socket.onopen = () => {
    hello.accessToken = token;
    send(create(ClientFrameSchema, { frame: { case: "hello", value: hello } }));
  };
  socket.onmessage = (event: MessageEvent<ArrayBuffer>) => {
    for (const frame of fromBinary(ConverseResponseSchema, new Uint8Array(event.data)).frames) listener.frame(frame);
  };
  socket.onclose = (event) => {
    const reason = event.code >= APPLICATION_CODES ? event.code - APPLICATION_CODES : Reason.UNSPECIFIED;
    listener.ended(new StreamEnd(reason in Reason ? reason : Reason.UNSPECIFIED));
  };
  const close = () => {
    socket.close(1000);
    // An end that does not answer does not answer this either, and the browser would wait for it.
    listener.ended(new StreamEnd(Reason.UNSPECIFIED));
  };
  return { send, close };
}

/** Subscribe by gRPC-Web; what the client says goes by calls of its own. */
export function overGrpcWeb(api: PersonalApi, hello: Hello, listener: Listener): Stream {
  const abort = new AbortController();
  void (async () => {
    try {
      for await (const response of api.subscribe.subscribe({ hello }, { signal: abort.signal })) {
        for (const frame of response.frames) listener.frame(frame);
      }
      listener.ended(new StreamEnd(Reason.UNSPECIFIED));
    } catch (error) {
      listener.ended(new StreamEnd(refusalOf(error)));
    }
  })();
  const send = async ({ frame }: ClientFrame) => {
    if (frame.case !== "post" && frame.case !== "typing" && frame.case !== "receipt") return;
    try {
      const { ack } = await api.send.send({ action: frame }, { signal: abort.signal });
      if (ack) listener.frame(create(ServerFrameSchema, { frame: { case: "ack", value: ack } }));
    } catch (error) {
      if (abort.signal.aborted || frame.case !== "post") return;
      const { retryAfterS } = failureOf(error);
      const value = {
        reason: refusalOf(error),
        clientMessageId: frame.value.clientMessageId,
        sessionId: frame.value.sessionId,
        ...(retryAfterS > 0 ? { retryAfter: durationFromMs(retryAfterS * 1_000) } : {}),
      };
      listener.frame(create(ServerFrameSchema, { frame: { case: "refusal", value } }));
    }
  };
  return { send: (frame) => void send(frame), close: () => abort.abort() };
}

function refusalOf(error: unknown): Reason {
  const reason = reasonOf(error);
  if (reason !== Reason.UNSPECIFIED) return reason;
  // Refused on the way, by somebody who knows codes only.
  switch (ConnectError.from(error).code) {
    case Code.Unauthenticated:
      return Reason.TOKEN_EXPIRED;
    case Code.NotFound:
      return Reason.NOT_FOUND;
    case Code.InvalidArgument:
      return Reason.INVALID_ARGUMENT;
    case Code.ResourceExhausted:
      return Reason.RATE_LIMITED;
    default:
      return Reason.UNAVAILABLE;
  }
}
