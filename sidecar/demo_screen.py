"""Where the demo shows what it knows: a terminal is drawn on again and again, elsewhere there is a line a second."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Protocol

from .render import Cell, Column, Screen, agent, counted

if TYPE_CHECKING:
    from rich.live import Live

    from .demo_frame import Picture


class View(Protocol):
    """What the demo's loop draws on."""

    interval: float
    """Seconds between two drawings."""
    rows: int
    """How many lines of a list it can show at most."""

    def __enter__(self) -> View: ...

    def __exit__(self, *_: object) -> None: ...

    def draw(self, picture: Picture, now: float) -> None:
        """Show it."""


class Terminal:
    """A picture that fills the terminal, on its other screen: what stood there before comes back."""

    interval = 0.2

    def __init__(self, screen: Screen) -> None:
        self._console = screen.console
        self._live: Live | None = None

    def __enter__(self) -> Terminal:
        from rich.live import Live

        # Drawn by us alone: a thread of rich's would take its share of the time that the lag is measured in.
        self._live = Live(console=self._console, screen=True, auto_refresh=False)
        self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._live is not None:
            self._live.stop()

    def draw(self, picture: Picture, now: float) -> None:
        from .demo_frame import frame

        if self._live is not None:
            self._live.update(frame(picture, now, *self._console.size), refresh=True)

    @property
    def rows(self) -> int:  # type: ignore[override]
        """Those of the terminal."""
        return self._console.height


class Lines:
    """A line a second."""

    interval = 1.0
    rows = 0

    def __enter__(self) -> Lines:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def draw(self, picture: Picture, now: float) -> None:
        from .demo_frame import RECENT, clock, milliseconds

        lag = picture.seen.lag(now - RECENT)
        told = [
            *(clock(now - picture.seen.began).rjust(5), counted(picture.seen.total, "entry", "entries").rjust(14)),
            *(f"{picture.seen.rate(now):,.0f}/s".rjust(8), f"lag {milliseconds(lag.p50) if lag else '–'}".ljust(10)),
            *(counted(len(picture.seen.changes), "role change").rjust(15), f"{picture.waiting_count:,} pending"),
        ]
        print("  ".join(told), flush=True)


class Nothing(Lines):
    """Nothing: where the summary alone is wanted."""

    def draw(self, picture: Picture, now: float) -> None:
        pass


def ended(screen: Screen, summary: dict[str, Any], commands: Sequence[tuple[str, str]]) -> None:
    """What it came to, and what to try next."""
    from .demo_frame import milliseconds

    _who_to_whom(screen, summary["matrix"])
    lag, sessions = summary["lag_seconds"], summary["sessions"]
    screen.line()
    screen.line(
        (f"{counted(summary['written'], 'record')} written, {summary['indexed']:,} indexed", "bold"),
        f" in {summary['seconds']:.1f} s",
        *([f"; lag {milliseconds(lag['p50'])}, 99 % below {milliseconds(lag['p99'])}"] if lag else []),
    )
    screen.line(
        f"{counted(summary['agents'], 'agent')}, {counted(sum(sessions.values()), 'session')} "
        f"({sessions['completed']:,} completed), {counted(len(summary['roles']), 'role change')}, "
        f"{counted(len(summary['pending']), 'request')} without an answer"
    )
    screen.line()
    screen.line("The logs and their index stay in ", (summary["root"], "bold"), ". Try next:")
    for what, command in commands:
        screen.line()
        screen.line((f"# {what}", "dim"))
        # Never broken by us, so that it can be copied whole.
        print(command)


def _who_to_whom(screen: Screen, matrix: dict[str, dict[str, int]]) -> None:
    names = sorted({*matrix, *(other for row in matrix.values() for other in row)})
    columns = [Column("author", optional=False), *(Column(name[:4], right=True, optional=True) for name in names)]
    rows: list[list[Cell]] = [
        [[agent(name)], *(f"{count:,}" if (count := matrix.get(name, {}).get(other, 0)) else "·" for other in names)]
        for name in names
    ]
    screen.table(columns, rows)
