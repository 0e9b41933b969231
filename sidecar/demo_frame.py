"""One frame of the demo on a terminal: a picture of what the index knows, in so many columns and rows."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from rich import box
from rich.console import Group, RenderableType
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from .demo_seen import RECENT, Lag, RoleChange, Seen
from .render import Piece, agent, agents, length, plain

NAME = 10
CELL = 5
"""Columns of an agent's name, and of a number in the matrix."""

_BARS = "▁▂▃▄▅▆▇█"
_HEAT = ("grey42", "blue", "cyan", "green", "yellow", "bold bright_red")


class Waiting(NamedTuple):
    """A request that nobody has answered yet."""

    age: float
    agents: tuple[str, ...]
    """Who asks, and whom."""
    text: str


@dataclass
class Picture:
    """All that a frame shows."""

    seen: Seen
    about: str
    seconds: float
    """How long the demo is to last."""
    sessions: str = ""
    waiting: Sequence[Waiting] = ()
    waiting_count: int = 0
    said: Sequence[tuple[tuple[str, ...], str]] = ()
    """What was said last, and by whom to whom, the latest first."""


def frame(picture: Picture, now: float, width: int, height: int) -> RenderableType:
    """The whole picture, in so many columns and rows."""
    upper = max(5, min(len(picture.seen.table(99)[0]) + 3, (height - 3) * 6 // 10))
    lower = max(3, height - 3 - upper)
    left = min(2 + NAME + 1 + CELL * upper, width * 6 // 10)
    top = _beside(width, left, _matrix(picture.seen, left, upper), _roles(picture.seen, now, upper))
    bottom = _beside(width, width // 2, _waiting(picture, lower), _said(picture, lower))
    return Group(_title(picture, width), *_figures(picture, now, width), top, bottom)


def _title(picture: Picture, width: int) -> Text:
    title = _fitted([(" sidecar demo ", "bold black on green"), (f"  {picture.about}", "dim")], width)
    title.truncate(width, overflow="ellipsis")
    return title


def _figures(picture: Picture, now: float, width: int) -> list[Text]:
    seen, passed = picture.seen, now - picture.seen.began
    bars = seen.bars(now, 40 if width >= 96 else 20)
    first: list[Piece] = [
        (f" {seen.rate(now):,.0f}", "bold bright_white"),
        (" messages/s ", ""),
        ("".join(_bar(count, max(bars)) for count in bars), "green"),
        ("   lag ", ""),
        *_lag(seen.lag(now - RECENT)),
    ]
    clock = f"{_clock(min(passed, picture.seconds))} of {_clock(picture.seconds)}"
    second: list[Piece] = [(f" {seen.total:,}", "bold bright_white"), (f" entries   {picture.sessions}", "")]
    end = _fitted(second, width - len(clock) - 2)
    end.append(clock.rjust(width - end.cell_len - 1), "dim")
    return [_fitted(first, width), end]


def _lag(lag: Lag | None) -> list[Piece]:
    if lag is None:
        return [("–", "dim")]
    style = "green" if lag.p50 < 0.1 else "yellow" if lag.p50 < 1 else "red"
    return [(_milliseconds(lag.p50), f"bold {style}"), (f", at worst {_milliseconds(lag.worst)}", "dim")]


def _matrix(seen: Seen, width: int, height: int) -> Panel:
    names, left_out = seen.table(min(height - 3, (width - 3 - NAME) // CELL))
    grid = Table.grid(padding=0)
    grid.add_column(width=NAME, no_wrap=True)
    for _ in names:
        grid.add_column(width=CELL, justify="right", no_wrap=True)
    grid.add_row("", *(Text(plain(name)[: CELL - 1], agent(name)[1]) for name in names))
    most = max(seen.matrix.values(), default=1)
    for name in names:
        grid.add_row(Text(plain(name), agent(name)[1]), *(_cell(seen.matrix[name, other], most) for other in names))
    more = f", {left_out} more" if left_out else ""
    return _panel(grid, "who talks to whom", f"row speaks to column{more}", height)


def _cell(count: int, most: int) -> Text:
    if not count:
        return Text("·", "grey30")
    return Text(f"{count}" if count < 10**4 else f"{count // 1000}k", _HEAT[(len(_HEAT) - 1) * count // most])


def _roles(seen: Seen, now: float, height: int) -> Panel:
    grid = _list(right=1)
    for change in reversed(seen.changes[-(height - 2) :]):
        grid.add_row(Text(length(max(0.0, now - change.timestamp) // 1), "dim"), _changed(change))
    return _panel(grid, "roles as they change", f"{len(seen.changes):,} so far", height)


def _changed(change: RoleChange) -> Text:
    before: list[Piece] = [(f"{change.before} ", "dim"), ("→ ", "dim")] if change.before else [("as ", "dim")]
    return _fitted([agent(change.agent), (" ", ""), *before, (change.after, "bold")])


def _waiting(picture: Picture, height: int) -> Panel:
    grid = _list(right=1)
    for one in picture.waiting[: height - 2]:
        style = "green" if one.age < 2 else "yellow" if one.age < 10 else "red"
        who = agents(one.agents) if len(one.agents) > 1 else [*agents(one.agents), (" → all", "dim")]
        grid.add_row(Text(length(one.age // 1), style), _fitted([*who, (f"  {one.text}", "italic")]))
    title = "waiting for an answer, the longest first"
    return _panel(grid, title, f"{picture.waiting_count:,} pending", height)


def _said(picture: Picture, height: int) -> Panel:
    grid = _list()
    for who, text in picture.said[: height - 2]:
        grid.add_row(_fitted([*agents(who[:2]), (" …" if len(who) > 2 else "", "dim"), (f"  {text}", "italic")]))
    return _panel(grid, "said last", "read from the log, by pointer", height)


def _list(right: int = 0) -> Table:
    grid = Table.grid(padding=(0, 1, 0, 0))
    for _ in range(right):
        grid.add_column(width=4, justify="right", no_wrap=True)
    grid.add_column(no_wrap=True, overflow="ellipsis", ratio=1)
    return grid


def _panel(inner: RenderableType, title: str, subtitle: str, height: int) -> Panel:
    return Panel(
        inner, title=f"[bold]{title}[/]", subtitle=f"[dim]{subtitle}[/]", title_align="left", subtitle_align="right",
        box=box.ROUNDED, border_style="grey37", padding=0, height=height,
    )


def _beside(width: int, left: int, one: RenderableType, other: RenderableType) -> Table:
    grid = Table.grid(padding=0)
    grid.add_column(width=left)
    grid.add_column(width=width - left)
    grid.add_row(one, other)
    return grid


def _fitted(pieces: Iterable[Piece], width: int | None = None) -> Text:
    """One line; cut where it is longer than `width`."""
    text = Text(no_wrap=True, overflow="ellipsis")
    for piece, style in pieces:
        text.append(plain(piece), style)
    if width is not None:
        text.truncate(width, overflow="ellipsis")
    return text


def _bar(count: int, most: int) -> str:
    return _BARS[min(len(_BARS) - 1, len(_BARS) * count // (most + 1))] if count else " "


def _milliseconds(seconds: float) -> str:
    return f"{seconds * 1000:.0f} ms" if seconds < 1 else f"{seconds:.1f} s"


def _clock(seconds: float) -> str:
    return f"{int(seconds) // 60}:{int(seconds) % 60:02}"
