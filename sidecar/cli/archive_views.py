"""The output of `archive` for people. Imported only to print it, not for `--help`."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from sidecar.terminal import Cell, Column, Screen, counted, duration_text, size_text

if TYPE_CHECKING:
    from sidecar.archive.job import ArchiveResult
    from sidecar.config.settings import Settings

MAX_LISTED = 3
"""How many names are listed for each reason to keep logs."""


def archive_view(screen: Screen, settings: Settings, done: ArchiveResult) -> None:
    """Print what was archived where and what that saves, what was deleted, and what was kept and why."""
    about = "~" if done.dry_run else ""
    if done.archived:
        columns = (
            *(Column("archive", least=24, cut="middle"), Column("logs", right=True), Column("bytes", right=True)),
            *(Column("archived", right=True), Column("saves", right=True)),
        )

        def rows() -> Iterator[Sequence[Cell]]:
            for one in done.archived:
                saved = 100 * (1 - one.archive_bytes / one.log_bytes) if one.log_bytes else 0.0
                packed = f"{about}{size_text(one.archive_bytes)}"
                yield one.file, f"{one.logs:,}", size_text(one.log_bytes), packed, f"{about}{saved:.0f} %"

        screen.table(columns, rows())
        screen.line()
    _sum(screen, settings, done, about)
    _compacted(screen, done)
    if done.cleared:
        screen.line(f"{counted(done.cleared, 'log')} of an earlier run {_verb(done, 'deleted')}")
    if done.deleted:
        total = sum(one.size for one in done.deleted)
        logs = sum(len(one.logs) for one in done.deleted)
        screen.line(
            f"{counted(len(done.deleted), 'old archive')} {_verb(done, 'deleted')}, {size_text(total)},"
            f" with the entries of {counted(logs, 'log')}"
        )
        for expired in done.deleted if done.dry_run else ():
            screen.line(f"{expired.file}  {size_text(expired.size)}", label=("  ·", "red"), indent=4)
    _kept(screen, done)


def _verb(done: ArchiveResult, verb: str) -> str:
    return f"would be {verb}" if done.dry_run else verb


def _sum(screen: Screen, settings: Settings, done: ArchiveResult, about: str) -> None:
    logs = sum(one.logs for one in done.archived)
    before, after = (sum(getattr(one, name) for one in done.archived) for name in ("log_bytes", "archive_bytes"))
    if not logs:
        screen.line(f"nothing {'to archive' if done.dry_run else 'archived'} in {settings.archive}")
        return
    screen.line(
        f"{counted(logs, 'log')} {_verb(done, 'archived')} in {settings.archive}: {size_text(before)} compressed to "
        f"{about}{size_text(after)}" + ("" if done.dry_run else f", in {duration_text(done.seconds)}")
    )


def _compacted(screen: Screen, done: ArchiveResult) -> None:
    for day, why in done.days_kept[:MAX_LISTED]:
        screen.line(f"the index of {day} was not compacted: {why}")
    if not done.compacted:
        return
    before, after = (sum(getattr(one, name) for one in done.compacted) for name in ("before", "after"))
    what = f"the index of {counted(len(done.compacted), 'day')}"
    screen.line(
        f"{what} would be compacted"
        if done.dry_run
        else f"{what} compacted from {size_text(before)} to {size_text(after)}"
    )


def _kept(screen: Screen, done: ArchiveResult) -> None:
    reasons: defaultdict[str, list[str]] = defaultdict(list)
    for path, why in done.kept:
        reasons[why].append(path)
    if not reasons:
        return
    screen.line()
    screen.line(f"{counted(len(done.kept), 'log')} kept in place:")

    def rows() -> Iterator[Sequence[Cell]]:
        for why, paths in sorted(reasons.items(), key=lambda one: (-len(one[1]), one[0])):
            listed, left = paths[:MAX_LISTED], len(paths) - MAX_LISTED
            more = f" and {left:,} more" if left > 0 else ""
            if not screen.is_terminal:
                yield f"{len(paths):,}", why, ", ".join(listed) + more
                continue
            yield f"{len(paths):,}", why, listed[0]
            yield from (("", "", path) for path in listed[1:])
            if more:
                yield "", "", more.strip()

    which = Column("which", "dim", least=30, cut="middle")
    screen.table((Column("logs", right=True), Column("why", least=20, cut="fold"), which), rows())
