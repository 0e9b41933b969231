"""The output of the demo in a pipe, and the summary at the end. On a terminal, the board is shown."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sidecar.board.stats import RECENT_SECONDS
from sidecar.board.view import Picture, SilentView, TerminalView, clock, milliseconds
from sidecar.terminal import Cell, Column, Screen, agent_piece, counted, plain


class LineView(SilentView):
    """Prints a line per second."""

    def draw(self, picture: Picture, now: float) -> None:
        """Print a line."""
        seen = picture.seen
        lag = seen.lag(now - RECENT_SECONDS)
        told = (
            *(clock(now - seen.began).rjust(5), counted(seen.total, "entry", "entries").rjust(15)),
            *(f"{seen.rate(now):,.0f}/s".rjust(9), f"lag {milliseconds(lag.p50) if lag else '–'}".rjust(11)),
            *(counted(len(seen.changes), "role change").rjust(17), f"{picture.waiting_count:,} pending".rjust(13)),
        )
        print("".join(told), flush=True)


def view_of(screen: Screen, as_json: bool) -> SilentView:
    """The view for standard output: none for JSON, the board on a terminal, lines elsewhere."""
    if as_json:
        return SilentView()
    return TerminalView(screen) if screen.is_terminal and not screen.console.is_dumb_terminal else LineView()


def ended(screen: Screen, summary: dict[str, Any], next_steps: Sequence[tuple[str, str]]) -> None:
    """Print the summary, and what to try next."""
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
        # Not wrapped, however long it is, because it will be copied.
        print(plain(command))


def _who_to_whom(screen: Screen, matrix: dict[str, dict[str, int]]) -> None:
    names = sorted({*matrix, *(other for row in matrix.values() for other in row)})
    titles = [Column("from \\ to"), *(Column(name[:4], right=True, optional=1) for name in names)]

    def row(name: str) -> list[Cell]:
        counts = (matrix.get(name, {}).get(other, 0) for other in names)
        return [[agent_piece(name)], *([(f"{count:,}" if count else "·", "" if count else "dim")] for count in counts)]

    screen.table(titles, map(row, names))
