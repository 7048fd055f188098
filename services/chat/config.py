"""Settings of the chat service."""

from __future__ import annotations

from pydantic import Field

from mesh.process.config import ServiceConfig


class ChatConfig(ServiceConfig):
    """What can be set about conversations."""

    # Seconds without a frame after which the server pings; three times this without one ends the stream.
    heartbeat_s: float = Field(default=13.0, gt=0)
    # Seconds a stream lives at most; the end of the token may come earlier.
    max_stream_age_s: float = Field(default=3600.0, gt=0)
    # Frames and bytes waiting for one connection before it is cut off as a slow reader.
    buffer_frames: int = Field(default=1024, gt=0)
    buffer_bytes: int = Field(default=1 << 20, gt=0)
    # Messages one person may send at once, and how many a second are added; four times as many signs and receipts.
    rate_burst: float = Field(default=30.0, gt=0)
    rate_per_second: float = Field(default=10.0, gt=0)
    # Seconds a message waits for the log before the sender is asked to send again.
    publish_timeout_s: float = Field(default=8.0, gt=0)
    # Newest messages of a session that a device gets when it connects; earlier ones are in the history.
    resume_messages: int = Field(default=100, gt=0)
    # Entries read at once from the log.
    replay_page: int = Field(default=256, gt=0)
    # Bytes that the entries kept for devices that resume may take, of all sessions together.
    resume_memory_bytes: int = Field(default=32 << 20, gt=0)
