"""The output of `status`, `verify` and `doctor` for people. Imported only to print it, not for `--help`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from sidecar.terminal import Cell, Column, Piece, Screen, counted, duration_text, size_text

if TYPE_CHECKING:
    from sidecar.config.settings import Settings
    from sidecar.health.result import CheckResult
    from sidecar.health.status import Status
    from sidecar.health.verify import Verification

MAX_LISTED = 5
"""How many logs are listed one by one."""

_MARKS: dict[str, Piece] = {"ok": ("✓", "green"), "warning": ("!", "bold yellow"), "error": ("✗", "bold red")}


def status_view(screen: Screen, settings: Settings, found: Status) -> None:
    """Print the health in one word, the reasons, and what became of the bytes."""
    word: Piece = ("healthy", "bold green") if found.healthy else ("unhealthy", "bold red")
    screen.line(word, ("  " + str(settings.root), ""))
    for reason in found.reasons:
        screen.line(reason, label=("  ·", "red"), indent=4)
    screen.line()
    running = f"process {found.running}" if found.running else "no"
    why = f" ({found.why_polling})" if found.why_polling else ""
    facts = (
        ("running", running),
        ("watching", ("" if found.running else "not now; would use ") + found.watching + why),
        ("lag", _lag(found)),
        ("sources", counted(found.sources, "file") + (f", {found.missing:,} missing" if found.missing else "")),
        ("entries", f"{found.entries:,} on {counted(found.days, 'day')}"),
        ("times", _times(found)),
        ("rejected", counted(found.rejected, "line")),
        ("repaired", counted(found.repaired, "record") if found.repaired else ""),
        ("archived", _archived(found)),
        ("dropped", _dropped(found)),
        ("not read", _skipped(found)),
    )
    for title, fact in facts:
        if not fact:
            continue
        screen.line(fact, label=(f"{title:>10}", "dim"), indent=12)
    for sentence in found.odd_times:
        screen.line(sentence, label=("         !", "yellow"), indent=12)
    screen.line()
    _bytes(screen, found)
    if found.source_list:
        screen.line()
        _sources(screen, found)


def _lag(found: Status) -> str:
    if not found.behind_bytes:
        return "none"
    return f"{size_text(found.behind_bytes)} not indexed, the oldest for {duration_text(found.lag_seconds)}"


def _times(found: Status) -> str:
    """Where the times came from; nothing if every entry names its own."""
    times = found.times
    if not (times.inherited or times.file):
        return ""
    return f"{times.own:,} named, {times.inherited:,} of the entry before, {times.file:,} of the file"


def _archived(found: Status) -> str:
    archive = found.archive
    if not archive.logs:
        return ""
    logs, files = counted(archive.logs, "file"), counted(archive.files, "archive")
    return f"{logs}, {size_text(archive.bytes)}, in {files} of {size_text(archive.disk_bytes)}"


def _dropped(found: Status) -> str:
    if not found.dropped:
        return ""
    logs = [f"{one.entries:,} of {one.path}, {one.reason}" for one in found.dropped_list]
    return f"{counted(found.dropped, 'entry', 'entries')}: {'; '.join(logs)}"


def _skipped(found: Status) -> str:
    if not found.skipped_paths:
        return ""
    return f"{counted(found.skipped_paths, 'path or glob', 'paths and globs')} passed over; `sidecar doctor` names them"


def _bytes(screen: Screen, found: Status) -> None:
    """Print how many bytes became what. If the numbers do not add up to the total, the rest gets a line of its own."""
    sums = found.bytes
    parts = [(name, getattr(sums, name)) for name in sums.__slots__ if name != "total"]
    missing = sums.total - sum(count for _, count in parts)
    if missing:
        parts.append(("not indexed" if missing == found.behind_bytes else "unaccounted", missing))

    def rows() -> Iterator[Sequence[Cell]]:
        for name, count in parts:
            style = "dim" if not count else "bold red" if name == "unaccounted" else ""
            share = f"{100 * count / sums.total:.1f} %" if sums.total else "–"
            yield [[(text, style)] for text in (name, f"{count:,}", share)]
        yield [[(text, "bold")] for text in ("total", f"{sums.total:,}", "")]

    screen.table((Column("bytes"), Column("", right=True), Column("", right=True)), rows())


def _sources(screen: Screen, found: Status) -> None:
    """Print one line per file. On a terminal, columns with nothing but zeros are omitted, and if there is still not
    enough room, those that can be worked out from the others."""
    styles = {"ok": "green", "behind": "yellow", "archived": "cyan", "missing": "dim", "wrong": "bold red"}
    names = ["size", "indexed", "blank", "rejected", "skipped", "waiting", "behind", "entries", "repaired"]
    if screen.is_terminal:
        names = [name for name in names if name == "size" or any(getattr(one, name) for one in found.source_list)]
    follow = ("indexed", "blank", "skipped", "entries", "repaired")
    numbers = (Column(name, right=True, optional=int(name in follow)) for name in names)
    columns = (Column("status"), *numbers, Column("file", least=36, cut="middle"))

    def rows() -> Iterator[Sequence[Cell]]:
        for one in found.source_list:
            state: Cell = [(one.status, styles.get(one.status, ""))]
            counts = [f"{getattr(one, name):,}" for name in names]
            yield [state, *counts, one.path]

    screen.table(columns, rows())


def verify_view(screen: Screen, found: Verification) -> None:
    """Print whether the index agrees with the logs."""
    if found.holds:
        screen.line(("holds", "bold green"), f"  {counted(found.entries, 'row')} match a fresh rebuild,")
        screen.line(f"{counted(found.pointers, 'pointer')} lead to the bytes that were indexed", indent=7)
    elif found.differences:
        screen.line(("does not hold", "bold red"), f"  {counted(len(found.differences), 'difference')}")
        for difference in found.differences:
            screen.line(difference, label=("  ·", "red"), indent=4)
        screen.line("run `sidecar reindex` to rebuild the index")
    if found.unreadable:
        logs = counted(len(found.unreadable), "log")
        screen.line(("not verified", "bold yellow"), f"  this user may not read {logs}")
        for path in found.unreadable[:MAX_LISTED]:
            screen.line(path, label=("  ·", "yellow"), indent=4)
        if len(found.unreadable) > MAX_LISTED:
            screen.line(f"and {len(found.unreadable) - MAX_LISTED:,} more", indent=4)
        checked = f"{counted(found.entries, 'row')} of other logs were compared"
        screen.line(f"{checked}; run `sidecar verify` as a user who may read all logs")
    if found.missing_sources:
        missing = counted(found.missing_sources, "log file is", "log files are")
        screen.line((f"{missing} gone; their entries could not be checked", "yellow"))


def doctor_view(screen: Screen, results: Sequence[CheckResult]) -> None:
    """Print each result, with its advice below it."""
    widest = max((len(result.check) for result in results), default=0)
    for result in results:
        mark, style = _MARKS[result.status]
        screen.line(result.message, label=(f"{mark} {result.check}", style), indent=widest + 4)
        for line in result.advice.splitlines():
            screen.line("→ ", (line, "italic"), indent=widest + 4)
    counts = {status: sum(result.status == status for result in results) for status in _MARKS}
    screen.line()
    verdict: Piece = ("no problems found", "bold green")
    if counts["error"]:
        verdict = (f"{counted(counts['error'], 'problem prevents', 'problems prevent')} indexing", "bold red")
    elif counts["warning"]:
        verdict = (f"indexing will work; {counted(counts['warning'], 'warning')}", "bold yellow")
    screen.line(verdict)
