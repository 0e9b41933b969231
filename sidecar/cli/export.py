"""The commands `export` and `datasette-metadata`: the index for other programs, as files."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from .options import Command, GlobalOptions, Window, json_option, local_option, print_json, window_times

if TYPE_CHECKING:
    from sidecar.export.entry_files import FileKind

_F = TypeVar("_F", bound=Callable[..., Any])


def _kind(name: str) -> FileKind:
    from sidecar.export.entry_files import CSV, JSONL, PARQUET
    from sidecar.export.otlp import OTLP

    return {"parquet": PARQUET, "jsonl": JSONL, "csv": CSV, "otlp_json": OTLP}[name]


def _into(option: str, text: str) -> Callable[[_F], _F]:
    return click.option(option, type=click.Path(file_okay=False, path_type=Path), metavar="DIR", help=text)


@click.command(
    cls=Command,
    epilog="""\b
Examples:
  sidecar export --parquet out      out/day=2024-12-29/entries.parquet
  sidecar export --csv out --since 7d
  sidecar export --otlp-json spans  answered requests, as spans
""",
)
@_into("--parquet", "Write entries as Parquet (needs pyarrow).")
@_into("--jsonl", "Write entries as JSON Lines.")
@_into("--csv", "Write entries as CSV.")
@_into("--otlp-json", "Write answered requests as OpenTelemetry spans.")
@window_times
@local_option
@json_option
@click.pass_obj
def export(options: GlobalOptions, /, window: Window, local: bool, as_json: bool, **given: Path | None) -> None:  # noqa: ARG001
    """Write the index as files for other programs, one a day.

    Each entry has the 17 columns of the reference, and `author`, `addressees` and `answered_after`. A file is there
    whole, or not at all. If it is exported again, a day that has not changed is not written again.
    """
    from sidecar.errors import ConfigError
    from sidecar.progress import ProgressBar
    from sidecar.terminal import counted, print_note, size_text

    folders = {name: folder for name, folder in given.items() if folder is not None}
    if not folders:
        raise click.UsageError("say what to write: --parquet, --jsonl, --csv or --otlp-json, each with a folder")
    if options.hub is not None:
        hint = "leave --hub out, and run it on each machine"
        raise ConfigError("export reads the index of a root, not a hub", hint=hint)
    from sidecar.export.days import export as days_of

    found: list[dict[str, Any]] = []
    with closing(options.open_index()) as index, ProgressBar() as progress:
        for name, folder in folders.items():
            for one in days_of(index, folder, _kind(name), window.since, window.until, progress):
                size = one.path.stat().st_size
                found.append({"day": one.day, "path": str(one.path), "bytes": size, "written": one.is_written})
    written = [one for one in found if one["written"]]
    if as_json:
        print_json({"files": found, "written": len(written)})
    else:
        total = size_text(sum(one["bytes"] for one in written))
        same = counted(len(found) - len(written), "day is", "days are")
        print_note(f"{counted(len(written), 'file')} written, {total}; {same} as before")


@click.command(
    "datasette-metadata",
    cls=Command,
    epilog="""\b
Example:
  sidecar datasette-metadata 2024-12-29 > metadata.json
  datasette -i var/logs/index/daily/2024-12-29.db -m metadata.json
""",
)
@click.argument("days", nargs=-1, metavar="[DAY]...")
@click.pass_obj
def datasette_metadata(options: GlobalOptions, days: tuple[str, ...]) -> None:
    """Print metadata for Datasette, to open daily files with: descriptions, facets, and ready questions.

    Without a DAY (YYYY-MM-DD), for every day in the index.
    """
    from sidecar.export.datasette import metadata

    if not days:
        with closing(options.open_index()) as index:
            days = tuple(index.days())
    click.echo(json.dumps(metadata(days), indent=2))


COMMANDS = (export, datasette_metadata)
