"""Diagnostic logging: loggers below `sidecar`, silent in programs that use the library, on stderr with `--verbose`.

Import this only in modules that load the standard library's `logging` anyway, because `from sidecar import Index` and
`--help` must not wait for it. Messages contain file names, counts and reasons, never the content of a log line.
"""

from __future__ import annotations

import logging
import sys
import time
from contextlib import suppress

ROOT = "sidecar"
"""The parent of all loggers of the package."""

logging.getLogger(ROOT).addHandler(logging.NullHandler())


def get_logger(name: str) -> logging.Logger:
    """The logger of a module. `name` is its `__name__`."""
    return logging.getLogger(name)


def log_to_stderr(verbosity: int) -> None:
    """Print log messages to stderr, with UTC times: from INFO on for verbosity 1, from DEBUG on for 2 and more.

    A second call only changes the level.
    """
    logger = logging.getLogger(ROOT)
    logger.setLevel(logging.INFO if verbosity == 1 else logging.DEBUG)
    if not any(isinstance(handler, StderrHandler) for handler in logger.handlers):
        logger.addHandler(StderrHandler())


class StderrHandler(logging.Handler):
    """Writes each record as one line without control characters.

    `sys.stderr` is looked up for each record, because a progress bar replaces it with one that prints above the bar.
    """

    def __init__(self) -> None:
        super().__init__()
        formatter = logging.Formatter(
            "%(asctime)s.%(msecs)03dZ %(levelname)s %(name)s: %(message)s", "%Y-%m-%dT%H:%M:%S"
        )
        formatter.converter = time.gmtime
        self.setFormatter(formatter)

    def emit(self, record: logging.LogRecord) -> None:
        """Print a record. Nothing happens if stderr is closed or full."""
        from sidecar.terminal import plain

        with suppress(OSError, ValueError):
            print(plain(self.format(record)), file=sys.stderr, flush=True)
