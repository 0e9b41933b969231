"""How a board is told to end: by a key on its terminal, or by a signal."""

from __future__ import annotations

import os
import select
import signal
import sys
import termios
import tty
from collections.abc import Callable, Iterator
from contextlib import contextmanager

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@contextmanager
def stopped_by_signals() -> Iterator[Callable[[], bool]]:
    """A function that says whether a signal has asked to stop. A second signal raises KeyboardInterrupt."""
    is_asked = False

    def ask(_number: int, _frame: object) -> None:
        nonlocal is_asked
        if is_asked:
            raise KeyboardInterrupt
        is_asked = True

    before = {number: signal.signal(number, ask) for number in SIGNALS}
    try:
        yield lambda: is_asked
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def stopped_by_key(keys: bytes = b"qQ\x1b") -> Iterator[Callable[[], bool]]:
    """A function that says whether one of some keys was pressed. No key is, where standard input is no terminal."""
    if not sys.stdin.isatty():
        yield lambda: False
        return
    fd = sys.stdin.fileno()
    before = termios.tcgetattr(fd)
    is_asked = False

    def is_pressed() -> bool:
        nonlocal is_asked
        while not is_asked and select.select([fd], [], [], 0)[0]:
            typed = os.read(fd, 64)
            # A terminal that is gone has nothing more to say.
            is_asked = not typed or any(key in keys for key in typed)
        return is_asked

    try:
        # Keys come one by one and are not echoed; ctrl-C stays a signal.
        tty.setcbreak(fd, termios.TCSADRAIN)
        yield is_pressed
    finally:
        termios.tcsetattr(fd, termios.TCSADRAIN, before)
