"""The commands `push` and `hub`: bring this machine's index to a hub, and take care of a hub."""

from __future__ import annotations

import signal
import sys
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from .archive import age_with_unit
from .options import Command, GlobalOptions, Group, json_option, print_json, print_json_lines

if TYPE_CHECKING:
    from sidecar.hub.push import Pusher


def _pusher(options: GlobalOptions, take_over: bool = False) -> Pusher:
    from sidecar.config.hub import NODE_EXPECTED, is_node
    from sidecar.errors import ConfigError
    from sidecar.hub.push import Pusher

    settings = replace(options, hub=None, node=None).settings_of_index()
    node = options.node or settings.hub.node
    if node is None:
        hint = "give --node NAME, or `hub: {node: ...}` in config.yaml"
        raise ConfigError("this machine has no name at the hub", hint=hint)
    if not is_node(node):
        raise ConfigError(f"--node: {NODE_EXPECTED}")
    return Pusher(settings.index_folder, options.hub_url(), node, read_from=settings.hub.read_from, take_over=take_over)


@click.command(
    cls=Command,
    epilog="""\b
Examples:
  sidecar push --hub postgresql://hub/sidecar --node build-17
  sidecar push --once               when `hub` in config.yaml has both
""",
)
@click.option("--once", is_flag=True, help="Return when the hub has all that is checkpointed now.")
@click.option("--take-over", is_flag=True, help="Push although another machine has pushed under this name.")
@json_option
@click.pass_obj
def push(options: GlobalOptions, once: bool, take_over: bool, as_json: bool) -> None:
    """Bring this machine's index to a hub, and go on until stopped.

    It only reads the index, and keeps nothing but a token there; how far it has come is known to the hub. It can be
    killed at any moment, and goes on where the hub is. With --json and --once, a summary object is printed.
    """
    from sidecar.terminal import counted, print_note

    with closing(_pusher(options, take_over)) as pusher:
        if once:
            rows = pusher.once()
            if as_json:
                print_json({"node": pusher.node, "rows": rows})
            else:
                print_note(f"{counted(rows, 'row')} pushed")
            return
        from sidecar.hub.following import follow_index

        def stop(*_: object) -> None:
            raise KeyboardInterrupt

        signal.signal(signal.SIGTERM, stop)
        try:
            follow_index(pusher, print_note)
        except KeyboardInterrupt:
            print_note("stopped")


@click.group(
    cls=Group,
    epilog="""\b
Examples:
  sidecar hub init --hub postgresql://hub/sidecar
  sidecar hub status                how far each machine is behind
""",
)
def hub() -> None:
    """Take care of a hub, the index of many machines.

    It is a database of PostgreSQL. The hub is named by --hub, or by `hub` in config.yaml.
    """


@hub.command("init")
@json_option
@click.pass_obj
def init_(options: GlobalOptions, as_json: bool) -> None:
    """Make the tables, views and roles of a hub in a database. What is there already stays."""
    from sidecar.hub import admin
    from sidecar.hub.link import place
    from sidecar.terminal import print_note

    url = options.hub_url()
    is_new = admin.init(url)
    if as_json:
        print_json({"hub": place(url), "new": is_new})
    else:
        print_note(f"{place(url)}: {'a new hub' if is_new else 'there is a hub already'}")


@hub.command("status")
@json_option
@click.pass_obj
def status_(options: GlobalOptions, as_json: bool) -> None:
    """Show how far each machine has pushed."""
    from sidecar.hub import admin

    nodes = [one for one in admin.status(options.hub_url()) if options.node in (None, one.node)]
    if as_json:
        print_json_lines(one._asdict() for one in nodes)
        return
    from sidecar.terminal import Column, Screen, duration_text, print_note

    def behind(seconds: float | None) -> str:
        return "never" if seconds is None else duration_text(seconds)

    columns = (
        Column("node", "bold"),
        Column("entries", right=True),
        Column("last push", right=True),
        Column("trouble"),
    )
    rows = [(one.node, f"{one.entries:,}", behind(one.behind_seconds), one.last_error or "") for one in nodes]
    if not Screen().table(columns, rows):
        print_note("no machine has pushed yet")


@hub.command("verify")
@click.option("--repair", is_flag=True, help="Send again what differs.")
@json_option
@click.pass_obj
def verify_(options: GlobalOptions, repair: bool, as_json: bool) -> None:
    """Compare this machine's index with its rows at the hub.

    Checksums of each log and day are compared. What the hub has not got yet is pushed before. Exits with 1 if anything
    differs, and was not repaired.
    """
    from sidecar.terminal import counted, print_note

    with closing(_pusher(options)) as pusher:
        found = pusher.verify(repair=repair)
    if as_json:
        print_json(found._asdict())
    else:
        for what in found.differ:
            print_note(f"differs: {what}")
        told = "" if not found.repaired else f", {counted(found.repaired, 'log')} sent again"
        print_note(f"{counted(found.entries, 'entry', 'entries')} compared, {len(found.differ)} logs differ{told}")
    if found.differ and not found.repaired:
        raise click.exceptions.Exit(1)


@hub.command(
    "drop",
    epilog="""\b
Example:
  sidecar hub drop --older-than 30d --export /srv/cold
""",
)
@click.option("--older-than", callback=age_with_unit, required=True, metavar="AGE", help="Drop days older than this.")
@click.option(
    "--export",
    type=click.Path(path_type=Path, file_okay=False),
    metavar="DIR",
    help="Write each day to Parquet files there before it goes.",
)
@click.option("--yes", is_flag=True, help="Delete without asking; required if there is no terminal.")
@json_option
@click.pass_obj
def drop_(options: GlobalOptions, older_than: float, export: Path | None, yes: bool, as_json: bool) -> None:
    """Delete the rows of old days, of all machines, from the hub. Nothing comes to such a day any more.

    The indexes of the machines stay. With --json, each day is one object.
    """
    from sidecar.hub import retention
    from sidecar.terminal import counted, print_note

    url = options.hub_url()
    days = retention.old_days(url, older_than)
    if not days:
        if not as_json:
            print_note("no day is that old")
        return
    entries = counted(sum(day.entries for day in days), "entry", "entries")
    copied = f"after an export to {export}" if export is not None else "without a copy"
    _agree(f"drop deletes {counted(len(days), 'day')} with {entries}, {copied}", yes)

    def report(day: retention.OldDay) -> None:
        if as_json:
            print_json(day._asdict())
        else:
            print_note(f"{day.day} is gone, with {counted(day.entries, 'entry', 'entries')}")

    retention.drop(url, days, export, report)


@hub.command("forget")
@click.argument("name", metavar="NODE")
@click.option("--yes", is_flag=True, help="Delete without asking; required if there is no terminal.")
@json_option
@click.pass_obj
def forget_(options: GlobalOptions, name: str, yes: bool, as_json: bool) -> None:
    """Delete a machine with all its rows from the hub. Its own index stays."""
    from sidecar.hub import admin
    from sidecar.terminal import counted, print_note

    url = options.hub_url()
    _agree(f"forget deletes all that the hub has of {name}", yes)
    entries = admin.forget(url, name)
    if as_json:
        print_json({"node": name, "entries": entries})
    else:
        print_note(f"{name} is forgotten, with {counted(entries, 'entry', 'entries')}")


def _agree(what: str, yes: bool) -> None:
    """Ask on the terminal; without one, only `--yes` agrees."""
    from sidecar.errors import ConfigError, SidecarError

    if yes:
        return
    if not sys.stdin.isatty():
        raise ConfigError(f"{what}, and there is no terminal to ask on", hint="add --yes")
    if not click.confirm(f"{what}. Go on?", err=True):
        raise SidecarError("nothing was deleted")


COMMANDS: tuple[Any, ...] = (push, hub)
