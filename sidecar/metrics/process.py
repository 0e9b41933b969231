"""The process of its own in which `sidecar run --metrics` counts and answers.

So a scrape waits neither for a rebuild nor for a full disk, and counting never delays the indexing thread. It only
reads, and ends with the sidecar, however that ends.
"""

from __future__ import annotations

import os
import signal
import socket
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing import connection, get_context, parent_process, resource_tracker
from multiprocessing.context import SpawnProcess
from threading import Event, Thread

from sidecar.access import Access
from sidecar.config.settings import Settings
from sidecar.diagnostics import get_logger
from sidecar.logs.archive_file import beside
from sidecar.query.index import Index

from .exposition import Exposition
from .keeper import Keeper
from .server import MetricsServer

RESTART_SECONDS = 1.0
"""After which a process that died is started again."""
_log = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Scraped:
    """What the process answers from, and whom."""

    settings: Settings
    access: Access
    agents: int = 0
    """How many agents are labels."""

    def open_index(self) -> Index:
        """The index of the settings. Raises SidecarError."""
        settings = self.settings
        # Otherwise the index itself names the archive folder.
        is_named = settings.archive != beside(settings.root)
        return Index(settings.root, settings.archive if is_named else None, settings.index_folder)


class MetricsProcess:
    """The process. `start` it, once, and `close` it."""

    def __init__(self, scraped: Scraped, listener: socket.socket) -> None:
        """The socket listens already, and stays open here, so that nobody is turned away when the process is started
        again."""
        self._scraped = scraped
        self._listener = listener
        self._process: SpawnProcess | None = None
        self._stop = Event()
        self._thread = Thread(target=self._keep_alive, name="sidecar-metrics", daemon=True)

    def start(self) -> None:
        """Start the process, and a thread that starts it again if it dies."""
        self._thread.start()

    def close(self) -> None:
        """End it."""
        self._stop.set()
        self._end()
        if self._thread.is_alive():
            self._thread.join()

    def _end(self) -> None:
        with suppress(ValueError, AttributeError):  # there is none, or it has ended
            self._process.terminate()  # type: ignore[union-attr]

    def _keep_alive(self) -> None:
        while not self._stop.is_set():
            self._process = process = _spawned(self._scraped, self._listener)
            if self._stop.is_set():  # `close` may have come too early to know this one
                self._end()
            if process is not None:
                process.join()
                if not self._stop.is_set():
                    _log.warning("the process of the metrics ended with %s; it is started again", process.exitcode)
                process.close()
            self._stop.wait(RESTART_SECONDS)


def _spawned(scraped: Scraped, listener: socket.socket) -> SpawnProcess | None:
    process = get_context("spawn").Process(target=_answer, args=(scraped, listener), daemon=True)
    resource_tracker.ensure_running()
    # Ctrl-C at a terminal interrupts every process there; this one is ended by the sidecar.
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        process.start()
    except OSError as error:
        _log.warning("the process of the metrics cannot be started: %s", error)
        return None
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
    return process


def _answer(scraped: Scraped, listener: socket.socket) -> None:
    """The main function of the process."""
    Thread(target=_end_with_the_sidecar, daemon=True).start()
    keeper = Keeper(scraped.settings, scraped.open_index, agents=scraped.agents)
    keeper.start()
    with suppress(KeyboardInterrupt):
        MetricsServer(listener, Exposition(keeper), scraped.access).serve_forever()


def _end_with_the_sidecar() -> None:
    sidecar = parent_process()
    assert sidecar is not None
    connection.wait([sidecar.sentinel])
    # Nothing is written here, so there is nothing to finish.
    os._exit(0)
