"""The commands about single entries: show, follow."""

from __future__ import annotations

import sys
from contextlib import closing
from typing import Any

import click

from .options import Given, as_object, filter_options, json_option, print_json


@click.command(
    epilog="""\b
Examples:
  sidecar show sess_abc123:0
  sidecar show sess_abc123:0 --json | jq .record
"""
)
@click.argument("id_", metavar="ID")
@json_option
@click.pass_obj
def show(given: Given, id_: str, as_json: bool) -> None:
    """The record behind an entry, and what the index knows of it.

    ID stands at the end of each line of a timeline. Where several files have it, give `<file path>:<byte offset>`.
    """
    with closing(given.index()) as index:
        entry = index.get(id_)
        record = index.read(entry)
    if as_json:
        print_json({"entry": as_object(entry), "record": record})
    else:
        from sidecar.terminal import Screen

        from . import query_views as screens

        screens.shown(Screen(), entry, record)


@click.command(
    epilog="""\b
Examples:
  sidecar follow
  sidecar follow --agent agent_analyzer --json | jq -r .event_type
"""
)
@filter_options
@json_option
@click.pass_obj
def follow(given: Given, /, as_json: bool, **filters: Any) -> None:
    """New entries as they come into the index, until ctrl-C. A sidecar has to run beside it."""
    from sidecar.terminal import Screen

    from . import query_views as screens

    with closing(given.index()) as index:
        screen = Screen()
        for entry in index.follow(**filters):
            if as_json:
                print_json(as_object(entry))
            else:
                screens.followed(screen, entry)
            sys.stdout.flush()


COMMANDS = (show, follow)
