"""Diagnostic logging: loggers below `sidecar`, silent in a program that uses the library, on stderr for `--verbose`.

Import this only where the standard library's `logging` is loaded anyway: `from sidecar import Index` and `--help` must
not wait for it. Messages name files, counts and reasons, never what a log line holds.
"""

from __future__ import annotations

import logging
import sys
import time
from contextlib import suppress

ROOT = "sidecar"
"""The logger above all others of the package."""

logging.getLogger(ROOT).addHandler(logging.NullHandler())


def get_logger(name: str) -> logging.Logger:
    """The logger of a module, which passes its `__name__`."""
    return logging.getLogger(name)


def log_to_stderr(verbosity: int) -> None:
    """Print what is logged to stderr, with UTC times: INFO and above for 1, DEBUG and above for more.

    Calling it again changes the level and adds nothing.
    """
    logger = logging.getLogger(ROOT)
    logger.setLevel(logging.INFO if verbosity == 1 else logging.DEBUG)
    if not any(isinstance(handler, StderrHandler) for handler in logger.handlers):
        logger.addHandler(StderrHandler())


class StderrHandler(logging.Handler):
    """Writes each record as one line that does nothing to a terminal.

    `sys.stderr` is looked up for each record: while a progress bar is drawn it is replaced by one that prints above it.
    """

    def __init__(self) -> None:
        super().__init__()
        formatter = logging.Formatter(
            "%(asctime)s.%(msecs)03dZ %(levelname)s %(name)s: %(message)s", "%Y-%m-%dT%H:%M:%S"
        )
        formatter.converter = time.gmtime
        self.setFormatter(formatter)

    def emit(self, record: logging.LogRecord) -> None:
        """Print a record. A stderr that is closed or full is no reason to stop."""
        from sidecar.terminal import plain

        with suppress(OSError, ValueError):
            print(plain(self.format(record)), file=sys.stderr, flush=True)
