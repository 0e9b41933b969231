"""The board, as a picture: who talks to whom, roles as they change, what waits for an answer, what was said last."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from rich import box
from rich.console import Group, RenderableType
from rich.live import Live
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from sidecar.terminal import Piece, Screen, agent_piece, duration_text, moment_text, plain, shortened, speech_pieces

from .stats import RECENT_SECONDS, BoardStats, Lag, RoleChange

NAME_COLUMNS = 10
"""Width of an agent's name in the matrix, in columns."""
_BARS = "▁▂▃▄▅▆▇█"
_HEAT = ("grey50", "cyan", "green", "yellow", "red", "bright_red")


class WaitingRequest(NamedTuple):
    """A request that nobody has answered yet."""

    age: float
    agents: tuple[str, ...]
    """The sender and the recipients."""
    text: str


@dataclass
class Picture:
    """Everything that a frame shows."""

    seen: BoardStats
    about: str
    seconds: float | None
    """How long it is to last; None if that is open."""
    waiting: Sequence[WaitingRequest] = ()
    waiting_count: int = 0
    said: Sequence[tuple[tuple[str, ...], str]] = ()
    """Participants and text of the latest messages, latest first."""
    title: str = "sidecar demo"
    state: str = ""
    """What is said beside the number of messages, if it is open how long the board lasts."""


def frame(picture: Picture, now: float, width: int, height: int) -> RenderableType:
    """The board, in `width` columns and `height` rows."""
    known = picture.seen.table(height)[0]
    names = len(known)
    upper = max(5, min(names + 3, (height - 3) * 6 // 10))
    lower = max(3, height - 3 - upper)
    most = width * 6 // 10
    column = NAME_COLUMNS
    if _is_numbered(known):
        column = max(column, min(width // 5, max(len(plain(name)) for name in known) + 4))
    cell = 5 if 2 + column + 5 * names <= most else 4
    left = min(2 + column + cell * max(5, names), most)
    matrix = _matrix(picture.seen, now, column, cell, left, upper)
    top = _beside(width, left, matrix, _roles(picture.seen, now, upper))
    bottom = _beside(width, width // 2, _waiting(picture, lower), _said(picture, lower))
    return Group(_title(picture, width), *_figures(picture, now, width), top, bottom)


def _title(picture: Picture, width: int) -> Text:
    title = _fitted([(f" {picture.title} ", "bold black on green"), (f"  {picture.about}", "dim")], width)
    title.truncate(width, overflow="ellipsis")
    return title


def _figures(picture: Picture, now: float, width: int) -> list[Text]:
    seen, passed = picture.seen, now - picture.seen.began
    bars = seen.bars(now, 40 if width >= 96 else 20)
    first: list[Piece] = [
        (f" {seen.rate(now):,.0f}", "bold"),
        (" messages/s ", ""),
        ("".join(_bar(count, max(bars)) for count in bars), "green"),
        ("   lag ", ""),
        *_lag(seen.lag(now - RECENT_SECONDS)),
    ]
    sessions = f"{seen.begun - seen.completed:,} sessions active, {seen.completed:,} completed"
    told = f" messages   {sessions if picture.seconds is not None else picture.state}"
    if picture.seconds is None:
        time_of_all = f"{moment_text(now)} UTC"
    else:
        time_of_all = f"{clock(min(passed, picture.seconds))} of {clock(picture.seconds)}"
    second = _fitted([(f" {seen.total:,}", "bold"), (told, "")], width - len(time_of_all) - 2)
    second.append(time_of_all.rjust(width - second.cell_len - 1), "dim")
    return [_fitted(first, width), second]


def _lag(lag: Lag | None) -> list[Piece]:
    if lag is None:
        return [("–", "dim")]
    style = "green" if lag.p50 < 0.1 else "yellow" if lag.p50 < 1 else "red"
    return [(milliseconds(lag.p50), f"bold {style}"), (f", at worst {milliseconds(lag.worst)}", "dim")]


def _matrix(seen: BoardStats, now: float, column: int, cell: int, width: int, height: int) -> Panel:
    """The matrix of messages: warmer colours for higher counts, bold for the latest messages."""
    names, left_out = seen.table(min(height - 3, (width - 2 - column) // cell))
    grid = Table.grid(padding=0)
    grid.add_column(width=column, no_wrap=True)
    for _ in names:
        grid.add_column(width=cell, justify="right", no_wrap=True)
    is_numbered = _is_numbered(names)
    titles = [str(at) if is_numbered else plain(name)[: cell - 1] for at, name in enumerate(names, 1)]
    grid.add_row("", *(Text(title, agent_piece(name)[1]) for title, name in zip(titles, names, strict=True)))
    most, lately = max(seen.matrix.values(), default=1), seen.spoke_lately(now)
    for title, name in zip(titles, names, strict=True):
        cells = (_count(seen.matrix[name, other], most, (name, other) in lately) for other in names)
        shown = f"{title:>2} {shortened(plain(name), column - 4)}" if is_numbered else plain(name)
        grid.add_row(Text(shown, agent_piece(name)[1]), *cells)
    more = f", {left_out} more" if left_out else ""
    return _panel(grid, "who talks to whom", f"row speaks to column{more}", height)


def _is_numbered(names: Sequence[str]) -> bool:
    """Whether columns have numbers, because the beginnings of the names do not tell them apart."""
    return len({plain(name)[:3] for name in names}) < len(names)


def _age(seconds: float) -> str:
    """A length of time in its largest unit, so that it takes few columns."""
    return duration_text(max(0.0, seconds) // 1).partition(" ")[0]


def _count(count: int, most: int, is_fresh: bool) -> Text:
    if not count:
        return Text("·", "grey30")
    text = f"{count}" if count < 1000 else f"{count // 1000}k"
    return Text(text, "bold" if is_fresh else _HEAT[(len(_HEAT) - 1) * count // most])


def _roles(seen: BoardStats, now: float, height: int) -> Panel:
    grid = _list(right=1)
    for change in reversed(seen.changes[-(height - 2) :]):
        grid.add_row(Text(_age(now - change.timestamp), "dim"), _changed(change))
    return _panel(grid, "roles as they change", f"{len(seen.changes):,} so far", height)


def _changed(change: RoleChange) -> Text:
    before: list[Piece] = [(f"{change.before} ", "dim"), ("→ ", "dim")] if change.before else [("as ", "dim")]
    return _fitted([agent_piece(change.agent), (" ", ""), *before, (change.after, "bold")])


def _waiting(picture: Picture, height: int) -> Panel:
    grid = _list(right=1)
    for one in picture.waiting[: height - 2]:
        style = "green" if one.age < 2 else "yellow" if one.age < 10 else "red"
        who = _speech(one.agents) if len(one.agents) > 1 else [*_speech(one.agents), (" → all", "dim")]
        grid.add_row(Text(_age(one.age), style), _fitted([*who, (f"  {one.text}", "italic")]))
    return _panel(grid, "waiting for an answer", f"{picture.waiting_count:,} pending, the oldest first", height)


def _said(picture: Picture, height: int) -> Panel:
    grid = _list()
    for who, text in picture.said[: height - 2]:
        grid.add_row(_fitted([*_speech(who[:2]), (" …" if len(who) > 2 else "", "dim"), (f"  {text}", "italic")]))
    return _panel(grid, "said last", "read from the log, by pointer", height)


def _speech(who: Sequence[str]) -> list[Piece]:
    """Who speaks, and to whom."""
    return speech_pieces(who[0], who[1:], who)


def _list(right: int = 0) -> Table:
    grid = Table.grid(padding=(0, 1, 0, 0), expand=True)
    for _ in range(right):
        grid.add_column(width=4, justify="right", no_wrap=True)
    grid.add_column(no_wrap=True, overflow="ellipsis", ratio=1)
    return grid


def _panel(inner: RenderableType, title: str, subtitle: str, height: int) -> Panel:
    return Panel(
        inner,
        title=f"[bold]{title}[/]",
        subtitle=f"[dim]{subtitle}[/]",
        title_align="left",
        subtitle_align="right",
        box=box.ROUNDED,
        border_style="grey37",
        padding=0,
        height=height,
    )


def _beside(width: int, left: int, one: RenderableType, other: RenderableType) -> Table:
    grid = Table.grid(padding=0)
    grid.add_column(width=left)
    grid.add_column(width=width - left)
    grid.add_row(one, other)
    return grid


def _fitted(pieces: Iterable[Piece], width: int | None = None) -> Text:
    """One line of text, cut to `width` columns."""
    text = Text(no_wrap=True, overflow="ellipsis")
    for piece, style in pieces:
        text.append(plain(piece), style)
    if width is not None:
        text.truncate(width, overflow="ellipsis")
    return text


def _bar(count: int, most: int) -> str:
    return _BARS[min(len(_BARS) - 1, len(_BARS) * count // (most + 1))] if count else " "


def milliseconds(seconds: float) -> str:
    """A lag as text: `3 ms`, `1.2 s`."""
    return f"{seconds * 1000:.0f} ms" if seconds < 1 else f"{seconds:.1f} s"


def clock(seconds: float) -> str:
    """A length of time as `minutes:seconds`."""
    return f"{int(seconds) // 60}:{int(seconds) % 60:02}"


class SilentView:
    """Shows nothing."""

    interval = 1.0
    """Seconds between two frames."""

    def __enter__(self) -> SilentView:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    @property
    def rows(self) -> int:
        """The number of lines of a list that can be seen at most."""
        return 0

    def draw(self, picture: Picture, now: float) -> None:
        """Show a frame."""


class TerminalView(SilentView):
    """Fills the alternate screen of the terminal; the original content comes back at the end."""

    interval = 0.2

    def __init__(self, screen: Screen) -> None:
        self._console = screen.console
        # Refreshed here alone: a thread of rich would take processor time and so increase the lag that is measured.
        self._live = Live(console=self._console, screen=True, auto_refresh=False)

    def __enter__(self) -> TerminalView:
        self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._live.stop()

    @property
    def rows(self) -> int:
        """The height of the terminal."""
        return self._console.height

    def draw(self, picture: Picture, now: float) -> None:
        """Draw a frame."""
        self._live.update(frame(picture, now, *self._console.size), refresh=True)
