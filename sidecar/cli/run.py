"""The command `run`, which builds the index and keeps it up to date."""

from __future__ import annotations

import os
import signal
import time
from contextlib import ExitStack
from pathlib import Path
from threading import Thread
from typing import TYPE_CHECKING

import click

from .options import Command, GlobalOptions, json_option, print_json
from .scraping import answering_metrics
from .web_options import Address, allow_host_option, metrics_agents_option, token_file_option

if TYPE_CHECKING:
    from collections.abc import Callable

    from sidecar.config.settings import Settings
    from sidecar.progress import ProgressBar
    from sidecar.records import Report
    from sidecar.service.daemon import Sidecar
    from sidecar.service.totals import Totals

WRONG_USE = 2
"""The exit status if nothing says what to index."""

GRACE_SECONDS = 30.0
"""A stop that takes longer than this is forced, because the disk or SQLite does not return. Usually it takes much less.
"""


@click.command(
    cls=Command,
    epilog="""\b
Examples:
  sidecar run                   index the logs, then follow them until ctrl-C
  sidecar run --once            index the logs, then exit
  sidecar --root /srv/logs run --once --json
  sidecar run --metrics 127.0.0.1:9321
""",
)
@click.option("--once", is_flag=True, help="Index what is there now, then exit.")
@click.option(
    "--metrics",
    type=Address(),
    metavar="HOST:PORT",
    help="Answer Prometheus at http://HOST:PORT/metrics. Needs the extra `metrics`.",
)
@metrics_agents_option
@token_file_option
@allow_host_option
@json_option
@click.pass_obj
def run(
    options: GlobalOptions,
    once: bool,
    metrics: tuple[str, int] | None,
    metrics_agents: int,
    token_file: Path | None,
    allow_host: tuple[str, ...],
    as_json: bool,
) -> None:
    """Index the logs, then follow them until stopped.

    An index that is missing, damaged, or built with other settings is rebuilt first. SIGINT and SIGTERM shut the
    sidecar down cleanly, but a kill or a crash loses nothing either. With --json, a summary object is printed at the
    end.
    """
    from sidecar.progress import ProgressBar

    if metrics is None and (metrics_agents or token_file or allow_host):
        raise click.UsageError("--metrics-agents, --token-file and --allow-host are about --metrics, which is missing")
    if metrics is not None and once:
        raise click.UsageError("--metrics is for a sidecar that goes on running, and not for --once")
    settings = options.settings()
    if options.names_no_logs and settings.config_file is None and not settings.root.exists():
        _list_logs_here(settings)
        raise click.exceptions.Exit(WRONG_USE)
    if settings.of_tool:
        _note_places(settings)
    with ExitStack() as opened:
        answering = None
        if metrics is not None:
            who = (*metrics, allow_host, token_file)
            answering = opened.enter_context(answering_metrics(settings, *who, agents=metrics_agents))
        progress = opened.enter_context(ProgressBar())
        done = _once(settings, progress) if once else _follow(settings, progress, answering)
    if as_json:
        print_json(done)


def _list_logs_here(settings: Settings) -> None:
    """Print the logs of agent tools that are on this machine, because nothing says what to index."""
    from sidecar.health.found_logs import found_logs
    from sidecar.terminal import counted, print_note, size_text

    found = found_logs()
    what = f"there is neither config.yaml nor {settings.root}"
    if not found:
        print_note(f"error: {what}, and no agent tool has logs in this home")
        print_note("hint: name the log folder with --root")
        return
    print_note(f"error: {what}. These logs are on this machine:")
    for one in found:
        print_note(f"  {one.command:<43}  {counted(one.files, 'file')}, {size_text(one.bytes)}, in {one.root}")
    print_note("hint: index any of them with its command, or name another log folder with --root")


def _note_places(settings: Settings) -> None:
    """Print where the logs of another tool are read, and where their index is."""
    from sidecar.terminal import print_note

    settings.check_root()
    print_note(f"reads {settings.root} (never writes there); index in {settings.index_folder}")


def _once(settings: Settings, progress: ProgressBar) -> dict[str, int]:
    from sidecar.service.supervisor import run_once

    totals = run_once(settings, progress)
    summary = _summary(progress, totals.entries, totals.bytes, totals)
    _note_misfits(settings)
    return summary


def _follow(settings: Settings, progress: ProgressBar, metrics: Callable[[], None] | None) -> dict[str, int]:
    from sidecar.service.supervisor import run
    from sidecar.terminal import print_note

    running = _Running(progress, f"indexing {settings.root}, preset {settings.preset}; press ctrl-C to stop", metrics)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, running.request_stop)
    try:
        run(settings, running.should_stop, running.on_start, running.report, running.note)
    except _Stopped:
        progress.pause()
        print_note("stopped during a rebuild of the index; the next run starts it over")
        return {"entries": 0, "bytes": 0, "dropped": 0, "skipped_paths": 0}
    return _summary(progress, *running.totals(), running.own_totals)


def _note_misfits(settings: Settings) -> None:
    """Print a note for each source that yields no entries, and for odd times; otherwise all would seem to be well."""
    from sidecar.health.coverage import misfits_of_index
    from sidecar.health.dates import times_of
    from sidecar.terminal import print_note

    misfits = misfits_of_index(settings)
    for misfit in misfits:
        print_note(misfit)
    odd = times_of(settings.index_folder).odd
    for sentence in odd:
        print_note(sentence)
    if misfits or odd:
        print_note("hint: `sidecar doctor` says what to do")


def _summary(progress: ProgressBar, entries: int, read: int, totals: Totals | None) -> dict[str, int]:
    """Print a line about the work done since the start, and return it as an object."""
    from sidecar.terminal import counted, print_note, size_text

    progress.pause()
    dropped, skipped = (totals.dropped, totals.skipped_paths) if totals is not None else (0, 0)
    line = [f"{counted(entries, 'entry', 'entries')} indexed", f"{size_text(read)} read"]
    if totals is not None and dropped:
        line.append(f"{counted(dropped, 'entry', 'entries')} dropped ({totals.dropped_why})")
    if skipped:
        line.append(f"{counted(skipped, 'path or glob', 'paths and globs')} passed over (`sidecar doctor` names them)")
    print_note(", ".join(line))
    return {"entries": entries, "bytes": read, "dropped": dropped, "skipped_paths": skipped}


class _Stopped(Exception):
    """A stop was requested during a rebuild, which is abandoned as in a crash. The next run starts it over."""


class _Running:
    """A running sidecar, and whether it was asked to stop. Only the main thread, which runs the signal handlers too,
    touches this."""

    def __init__(self, progress: ProgressBar, greeting: str, metrics: Callable[[], None] | None) -> None:
        self._progress = progress
        self._greeting = greeting
        self._metrics = metrics
        self._sidecar: Sidecar | None = None
        self._rebuilt: Report | None = None
        self._stop_requested = False
        self._busy = False
        self._caught_up = False

    def request_stop(self, number: int, _frame: object) -> None:
        """The signal handler. A second signal kills the process at once, which costs only a replay. So does the first,
        after GRACE_SECONDS, if the process still exists then."""
        self._stop_requested = True
        for each in (signal.SIGINT, signal.SIGTERM):
            signal.signal(each, signal.SIG_DFL)
        Thread(target=_die_later, args=(number,), daemon=True).start()
        if self._sidecar is not None:
            # In another thread, because the loop may hold the very lock that `wake` takes, which would be a deadlock.
            Thread(target=self._sidecar.wake, daemon=True).start()

    def on_start(self, sidecar: Sidecar) -> None:
        """Remember the sidecar that a signal has to wake."""
        self._greet()
        self._sidecar = sidecar

    def report(self, report: Report) -> None:
        """Show the progress. Raises _Stopped during a rebuild if a stop was requested."""
        self._greet()
        if report.what == "rebuilding":
            if self._stop_requested:
                raise _Stopped
            self._rebuilt = report
        self._busy = True
        self._progress(report)

    def should_stop(self) -> bool:
        """Whether a stop was requested. Called once per turn of the loop: the first turn without a report after a full
        scan means that the sidecar has caught up."""
        if not self._busy:
            self._progress.pause()
            if not self._caught_up and self._sidecar is not None and self._sidecar.totals.scans:
                self._caught_up = True
                self._note_caught_up(self._sidecar.settings)
        self._busy = False
        return self._stop_requested

    def note(self, why: str) -> None:
        """Print why the sidecar is waiting."""
        from sidecar.terminal import print_note

        self._greet()
        self._progress.pause()
        print_note(why)

    def _greet(self) -> None:
        """Print what is being indexed, once, when the lock is held, and begin to answer Prometheus."""
        from sidecar.terminal import print_note

        if self._greeting:
            print_note(self._greeting)
            self._greeting = ""
            if self._metrics is not None:
                self._metrics()

    def _note_caught_up(self, settings: Settings) -> None:
        from sidecar.service.heartbeat import read_heartbeat
        from sidecar.terminal import counted, print_note

        heartbeat = read_heartbeat(settings.index_folder)
        by = f" by {heartbeat.watching}" if heartbeat else ""
        why = f" ({heartbeat.why})" if heartbeat and heartbeat.why else ""
        print_note(f"caught up, {counted(self.totals()[0], 'entry', 'entries')} indexed; following{by}{why}")
        _note_misfits(settings)

    @property
    def own_totals(self) -> Totals | None:
        """What the sidecar itself has done; None if it has not started."""
        return None if self._sidecar is None else self._sidecar.totals

    def totals(self) -> tuple[int, int]:
        """The number of entries indexed and of bytes read, including those of a rebuild."""
        entries = read = 0
        if self._rebuilt is not None:
            entries, read = self._rebuilt.entries, self._rebuilt.done
        if self._sidecar is not None:
            entries, read = entries + self._sidecar.totals.entries, read + self._sidecar.totals.bytes
        return entries, read


def _die_later(number: int) -> None:
    """Kill this process with a signal after a while. To be run in a thread, because the main thread may be waiting for
    the disk."""
    time.sleep(GRACE_SECONDS)
    os.kill(os.getpid(), number)


COMMANDS = (run,)
