"""Output for people: tables and lines. In colour and cut to width on a terminal; plain, and never cut, elsewhere.

Everything that is printed here goes through `plain`: logs are written by strangers, and may contain control sequences
that move the cursor, rename the window or reverse a line. Markup in them is text like any other.
"""

from __future__ import annotations

import re
import sys
import zlib
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime, tzinfo
from itertools import islice
from typing import TYPE_CHECKING, Literal, NamedTuple

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text

Piece = tuple[str, str]
"""A text and its style, as rich names styles; "" for none."""
Cell = str | Sequence[Piece]
TableRow = Sequence[Sequence[Piece]]
WIDTH_SAMPLE = 500
"""The number of rows by which the widths of a table's columns are chosen."""
GAP = 2
"""Spaces between two columns."""
LONGEST_LINE = 110
"""The widest line of a paragraph, however wide the terminal is."""
_SQUEEZED = 8
"""The width to which columns may be narrowed if nothing else helps."""
CUT = "…"
"""Stands for text that was cut."""
# C0, DEL and C1; line and paragraph separators; marks that change the direction; invisible tags; lone surrogates.
_UNSAFE = re.compile(
    "[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff\ud800-\udfff\U000e0000-\U000e007f]"
)
_NAMED = {"\n": "\\n", "\r": "\\r", "\t": "\\t"}
_AGENT_STYLES = ("cyan", "green", "magenta", "yellow", "blue", "bright_cyan", "bright_green", "bright_magenta")


def plain(text: str) -> str:
    """The text as one line that has no effect on a terminal: control characters are written as escapes."""
    return _UNSAFE.sub(_escape, text)


def plain_lines(text: str) -> list[str]:
    """The text line by line, each `plain`."""
    lines = text.replace("\r\n", "\n").expandtabs(4).split("\n")
    return [plain(line) for line in lines]


def _escape(match: re.Match[str]) -> str:
    code = ord(match[0])
    if match[0] in _NAMED:
        return _NAMED[match[0]]
    if code < 0x100:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


class Column(NamedTuple):
    """A column of a table. On a terminal each row is one line, and a text that is too wide is cut."""

    title: str
    style: str = ""
    right: bool = False
    least: int = 0
    """The width to which it may be narrowed before any column is left out; 0: it is never narrowed."""
    optional: int = 0
    """If the terminal is too narrow, the columns with the highest number are left out first; 0: never left out."""
    cut: Literal["end", "middle", "fold"] = "end"
    """Where a text that is too wide is cut: `middle` is for ids and paths, which differ at their ends; with `fold` it
    is not cut but continues on the next line."""


class Screen:
    """Standard output for people. Times are shown in UTC, or in the zone of this machine."""

    def __init__(self, is_local: bool = False) -> None:
        self.zone = "local" if is_local else "UTC"
        self.is_terminal = sys.stdout.isatty()
        self._console: Console | None = None

    @property
    def console(self) -> Console:
        """The rich console. rich is imported late, because loading it takes longer than most answers."""
        if self._console is None:
            from rich.console import Console

            self._console = Console(file=sys.stdout, markup=False, highlight=False, emoji=False)
        return self._console

    @property
    def width(self) -> int:
        """The width of the terminal in columns; practically unlimited in a pipe."""
        return self.console.width if self.is_terminal else 1_000_000

    def moment(self, timestamp: float) -> str:
        """A time as text, to the second."""
        return moment_text(timestamp, None if self.zone == "local" else UTC)

    def line(self, *pieces: Piece | str, label: Piece = ("", ""), indent: int = 0) -> None:
        """Print one paragraph, indented, with a label in the indent. On a terminal it is wrapped between words."""
        texts = [(piece, "") if isinstance(piece, str) else piece for piece in pieces]
        if not self.is_terminal:
            print((plain(label[0]).ljust(indent) + "".join(plain(text) for text, _ in texts)).rstrip())
            return
        from rich.table import Table

        grid = Table.grid(padding=0)
        grid.add_column(width=indent, no_wrap=True)
        grid.add_column(width=min(self.width - indent, LONGEST_LINE), overflow="fold")
        grid.add_row(_text([label]), _text(texts))
        self.console.print(grid)

    def table(self, columns: Sequence[Column], rows: Iterable[Sequence[Cell]]) -> int:
        """Print rows in columns, a few hundred at a time as they come. Returns the number of rows."""
        remaining = iter(rows)
        widths: list[int] = []
        count = 0
        while chunk := [_row(row) for row in islice(remaining, WIDTH_SAMPLE)]:
            widths = widths or self._widths(columns, chunk)
            if self.is_terminal:
                self._rich_table(columns, widths, chunk, first=not count)
            else:
                _plain_table(columns, widths, chunk, first=not count)
            count += len(chunk)
        return count

    def row(self, columns: Sequence[Column], widths: Sequence[int], cells: Sequence[Cell]) -> None:
        """Print one row in columns of these widths, or in narrower ones if the terminal has no room for them."""
        if self.is_terminal:
            narrowed = self._narrowed([*widths], [column.least for column in columns])
            narrowed = self._narrowed(narrowed, [min(column.least, _SQUEEZED) for column in columns])
            self._rich_table(columns, narrowed, [_row(cells)], first=False)
        else:
            _plain_table(columns, [*widths], [_row(cells)], first=False)

    def _widths(self, columns: Sequence[Column], rows: list[TableRow]) -> list[int]:
        """The width of each column: what it needs, or less if the terminal is too narrow; 0 if it is left out."""
        needed = [
            max(_width([(column.title, "")]), *(_width(row[i]) for row in rows)) for i, column in enumerate(columns)
        ]
        widths = self._narrowed(needed, [column.least for column in columns])
        optional = [i for i, column in enumerate(columns) if column.optional]
        for i in sorted(optional, key=lambda i: (columns[i].optional, i), reverse=True):
            if _total(widths) <= self.width:
                break
            needed[i] = 0
            widths = self._narrowed(needed, [column.least for column in columns])
        return self._narrowed(widths, [min(column.least, _SQUEEZED) for column in columns])

    def _narrowed(self, widths: list[int], least: list[int]) -> list[int]:
        """The widths, narrowed step by step where there is most to spare, until they fit or nothing is to spare."""
        widths = widths[:]
        while _total(widths) > self.width:
            spare, i = max((width - least[i] if least[i] else 0, i) for i, width in enumerate(widths))
            if spare <= 0:
                break
            widths[i] -= 1
        return widths

    def _rich_table(self, columns: Sequence[Column], widths: list[int], rows: list[TableRow], *, first: bool) -> None:
        from rich.table import Table

        table = Table(box=None, pad_edge=False, padding=(0, GAP, 0, 0), show_header=first, header_style="bold")
        kept = [i for i, width in enumerate(widths) if width]
        for column, width in ((columns[i], widths[i]) for i in kept):
            table.add_column(
                column.title,
                style=column.style,
                justify="right" if column.right else "left",
                width=width,
                no_wrap=column.cut != "fold",
                overflow="fold" if column.cut == "fold" else "ellipsis",
            )
        for row in rows:
            cells = ((row[i], columns[i].cut == "middle", widths[i]) for i in kept)
            table.add_row(*(_text(_without_middle(cell, width) if cut else cell) for cell, cut, width in cells))
        self.console.print(table)


def print_note(text: str) -> None:
    """Print a note to stderr, so that there is nothing but the answer on stdout."""
    print(plain(text), file=sys.stderr)


def agent_piece(name: str) -> Piece:
    """An agent's name, in a colour that is the same everywhere."""
    return (name, _AGENT_STYLES[zlib.crc32(name.encode("utf-8", "replace")) % len(_AGENT_STYLES)])


def speech_pieces(author: str | None, addressees: Sequence[str], participants: Sequence[str]) -> list[Piece]:
    """Who speaks, to whom, and who else takes part: `a → b with c`, with a dash for an unknown author."""
    pieces = [("–", "dim") if author is None else agent_piece(author)]
    others = [name for name in participants if name != author and name not in addressees]
    for word, names in ((" → ", addressees), (" with ", others)):
        for i, name in enumerate(names):
            pieces += [(", " if i else word, "dim"), agent_piece(name)]
    return pieces


def moment_text(timestamp: float, zone: tzinfo | None = UTC) -> str:
    """A time as text, to the second, in a zone (None: that of this machine)."""
    try:
        return datetime.fromtimestamp(timestamp, zone).strftime("%Y-%m-%d %H:%M:%S")
    except (ValueError, OverflowError, OSError):
        return f"{timestamp:.0f}"


def duration_text(seconds: float) -> str:
    """A length of time in its two largest units: `850ms`, `4m 12s`, `3d 7h`."""
    if seconds < 0:
        return f"-{duration_text(-seconds)}"
    if 0 < seconds < 1:
        return f"{seconds * 1000:.0f}ms"
    whole = int(seconds)
    for unit, name, below, name_below in ((86400, "d", 3600, "h"), (3600, "h", 60, "m"), (60, "m", 1, "s")):
        if whole >= unit:
            return f"{whole // unit}{name} {whole % unit // below}{name_below}"
    return f"{whole}s"


def size_text(count: float) -> str:
    """A number of bytes: `812 B`, `1.4 MB`."""
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.0f} {unit}" if unit == "B" or count >= 100 else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} TB"


def counted(count: int, one: str, many: str | None = None) -> str:
    """A number with its noun: `1 entry`, `1,204 entries`."""
    return f"{count:,} {one if count == 1 else many or one + 's'}"


def shortened(text: str, width: int) -> str:
    """A text cut in the middle to at most `width` columns. The byte offset at the end of an id stays whole.

    `shortened("52f25b26-1a5b-4070-ac28-469e6893d8fd:1234", 20)` is `52f25b2…93d8fd:1234`.
    """
    if _width([(text, "")]) <= width:
        return text
    name, colon, offset = text.rpartition(":")
    kept = colon + offset if colon and offset.isdecimal() and len(offset) + 4 <= width else ""
    room = width - len(kept) - len(CUT)
    name = text[: len(text) - len(kept)]
    front = _beginning(name, (room + 1) // 2)
    back = _beginning(name[::-1], room // 2)[::-1]
    return f"{front}{CUT}{back}{kept}"


def _beginning(text: str, width: int) -> str:
    """The beginning of a text that fits into `width` columns."""
    end = taken = 0
    while end < len(text) and (taken := taken + _width([(text[end], "")])) <= width:
        end += 1
    return text[:end]


def _without_middle(cell: Sequence[Piece], width: int) -> Sequence[Piece]:
    """A cell cut to at most `width` columns: its first piece is shortened, and the others stay."""
    (text, style), *others = cell or [("", "")]
    return [(shortened(text, max(1, width - _width(others))), style), *others]


def _row(cells: Sequence[Cell]) -> TableRow:
    pieces = [[(cell, "")] if isinstance(cell, str) else cell for cell in cells]
    return [[(plain(text), style) for text, style in cell] for cell in pieces]


def _text(pieces: Iterable[Piece]) -> Text:
    from rich.text import Text

    text = Text()
    for piece, style in pieces:
        text.append(plain(piece), style)
    return text


def _total(widths: Iterable[int]) -> int:
    there = [width for width in widths if width]
    return sum(there) + GAP * (len(there) - 1)


def _width(pieces: Iterable[Piece]) -> int:
    from rich.cells import cell_len

    return sum(cell_len(text) for text, _ in pieces)


def _plain_table(columns: Sequence[Column], widths: list[int], rows: list[TableRow], *, first: bool) -> None:
    titles: TableRow = [[(column.title, "")] for column in columns]
    for row in [titles, *rows] if first else rows:
        print("".join(_aligned(row, columns, widths)).rstrip())


def _aligned(row: TableRow, columns: Sequence[Column], widths: list[int]) -> Iterator[str]:
    for cell, column, width in zip(row, columns, widths, strict=True):
        space = " " * max(0, width - _width(cell))
        text = "".join(text for text, _ in cell)
        yield f"{space}{text}" if column.right else f"{text}{space}"
        yield " " * GAP
