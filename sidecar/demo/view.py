"""Where the demo shows what it knows: a terminal is drawn on again and again, elsewhere there is a line a second."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rich.live import Live

from sidecar.terminal import Cell, Column, Screen, agent, counted, plain

from .frame import Picture, clock, frame, milliseconds
from .stats import RECENT


class Nothing:
    """Nowhere: the summary alone is wanted."""

    interval = 1.0
    """Seconds between two drawings."""

    def __enter__(self) -> Nothing:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    @property
    def rows(self) -> int:
        """How many lines of a list can be seen at most."""
        return 0

    def draw(self, picture: Picture, now: float) -> None:
        """Show it."""


class Lines(Nothing):
    """On standard output, in words."""

    def draw(self, picture: Picture, now: float) -> None:
        """One line."""
        seen = picture.seen
        lag = seen.lag(now - RECENT)
        told = (
            *(clock(now - seen.began).rjust(5), counted(seen.total, "entry", "entries").rjust(15)),
            *(f"{seen.rate(now):,.0f}/s".rjust(9), f"lag {milliseconds(lag.p50) if lag else '–'}".rjust(11)),
            *(counted(len(seen.changes), "role change").rjust(17), f"{picture.waiting_count:,} pending".rjust(13)),
        )
        print("".join(told), flush=True)


class Terminal(Nothing):
    """On the terminal's other screen, which it fills: what stood there before comes back."""

    interval = 0.2

    def __init__(self, screen: Screen) -> None:
        self._console = screen.console
        # Drawn by us alone: a thread of rich's would take its share of the time that the lag is measured in.
        self._live = Live(console=self._console, screen=True, auto_refresh=False)

    def __enter__(self) -> Terminal:
        self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._live.stop()

    @property
    def rows(self) -> int:
        """Those of the terminal."""
        return self._console.height

    def draw(self, picture: Picture, now: float) -> None:
        """One frame."""
        self._live.update(frame(picture, now, *self._console.size), refresh=True)


def view_of(screen: Screen, as_json: bool) -> Nothing:
    """What fits to where standard output goes."""
    if as_json:
        return Nothing()
    return Terminal(screen) if screen.is_terminal and not screen.console.is_dumb_terminal else Lines()


def ended(screen: Screen, summary: dict[str, Any], next_steps: Sequence[tuple[str, str]]) -> None:
    """What it came to, and what to try next."""
    _who_to_whom(screen, summary["matrix"])
    lag, sessions = summary["lag_seconds"], summary["sessions"]
    screen.line()
    screen.line(
        (f"{counted(summary['written'], 'record')} written, {summary['indexed']:,} indexed", "bold"),
        f" in {summary['seconds']:.1f} s",
        f"; lag {milliseconds(lag['p50'])}, 99 % below {milliseconds(lag['p99'])}" if lag else "",
    )
    completed = f"{sessions['completed']:,} completed"
    screen.line(
        f"{counted(summary['agents'], 'agent')}, {counted(sum(sessions.values()), 'session')} ({completed}), "
        f"{counted(len(summary['roles']), 'role change')}, {counted(len(summary['pending']), 'request')} unanswered"
    )
    screen.line()
    screen.line("The logs and their index stay in ", (summary["root"], "bold"), ". Try next:")
    for what, command in next_steps:
        screen.line()
        screen.line((f"# {what}", "dim"))
        print(plain(command))  # as it is, however long: to be copied


def _who_to_whom(screen: Screen, matrix: dict[str, dict[str, int]]) -> None:
    names = sorted({*matrix, *(other for row in matrix.values() for other in row)})
    titles = [Column("from \\ to"), *(Column(name[:4], right=True, optional=True) for name in names)]

    def row(name: str) -> list[Cell]:
        counts = (matrix.get(name, {}).get(other, 0) for other in names)
        return [[agent(name)], *([(f"{count:,}" if count else "·", "" if count else "dim")] for count in counts)]

    screen.table(titles, map(row, names))
