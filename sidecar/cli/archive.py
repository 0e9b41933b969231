"""The command `archive`: its options and its confirmation prompt."""

from __future__ import annotations

import re
import sys
from typing import TYPE_CHECKING, Any

import click

from .options import Command, GlobalOptions, json_option, print_json

if TYPE_CHECKING:
    from sidecar.archive.job import ArchiveResult
    from sidecar.archive.plan import ExpiredArchive

_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*(b|[kmgt]b?)", re.IGNORECASE)
_UNITS = {"b": 1, "k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12}


def _age(_ctx: click.Context, _param: click.Parameter, value: str | None) -> float | None:
    """The value of an option in seconds, from an age such as `7d`."""
    from sidecar.errors import BadTime
    from sidecar.times import duration

    try:
        return None if value is None else duration(value)
    except BadTime:
        raise click.BadParameter(f"{value!r} is not an age: give seconds, or 12h, 7d, 4w") from None


def age_with_unit(_ctx: click.Context, _param: click.Parameter, value: str | None) -> float | None:
    """Like `_age`, but the unit is required, because the option deletes: `--keep 800` would mean thirteen minutes."""
    from sidecar.times import seconds_of

    if value is None:
        return None
    seconds = seconds_of(value)
    if seconds is None:
        text = value.strip()
        example = f"{text}s, {text}h or {text}d" if text.isdecimal() else "12h, 30d or 52w"
        raise click.BadParameter(f"{value!r} is not an age with a unit: give {example}")
    return seconds


def _size_with_unit(_ctx: click.Context, _param: click.Parameter, value: str | None) -> int | None:
    """The value of an option in bytes, from a size such as `20G`."""
    if value is None:
        return None
    found = _SIZE.fullmatch(value.strip())
    if found is None:
        text = value.strip()
        example = f"{text}B, {text}M or {text}G" if text.isdecimal() else "500M, 20G or 1T"
        raise click.BadParameter(f"{value!r} is not a size with a unit: give {example}")
    return int(float(found[1]) * _UNITS[found[2][0].lower()])


@click.command(
    cls=Command,
    epilog="""\b
Examples:
  sidecar archive --dry-run         show what would be done, and what it saves
  sidecar archive --older-than 7d   archive what has not changed for a week
  sidecar archive --keep 365d       also delete archives older than a year
""",
)
@click.option(
    "--older-than",
    callback=_age,
    default="1d",
    metavar="AGE",
    help="Archive only what has not changed for this long. Default: 1d.",
)
@click.option("--dry-run", is_flag=True, help="Only show what would be done.")
@click.option(
    "--keep",
    callback=age_with_unit,
    metavar="AGE",
    help="Delete archives older than this, such as 365d, with their entries. Default: never.",
)
@click.option(
    "--keep-size",
    callback=_size_with_unit,
    metavar="SIZE",
    help="Delete the oldest archives beyond this total size, such as 20G, with their entries. Default: never.",
)
@click.option("--copy", is_flag=True, help="Leave the logs where they are, and archive copies of them.")
@click.option("--yes", is_flag=True, help="Delete without asking; required if there is no terminal.")
@json_option
@click.pass_obj
def archive(
    options: GlobalOptions,
    older_than: float,
    dry_run: bool,
    keep: float | None,
    keep_size: int | None,
    copy: bool,
    yes: bool,
    as_json: bool,
) -> None:
    """Compress completed sessions and past days. Everything can still be found and read.

    A session becomes archive/sessions/DAY/NAME.jsonl.zst, and the folder of a past day
    archive/events/events_DAY.tar.zst; `zstd -dc` and `tar --zstd` can read them. A log is deleted only after its
    archive has been compared with it and recorded in the index. The index of past days is compacted as well. It is safe
    to use this while a sidecar and writers are running, and to kill it at any moment. With --json, a summary object is
    printed.

    The logs of agent tools can only be archived with --copy: each log that has not changed for the age, whether or not
    its session is completed.

    Only --keep and --keep-size delete anything for good. They list what they are going to delete, and ask on the
    terminal; without a terminal they need --yes.
    """
    from sidecar.archive import job
    from sidecar.errors import ConfigError
    from sidecar.progress import ProgressBar

    settings = options.settings()
    archive_options = job.ArchiveOptions(older_than, keep, keep_size, copy)
    deletes = [name for name, value in (("--keep", keep), ("--keep-size", keep_size)) if value is not None]
    if deletes and not (dry_run or yes or sys.stdin.isatty()):
        raise ConfigError(
            f"{deletes[0]} deletes for good, and there is no terminal to ask on",
            hint="add --yes to delete without being asked, or --dry-run to see what would be deleted",
        )
    if dry_run:
        done = job.preview(settings, archive_options)
    else:
        with ProgressBar() as progress:

            def may_delete(expired: list[ExpiredArchive]) -> bool:
                progress.pause()
                return _may_delete(expired, yes)

            done = job.archive(settings, archive_options, progress, may_delete)
    if as_json:
        print_json(_as_object(done))
    else:
        from sidecar.terminal import Screen

        from . import archive_views

        archive_views.archive_view(Screen(), settings, done)


def _may_delete(expired: list[ExpiredArchive], yes: bool) -> bool:
    """Whether to delete these archives. Lists them and asks, unless `yes` was given."""
    from sidecar.terminal import counted, print_note, size_text

    total = sum(one.size for one in expired)
    logs = sum(len(one.logs) for one in expired)
    print_note(
        f"will delete: {counted(len(expired), 'archive')}, {size_text(total)},"
        f" with the entries of {counted(logs, 'log')}"
    )
    for one in expired:
        print_note(f"  {one.file}  {size_text(one.size)}")
    agreed = yes or click.confirm("Delete them?", err=True)
    if not agreed:
        print_note("nothing was deleted")
    return agreed


def _as_object(done: ArchiveResult) -> dict[str, Any]:
    from dataclasses import asdict

    values = asdict(done)
    for name in ("archived", "kept", "compacted", "days_kept"):
        values[name] = [one._asdict() for one in getattr(done, name)]
    values["deleted"] = [{"file": one.file, "archive_bytes": one.size, "logs": list(one.logs)} for one in done.deleted]
    values["log_bytes"] = sum(one.log_bytes for one in done.archived)
    values["archive_bytes"] = sum(one.archive_bytes for one in done.archived)
    return values


COMMANDS = (archive,)
