"""The bus: JetStream for events and the message log, core NATS for what passes, buckets for shared state."""

from mesh.bus.bus import Bus, Subscription
from mesh.bus.connection import connect
from mesh.bus.delivery import Delivery
from mesh.bus.earlier import parse
from mesh.bus.errors import BusError, Conflict, Full, NotStored, Poison, Rejected, Unavailable
from mesh.bus.kv import Entry, KeyValue
from mesh.bus.payload import decode
from mesh.bus.publish import PubAck
from mesh.bus.read import StoredMessage, StreamExtent

__all__ = [
    "Bus",
    "BusError",
    "Conflict",
    "Delivery",
    "Entry",
    "Full",
    "KeyValue",
    "NotStored",
    "Poison",
    "PubAck",
    "Rejected",
    "StoredMessage",
    "StreamExtent",
    "Subscription",
    "Unavailable",
    "connect",
    "decode",
    "parse",
]
