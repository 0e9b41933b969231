"""A pusher that goes on until it is stopped, through restarts of the hub and rebuilds of the index."""

from __future__ import annotations

import time
from collections.abc import Callable

from sidecar.diagnostics import get_logger
from sidecar.errors import ConfigError, MissingExtra, NodeTaken, SidecarError

from .push import Pusher
from .target import Raced

LOOK_EVERY = 0.05
"""Seconds between two looks at the catalog."""
LONGEST_WAIT = 30.0
"""Seconds between two tries, at most, while the hub cannot be reached."""
_FATAL = (ConfigError, MissingExtra, NodeTaken)

_log = get_logger(__name__)


def follow_index(pusher: Pusher, note: Callable[[str], None], stop: Callable[[], bool] = lambda: False) -> None:
    """Push what each checkpoint covers. `note` is told when trouble begins and when it has ended."""
    trouble = ""
    retries = 0
    wait = 0.1
    while not stop():
        try:
            pusher.turn()
        except Raced as error:
            retries += 1
            _log.info("again: %s", error)
            pusher.give_up()
            time.sleep(LOOK_EVERY)
        except SidecarError as error:
            if isinstance(error, _FATAL):
                raise
            retries += 1
            if str(error) != trouble:
                trouble = str(error)
                note(f"{trouble}; trying again")
            pusher.give_up()
            time.sleep(wait)
            wait = min(LONGEST_WAIT, wait * 2)
        else:
            if trouble:
                note("the hub has all again")
                pusher.note_trouble(retries, trouble)
            trouble, wait = "", 0.1
            time.sleep(LOOK_EVERY)
