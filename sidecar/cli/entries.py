"""The commands `show` and `follow`: one entry, and new entries as they are indexed."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from contextlib import closing
from typing import TYPE_CHECKING, Any

import click

from .options import (
    Command,
    GlobalOptions,
    as_object,
    filter_options,
    json_option,
    local_option,
    print_json,
    resolved,
)
from .tools import chosen, tools_option
from .values import ids_of_entries

if TYPE_CHECKING:
    from pathlib import Path

    from sidecar.query.index import Index
    from sidecar.records import Entry


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
    """Print an entry, and the record that it points to.

    ID is in the last column of a timeline. Its beginning is enough if no other id has the same, and so is an id that a
    table has shortened to `sess_…:0`. If two files have the same id, give `<file path>:<byte offset>` instead.
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
  sidecar follow --text --agent agent_analyzer
  sidecar follow --json | jq -r .event_type
""",
)
@filter_options
@click.option("--text", is_flag=True, help="Also show what was said, which is read from the log.")
@tools_option(default=True)
@local_option
@json_option
@click.pass_obj
def follow(
    options: GlobalOptions, filters: dict[str, Any], text: bool, tools: bool, local: bool, as_json: bool
) -> None:
    """Print new entries as they are indexed, until ctrl-C.

    Needs a running sidecar, and says so if there is none. With --json and --text, each entry includes its `text`.
    """
    from sidecar.terminal import Screen, print_note

    from . import query_views

    with closing(options.open_index()) as index:
        filters = _meant(index, filters)
        view = query_views.FollowView(Screen(local), index if text else None)
        # What comes to a hub does not depend on a sidecar of this machine.
        watch = None if options.hub is not None else _SidecarWatch(options.settings().index_folder, print_note).look
        for entry in chosen(index.follow(**filters, stop=watch), tools):
            if as_json:
                print_json({**as_object(entry), **({"text": _text(index, entry)} if text else {})})
            else:
                view.show(entry)
            sys.stdout.flush()


def _meant(index: Index, filters: dict[str, Any]) -> dict[str, Any]:
    """The filters with complete names. An unknown name is printed on stderr and kept, because its entries may be yet to
    come."""
    from sidecar.errors import IndexUnavailable, UnknownName
    from sidecar.terminal import print_note

    found: dict[str, Any] = {}
    for kind, name in filters.items():
        try:
            found |= resolved(index, {kind: name})
        except UnknownName as error:
            print_note(f"{error} yet; waiting for it. {error.hint}")
            found[kind] = name
        except IndexUnavailable:
            found[kind] = name
    return found


def _text(index: Index, entry: Entry) -> str | None:
    """The text of an entry; None if its record cannot be read."""
    from sidecar.errors import SourceError

    try:
        return index.text(entry)
    except SourceError:
        return None


class _SidecarWatch:
    """Prints a note when there is no running sidecar, so that no new entries can come, and when there is one again."""

    INTERVAL = 2.0
    """Seconds between two checks."""

    def __init__(self, index_folder: Path, note: Callable[[str], None]) -> None:
        self._folder = index_folder
        self._note = note
        self._is_running = True
        self._next = 0.0

    def look(self) -> bool:
        """Check, if it is time to. Called between two polls for entries; always false, so that following goes on."""
        from sidecar.service.lock import lock_holder

        now = time.monotonic()
        if now >= self._next:
            self._next = now + self.INTERVAL
            is_running = lock_holder(self._folder) is not None
            if is_running != self._is_running:
                self._is_running = is_running
                self._note(
                    "a sidecar is running again"
                    if is_running
                    else "no sidecar is running: nothing new comes until `sidecar run`"
                )
        return False


COMMANDS = (show, follow)
