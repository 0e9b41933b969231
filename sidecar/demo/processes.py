"""The demo's other processes: started here, watched, and ended whatever happens; and the signals that end the demo."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from sidecar.errors import ConfigError, RootLocked, SidecarError

PATIENCE = 10.0
"""Seconds that a process gets to start, and to end in good order."""

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Child:
    """A process of ours, with what it has said."""

    def __init__(self, name: str, process: subprocess.Popen[bytes], out: int, err: int) -> None:
        self._name = name
        self._process = process
        self._out = out
        self._err = err
        self._is_asked = False

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    @property
    def has_ended(self) -> bool:
        """Whether it is over, well or not."""
        return self._process.poll() is not None

    def ask_to_end(self) -> None:
        """Tell it to come to its end; once is enough."""
        if not self._is_asked and not self.has_ended:
            self._is_asked = True
            self._process.terminate()

    def check(self) -> None:
        """Raise SidecarError where it has failed; ConfigError or RootLocked where its exit status says so."""
        status = self._process.poll()
        if not status or (self._is_asked and status == -signal.SIGTERM):
            return
        lines = [line for line in _read(self._err).splitlines() if line.strip()]
        told = next((line for line in lines if line.startswith("error: ")), lines[-1] if lines else f"status {status}")
        message = told.removeprefix("error: ")
        for kind in (ConfigError, RootLocked):
            if status == kind.exit_status:
                raise kind(message)
        raise SidecarError(f"{self._name}: {message}")

    def said(self) -> str:
        """Its standard output so far."""
        return _read(self._out)

    def end(self) -> None:
        """Ask it to end, wait for it, and kill it if it does not."""
        try:
            self.ask_to_end()
            self._process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            pass
        finally:
            if not self.has_ended:
                self._process.kill()
            self._process.wait()


@contextmanager
def child(name: str, *arguments: str) -> Iterator[Child]:
    """A Python of our own kind that runs `arguments`; ended, if need be by force, at the end of the block."""
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        process = subprocess.Popen(
            [sys.executable, *arguments],
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=err,
            start_new_session=True,  # ctrl-C is for the demo, which ends the others one after the other
        )
        started = Child(name, process, out.fileno(), err.fileno())
        try:
            yield started
        finally:
            started.end()


@contextmanager
def stopped_by_signals() -> Iterator[Callable[[], bool]]:
    """Whether one of the signals has asked for the end; a second one raises KeyboardInterrupt."""
    is_asked = False

    def ask(_number: int, _frame: object) -> None:
        nonlocal is_asked
        if is_asked:
            raise KeyboardInterrupt
        is_asked = True

    before = {number: signal.signal(number, ask) for number in _SIGNALS}
    try:
        yield lambda: is_asked
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def wait_until(condition: Callable[[], bool], what: str) -> None:
    """Wait for what another process does. Raises SidecarError where it does not come."""
    deadline = time.monotonic() + PATIENCE
    while not condition():
        if time.monotonic() > deadline:
            raise SidecarError(f"{what} did not come within {PATIENCE:.0f} s")
        time.sleep(0.01)


def _read(fd: int) -> str:
    # The child writes through the same open file, so its position is not ours to move.
    return os.pread(fd, 1 << 20, 0).decode("utf-8", "replace")
