"""Settings of the knowledge service."""

from __future__ import annotations

from pydantic import Field

from mesh.process.config import ServiceConfig


class KnowledgeConfig(ServiceConfig):
    """The settings of the knowledge service."""

    # Cores that one embedding may use. More make an import faster and take from the other processes.
    embedding_threads: int = Field(default=1, ge=1, le=64)
