"""The progress of long jobs, for people: a bar on a terminal, elsewhere a line every few seconds. Both go to stderr."""

from __future__ import annotations

import sys
import time
from types import TracebackType
from typing import TYPE_CHECKING

from sidecar.records import Report
from sidecar.terminal import counted, duration_text, print_note, size_text

if TYPE_CHECKING:
    from rich.progress import Progress as Bar

BAR_AFTER = 0.5
"""Seconds before a bar appears; a shorter job needs none."""
REDRAW_INTERVAL = 0.1
"""Seconds between two updates of a bar."""
LINE_INTERVAL = 5.0
"""Seconds between two lines, if there is no terminal."""


class ProgressBar:
    """Shows reports. Call it with each; call `pause` when there is nothing to do for now."""

    def __init__(self) -> None:
        self._bar: Bar | None = None
        self._what = ""
        self._began = 0.0
        self._next = 0.0

    def __enter__(self) -> ProgressBar:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.pause()

    def __call__(self, report: Report) -> None:
        """Show a report, unless one was shown a moment ago."""
        now = time.monotonic()
        if report.what != self._what:
            self.pause()
            self._what, self._began = report.what, now
            self._next = now + (BAR_AFTER if sys.stderr.isatty() else LINE_INTERVAL)
        if now < self._next:
            return
        text = progress_text(report, now - self._began)
        if sys.stderr.isatty():
            self._draw(report, text)
            self._next = now + REDRAW_INTERVAL
        else:
            print_note(text)
            self._next = now + LINE_INTERVAL

    def pause(self) -> bool:
        """Remove the bar; the next report starts a new one. Returns whether any work was reported."""
        had_work = bool(self._what)
        if self._bar is not None:
            self._bar.stop()
            self._bar = None
        self._what = ""
        return had_work

    def _draw(self, report: Report, text: str) -> None:
        if self._bar is None:
            from rich.console import Console
            from rich.progress import BarColumn, Progress, TextColumn
            from rich.table import Column

            # Without rich's own thread, which would not survive a fork and would wake an idle process.
            console = Console(stderr=True)
            self._bar = Progress(
                BarColumn(bar_width=max(4, min(24, console.width - len(text) - 4))),
                TextColumn("{task.description}", markup=False, table_column=Column(no_wrap=True)),
                console=console,
                transient=True,
                auto_refresh=False,
            )
            self._bar.add_task(text)
            self._bar.start()
        task = self._bar.task_ids[0]
        self._bar.update(task, description=text, completed=report.done, total=report.total or None, refresh=True)


def progress_text(report: Report, seconds: float) -> str:
    """A report as text; `seconds` is how long the work has taken so far."""
    rate = report.done / seconds if seconds > 0 else 0.0
    record_text = [f"{report.what} {size_text(report.done)}"]
    if report.total:
        record_text = [f"{report.what} {min(100, 100 * report.done // report.total)}% of {size_text(report.total)}"]
    record_text += [counted(report.entries, "entry", "entries"), f"{size_text(rate)}/s"]
    if rate and report.total > report.done:
        record_text.append(f"{duration_text(max(1.0, (report.total - report.done) / rate))} left")
    return ", ".join(record_text)
