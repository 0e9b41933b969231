"""The commands `show` and `follow`: one entry, and entries as they come."""

from __future__ import annotations

import sys
from contextlib import closing
from typing import Any

import click

from .options import Command, GlobalOptions, as_object, filter_options, json_option, local_option, print_json
from .values import ids_of_entries


@click.command(
    cls=Command,
    epilog="""\b
Examples:
  sidecar show sess_abc123:0
  sidecar show sess_abc123:0 --json | jq .record
""",
)
@click.argument("id_", metavar="ID", shell_complete=ids_of_entries())
@local_option
@json_option
@click.pass_obj
def show(options: GlobalOptions, id_: str, local: bool, as_json: bool) -> None:
    """Print the record behind an entry, and what is known of it.

    ID is in the last column of a timeline; as much of it is enough as no other entry has, and an id that a table has
    shortened to `sess_…:0` will do. If two files have the id, give `<file path>:<byte offset>` instead.
    """
    from sidecar.query.names import find_entry
    from sidecar.terminal import print_note

    with closing(options.open_index()) as index:
        entry = find_entry(index, id_)
        if id_ not in (entry.id, f"{entry.file_path}:{entry.byte_offset}"):
            print_note(f"entry {entry.id}")
        record = index.read(entry)
    if as_json:
        print_json({"entry": as_object(entry), "record": record})
    else:
        from sidecar.terminal import Screen

        from . import query_views

        query_views.shown(Screen(local), entry, record)


@click.command(
    cls=Command,
    epilog="""\b
Examples:
  sidecar follow
  sidecar follow --agent agent_analyzer --json | jq -r .event_type
""",
)
@filter_options
@local_option
@json_option
@click.pass_obj
def follow(options: GlobalOptions, filters: dict[str, Any], local: bool, as_json: bool) -> None:
    """Print new entries as they are indexed, until ctrl-C. Needs a running sidecar."""
    from sidecar.terminal import Screen

    from . import query_views

    with closing(options.open_index()) as index:
        screen = Screen(local)
        for entry in index.follow(**filters):
            if as_json:
                print_json(as_object(entry))
            else:
                query_views.followed(screen, entry)
            sys.stdout.flush()


COMMANDS = (show, follow)
