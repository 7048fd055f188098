"""RelayService on the wire."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import grpc
from octopus.chat.v1 import relay_service_pb2, relay_service_pb2_grpc

from mesh.rpc.admission import Admission
from mesh.rpc.metadata import ACCEPTED, INSTANCE
from mesh.rpc.validation import Invalid, takes_invalid
from services.chat.relay import Line
from services.chat.streams import Streams


class RelayServicer(relay_service_pb2_grpc.RelayServiceServicer):
    """Carries the conversations of bridges."""

    def __init__(self, streams: Streams, admission: Admission, instance: str) -> None:
        self._streams = streams
        self._admission = admission
        self._instance = instance
        self._lines: set[Line] = set()

    @takes_invalid
    async def Relay(
        self,
        request_iterator: AsyncIterator[relay_service_pb2.RelayRequest | Invalid],
        context: grpc.aio.ServicerContext[relay_service_pb2.RelayRequest, relay_service_pb2.RelayResponse],
    ) -> None:
        """Carry conversations until the bridge ends the stream, or the instance stops and the last one has ended."""
        await context.send_initial_metadata(((ACCEPTED, "1"), (INSTANCE, self._instance)))
        line = Line(self._streams, self._admission)
        self._lines.add(line)
        reading = asyncio.create_task(line.read(request_iterator), name="read-relay")
        try:
            await line.write(context.write)
            if reading.done():
                # What ended the reading ends the call.
                reading.result()
        finally:
            self._lines.discard(line)
            reading.cancel()
            await line.close()

    def drain(self) -> None:
        """Tell every bridge that the instance is stopping. `Streams.drain` ends the conversations."""
        for line in self._lines:
            line.drain()
