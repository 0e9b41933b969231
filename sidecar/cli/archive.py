"""The command `archive`: its options, and its confirmation."""

from __future__ import annotations

import re
import sys
from typing import TYPE_CHECKING, Any

import click

from .options import GlobalOptions, json_option, print_json

if TYPE_CHECKING:
    from sidecar.archive.job import ArchiveResult
    from sidecar.archive.plan import ExpiredArchive

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

        from . import archive_views

        archive_views.archive_view(Screen(), settings, done)


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
