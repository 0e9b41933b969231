"""The command that makes the index and keeps it fresh: run."""

from __future__ import annotations

import signal
from contextlib import suppress
from threading import Thread
from typing import TYPE_CHECKING, Any

import click

from .cli_options import Given, json_option, print_json
from .records import Report

if TYPE_CHECKING:
    from .config import Settings
    from .daemon import Sidecar, Totals
    from .progress import Progress


@click.command(
    epilog="""\b
Examples:
  sidecar run                     index what is there, then follow; ctrl-C stops it
  sidecar run --once              index what is there, and exit
  sidecar --root /srv/logs run --once --json
"""
)
@click.option("--once", is_flag=True, help="Index what is there now, then exit.")
@json_option
@click.pass_obj
def run(given: Given, once: bool, as_json: bool) -> None:
    """Index the logs, and follow them until stopped.

    An index that is missing, damaged or made under other settings is made again first. SIGINT and SIGTERM stop it in
    good order; nothing is lost by any other end. With --json, one object tells at the end what was done.
    """
    from .progress import Progress

    settings = given.settings()
    with Progress() as progress:
        done = _once(settings, progress) if once else _follow(settings, progress)
    if as_json:
        print_json(done)


def _once(settings: Settings, progress: Progress) -> dict[str, Any]:
    from .service import run_once

    running = _Running(progress)
    totals = run_once(settings, running.report)
    return running.done(totals)


def _follow(settings: Settings, progress: Progress) -> dict[str, Any]:
    from .render import note
    from .service import run

    running = _Running(progress)
    note(f"indexing {settings.root}, preset {settings.preset}; ctrl-C stops")
    with suppress(_Stopped):
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, running.ask)
        run(settings, running.should_stop, running.on_start, running.report)
    return running.done(running.sidecar.totals if running.sidecar else None)


class _Stopped(BaseException):
    """Asked to stop in the midst of a rebuild: it is dropped, as by a crash, and the next start begins it again."""


class _Running:
    """A sidecar at work until a signal asks it to stop. Only the main thread touches this, handlers included."""

    def __init__(self, progress: Progress) -> None:
        self.sidecar: Sidecar | None = None
        self._progress = progress
        self._asked = False
        self._busy = False
        self._rebuilt: Report | None = None

    def ask(self, _number: int, _frame: object) -> None:
        """The signal handler. A second signal ends the process at once, which costs nothing but a replay."""
        self._asked = True
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_DFL)
        if self.sidecar is None:
            raise _Stopped
        # Not from here: the loop may be inside the very lock that waking it takes, and would wait for itself.
        Thread(target=self.sidecar.wake, daemon=True).start()

    def on_start(self, sidecar: Sidecar) -> None:
        """Remember whom to wake."""
        self.sidecar = sidecar

    def report(self, report: Report) -> None:
        """Show how far it is; leave a rebuild that nobody waits for any more."""
        if report.what == "rebuilding":
            if self._asked:
                raise _Stopped
            self._rebuilt = report
        self._busy = True
        self._progress(report)

    def should_stop(self) -> bool:
        """Asked once a turn; a turn without a report means that it has caught up."""
        if not self._busy:
            self._progress.pause()
        self._busy = False
        return self._asked

    def done(self, totals: Totals | None) -> dict[str, Any]:
        """What was done, a rebuild at the start included; told in a line, and given as an object."""
        from .render import counted, note, size

        self._progress.pause()
        made = self._rebuilt or Report("rebuilding", 0, 0, 0)
        entries = made.entries + (totals.entries if totals else 0)
        read = made.done + (totals.bytes if totals else 0)
        note(f"{counted(entries, 'entry', 'entries')} indexed, {size(read)} read")
        return {"entries": entries, "bytes": read}


COMMANDS = (run,)
