"""How far long work has come, told on stderr: a bar with rate and time left on a terminal, else a line now and then."""

from __future__ import annotations

import sys
import time
from types import TracebackType
from typing import TYPE_CHECKING

from .records import Report
from .terminal import counted, length, note, size

if TYPE_CHECKING:
    from rich.progress import Progress as Bar

PATIENCE = 0.5
"""Seconds of work before a bar appears: what is done by then needs none."""

REDRAW = 0.1
LINE_EVERY = 5.0
"""Seconds between two looks of a bar, and between two lines where there is no terminal."""


class Progress:
    """Call it with reports as they come; `pause` when the work is done for now."""

    def __init__(self) -> None:
        self._bar: Bar | None = None
        self._what = ""
        self._began = 0.0
        self._next = 0.0

    def __enter__(self) -> Progress:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.pause()

    def __call__(self, report: Report) -> None:
        """Show how far it is, unless that was shown a moment ago."""
        now = time.monotonic()
        if report.what != self._what:
            self.pause()
            self._what, self._began = report.what, now
            self._next = now + (PATIENCE if sys.stderr.isatty() else LINE_EVERY)
        if now < self._next:
            return
        text = told(report, now - self._began)
        if sys.stderr.isatty():
            self._draw(report, text)
            self._next = now + REDRAW
        else:
            note(text)
            self._next = now + LINE_EVERY

    def pause(self) -> bool:
        """Take the bar away; true where work had been going on. The next report begins anew."""
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

            # Drawn by us alone: a thread of rich's would outlive a fork and wake an idle process.
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


def told(report: Report, seconds: float) -> str:
    """A report in words, `seconds` after the work began."""
    rate = report.done / seconds if seconds > 0 else 0.0
    words = [f"{report.what} {size(report.done)}"]
    if report.total:
        words = [f"{report.what} {min(100, 100 * report.done // report.total)}% of {size(report.total)}"]
    words += [counted(report.entries, "entry", "entries"), f"{size(rate)}/s"]
    if rate and report.total > report.done:
        words.append(f"{length(max(1.0, (report.total - report.done) / rate))} left")
    return ", ".join(words)
