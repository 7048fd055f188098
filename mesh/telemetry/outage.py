"""Log a failure that is retried: once when it begins, and once when it is over."""

from __future__ import annotations

from typing import Final

import structlog


class Outage:
    """Whether something that is retried fails at present.

    `failing` and `working` are the log events of the two transitions; the fields stand in both.
    """

    def __init__(self, logger: structlog.stdlib.BoundLogger, failing: str, working: str, **fields: object) -> None:
        self._log: Final = logger
        self._failing: Final = failing
        self._working: Final = working
        self._fields: Final = fields
        self.lasts = False

    def failed(self, error: BaseException) -> None:
        """Note a failure; the first one is logged as a warning."""
        if not self.lasts:
            self._log.warning(self._failing, **self._fields, error=repr(error))
        self.lasts = True

    def succeeded(self) -> None:
        """Note a success; the first one after a failure is logged."""
        if self.lasts:
            self._log.info(self._working, **self._fields)
        self.lasts = False
