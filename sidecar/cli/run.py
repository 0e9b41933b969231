"""The command that makes the index and keeps it fresh: run."""

from __future__ import annotations

import signal
from threading import Thread
from typing import TYPE_CHECKING

import click

from .options import GlobalOptions, json_option, print_json

if TYPE_CHECKING:
    from sidecar.config.settings import Settings
    from sidecar.records import Report
    from sidecar.service.daemon import Sidecar
    from sidecar.terminal import ProgressBar


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
def run(given: GlobalOptions, once: bool, as_json: bool) -> None:
    """Index the logs, and follow them until stopped.

    An index that is missing, damaged or made under other settings is made again first. SIGINT and SIGTERM stop it in
    good order; nothing is lost by any other end. With --json, one object tells at the end what was done.
    """
    from sidecar.terminal import ProgressBar

    settings = given.settings()
    with ProgressBar() as progress:
        done = _once(settings, progress) if once else _follow(settings, progress)
    if as_json:
        print_json(done)


def _once(settings: Settings, progress: ProgressBar) -> dict[str, int]:
    from sidecar.service.supervisor import run_once

    totals = run_once(settings, progress)
    return _told(progress, totals.entries, totals.bytes)


def _follow(settings: Settings, progress: ProgressBar) -> dict[str, int]:
    from sidecar.service.supervisor import run
    from sidecar.terminal import print_note

    running = _Running(progress)
    print_note(f"indexing {settings.root}, preset {settings.preset}; ctrl-C stops")
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, running.ask)
    try:
        run(settings, running.should_stop, running.on_start, running.report, running.tell)
    except _Stopped:
        progress.pause()
        print_note("stopped while the index was being made; the next run begins that again")
        return {"entries": 0, "bytes": 0}
    return _told(progress, *running.totals())


def _told(progress: ProgressBar, entries: int, read: int) -> dict[str, int]:
    """What was done since the start: told in a line, and given as an object."""
    from sidecar.terminal import counted, print_note, size_text

    progress.pause()
    print_note(f"{counted(entries, 'entry', 'entries')} indexed, {size_text(read)} read")
    return {"entries": entries, "bytes": read}


class _Stopped(Exception):
    """Asked to stop in the midst of a rebuild: it is dropped, as by a crash, and the next start begins it again."""


class _Running:
    """A sidecar at work until a signal asks it to stop. Only the main thread touches this, handlers included."""

    def __init__(self, progress: ProgressBar) -> None:
        self._progress = progress
        self._sidecar: Sidecar | None = None
        self._rebuilt: Report | None = None
        self._asked = False
        self._busy = False
        self._caught_up = False

    def ask(self, _number: int, _frame: object) -> None:
        """The signal handler. A second signal ends the process at once, which costs nothing but a replay."""
        self._asked = True
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_DFL)
        if self._sidecar is not None:
            # Not from here: the loop may be inside the very lock that waking it takes, and would wait for itself.
            Thread(target=self._sidecar.wake, daemon=True).start()

    def on_start(self, sidecar: Sidecar) -> None:
        """Remember whom to wake."""
        self._sidecar = sidecar

    def report(self, report: Report) -> None:
        """Show how far it is; leave a rebuild that nobody waits for any more."""
        if report.what == "rebuilding":
            if self._asked:
                raise _Stopped
            self._rebuilt = report
        self._busy = True
        self._progress(report)

    def should_stop(self) -> bool:
        """Asked once a turn. A turn without a report, behind a full scan, means that it has caught up."""
        if not self._busy:
            self._progress.pause()
            if not self._caught_up and self._sidecar is not None and self._sidecar.totals.scans:
                self._caught_up = True
                self._tell_caught_up(self._sidecar.settings)
        self._busy = False
        return self._asked

    def tell(self, why: str) -> None:
        """Say why it waits."""
        from sidecar.terminal import print_note

        self._progress.pause()
        print_note(why)

    def _tell_caught_up(self, settings: Settings) -> None:
        from sidecar.service.heartbeat import read_heartbeat
        from sidecar.terminal import counted, print_note

        said = read_heartbeat(settings.index_folder)
        by = f" by {said.watching}" if said else ""
        why = f" ({said.why})" if said and said.why else ""
        print_note(f"caught up, {counted(self.totals()[0], 'entry', 'entries')} indexed; following{by}{why}")

    def totals(self) -> tuple[int, int]:
        """Entries indexed and bytes read, a rebuild included."""
        entries = read = 0
        if self._rebuilt is not None:
            entries, read = self._rebuilt.entries, self._rebuilt.done
        if self._sidecar is not None:
            entries, read = entries + self._sidecar.totals.entries, read + self._sidecar.totals.bytes
        return entries, read


COMMANDS = (run,)
