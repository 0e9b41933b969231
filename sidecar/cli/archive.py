"""The command `archive`: its options, its confirmation, and its table."""

from __future__ import annotations

import re
import sys
from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import click

from sidecar.terminal import Cell, Column, Screen, counted, duration_text, size_text

from .options import GlobalOptions, json_option, print_json

if TYPE_CHECKING:
    from sidecar.archive.job import ArchiveResult
    from sidecar.archive.plan import ExpiredArchive
    from sidecar.config.settings import Settings

_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([kmgt]?)b?", re.IGNORECASE)
_UNITS = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12}


def _age(_ctx: click.Context, _param: click.Parameter, value: str | None) -> float | None:
    """An option's length of time, in seconds."""
    from sidecar.errors import BadTime
    from sidecar.times import duration

    try:
        return None if value is None else duration(value)
    except BadTime:
        raise click.BadParameter(f"{value!r} is no age: give seconds, or 12h, 7d, 4w") from None


def _size(_ctx: click.Context, _param: click.Parameter, value: str | None) -> int | None:
    """An option's number of bytes."""
    if value is None:
        return None
    found = _SIZE.fullmatch(value.strip())
    if found is None:
        raise click.BadParameter(f"{value!r} is no size: give bytes, or 500M, 20G")
    return int(float(found[1]) * _UNITS[found[2].lower()])


@click.command(
    epilog="""\b
Examples:
  sidecar archive --dry-run             what would go where, what it saves, and what stays for which reason
  sidecar archive --older-than 7d       completed sessions and past days that have been unchanged for a week
  sidecar archive --keep 365d           and delete archives of days that were over a year ago, with their entries
"""
)
@click.option("--older-than", callback=_age, default="1d", metavar="AGE", help="Unchanged for so long; default: 1d.")
@click.option("--dry-run", is_flag=True, help="Only tell what would be done.")
@click.option("--keep", callback=_age, metavar="AGE", help="Delete archives older than that; else none ever is.")
@click.option("--keep-size", callback=_size, metavar="SIZE", help="Delete the oldest archives beyond this: 20G.")
@click.option("--yes", is_flag=True, help="Do not ask before archives are deleted.")
@json_option
@click.pass_obj
def archive(
    given: GlobalOptions,
    older_than: float,
    dry_run: bool,
    keep: float | None,
    keep_size: int | None,
    yes: bool,
    as_json: bool,
) -> None:
    """Compress completed sessions and past days; everything stays findable and readable.

    A session goes to archive/sessions/DAY/NAME.jsonl.zst, a past day's folder to archive/events/events_DAY.tar.zst;
    `zstd -dc` and `tar --zstd` open them. Logs are deleted once their archive is compared with them and known to the
    index. May run beside `sidecar run` and beside writers, and may be killed at any moment. The index of past days is
    made smaller. With --json, one object tells what was done.
    """
    from sidecar.archive import job
    from sidecar.terminal import ProgressBar

    settings = given.settings()
    options = job.ArchiveOptions(older_than, keep, keep_size)
    if dry_run:
        done = job.preview(settings, options)
    else:
        with ProgressBar() as progress:

            def agreed(going: list[ExpiredArchive]) -> bool:
                progress.pause()
                return _agreed(going, yes)

            done = job.archive(settings, options, progress, agreed)
    if as_json:
        print_json(_told(done))
    else:
        from sidecar.terminal import Screen

        archive_view(Screen(), settings, done)


def _agreed(going: list[ExpiredArchive], yes: bool) -> bool:
    """Show what is going to be deleted; on a terminal, ask."""
    from sidecar.terminal import counted, print_note, size_text

    total = sum(one.size for one in going)
    logs = sum(len(one.logs) for one in going)
    print_note(
        f"to be deleted: {counted(len(going), 'archive')}, {size_text(total)},"
        f" with the entries of {counted(logs, 'log')}"
    )
    for one in going:
        print_note(f"  {one.file}  {size_text(one.size)}")
    if yes or not sys.stdin.isatty():
        return True
    return click.confirm("Delete them?", err=True)


def _told(done: ArchiveResult) -> dict[str, Any]:
    from dataclasses import asdict

    told = asdict(done)
    for name in ("archived", "kept", "compacted", "days_kept"):
        told[name] = [one._asdict() for one in getattr(done, name)]
    told["deleted"] = [{"file": one.file, "archive_bytes": one.size, "logs": list(one.logs)} for one in done.deleted]
    told["log_bytes"] = sum(one.log_bytes for one in done.archived)
    told["archive_bytes"] = sum(one.archive_bytes for one in done.archived)
    return told


COMMANDS = (archive,)

# ---- tables

MAX_LISTED = 3
"""Logs that stay for a reason, told by name."""


def archive_view(screen: Screen, settings: Settings, done: ArchiveResult) -> None:
    """What went where and what it saves, what stays and why, what was deleted."""
    about = "~" if done.dry_run else ""
    if done.archived:
        columns = (
            *(Column("archive", least=24), Column("logs", right=True), Column("bytes", right=True)),
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
        for doomed in done.deleted if done.dry_run else ():
            screen.line(f"{doomed.file}  {size_text(doomed.size)}", label=("  ·", "red"), indent=4)
    _kept(screen, done)


def _verb(done: ArchiveResult, verb: str) -> str:
    return f"would be {verb}" if done.dry_run else verb


def _sum(screen: Screen, settings: Settings, done: ArchiveResult, about: str) -> None:
    logs = sum(one.logs for one in done.archived)
    before, after = (sum(getattr(one, name) for one in done.archived) for name in ("log_bytes", "archive_bytes"))
    if not logs:
        screen.line(f"nothing {'would go' if done.dry_run else 'went'} to {settings.archive}")
        return
    screen.line(
        f"{counted(logs, 'log')} {_verb(done, 'archived')} in {settings.archive}: {size_text(before)} become "
        f"{about}{size_text(after)}" + ("" if done.dry_run else f", in {duration_text(done.seconds)}")
    )


def _compacted(screen: Screen, done: ArchiveResult) -> None:
    for day, why in done.days_kept[:MAX_LISTED]:
        screen.line(f"the index of {day} stays as it is: {why}")
    if not done.compacted:
        return
    before, after = (sum(getattr(one, name) for one in done.compacted) for name in ("before", "after"))
    what = f"the index of {counted(len(done.compacted), 'day')}"
    screen.line(
        f"{what} would be made smaller"
        if done.dry_run
        else f"{what} {size_text(before)} before, {size_text(after)} now"
    )


def _kept(screen: Screen, done: ArchiveResult) -> None:
    reasons: defaultdict[str, list[str]] = defaultdict(list)
    for path, why in done.kept:
        reasons[why].append(path)
    if not reasons:
        return
    screen.line()
    screen.line(f"{counted(len(done.kept), 'log stays', 'logs stay')} where they are:")

    def rows() -> Iterator[Sequence[Cell]]:
        for why, paths in sorted(reasons.items(), key=lambda one: (-len(one[1]), one[0])):
            more = f" and {len(paths) - MAX_LISTED:,} more" if len(paths) > MAX_LISTED else ""
            yield f"{len(paths):,}", why, ", ".join(paths[:MAX_LISTED]) + more

    screen.table((Column("logs", right=True), Column("why", least=20), Column("which", "dim", least=20)), rows())
