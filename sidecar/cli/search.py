"""The command `query search`."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from contextlib import closing
from itertools import islice
from typing import TYPE_CHECKING, Any, cast

import click

from .options import (
    GlobalOptions,
    Window,
    as_object,
    filter_options,
    json_option,
    local_option,
    print_json,
    resolved,
    window_options,
)
from .query import query
from .tools import chosen, tools_option

if TYPE_CHECKING:
    from sidecar.search.hit import Hit


@query.command(
    epilog="""\b
Examples:
  sidecar query search "rate limit" --since 2d
  sidecar query search timeout --agent agent_analyzer --limit 20
  sidecar query search 'error [45][0-9]{2}' --regex --json | jq -r .match
"""
)
@click.argument("text")
@window_options
@filter_options
@click.option("--regex", is_flag=True, help="TEXT is a regular expression, in Python's syntax.")
@click.option(
    "--context",
    type=click.IntRange(0, 1 << 20),
    default=60,
    metavar="N",
    help="Show N characters before and after the match. Default: 60.",
)
@tools_option(default=True)
@local_option
@json_option
@click.pass_obj
def search(
    options: GlobalOptions,
    text: str,
    window: Window,
    filters: dict[str, Any],
    regex: bool,
    context: int,
    tools: bool,
    local: bool,
    as_json: bool,
) -> None:
    """Find entries whose records have TEXT, latest first, whatever its case.

    The string values of each record are searched, as they read after decoding, but not its keys and numbers. The logs
    themselves are read, archived ones too. If some of them cannot be read, the rest is searched, and the exit status
    is 1. With --json, each entry also has the `place` in its record, and `before`, `match` and `after`.
    """
    from sidecar.terminal import Screen, print_note

    from .query_views import HitView

    unreadable: list[str] = []
    with closing(options.open_index()) as index:
        names: dict[str, Any] = {**window.span, **resolved(index, filters)}
        found = index.search(
            text,
            **names,
            regex=regex,
            context=context,
            unreadable=lambda error: unreadable.append(str(error)),
        )
        hits = cast("Iterator[Hit]", islice(chosen(found, tools), window.limit))
        if as_json:
            _print_lines(hits)
        else:
            HitView(Screen(local)).show(hits)
    for one in unreadable:
        print_note(f"not searched whole: {one}")
    if unreadable:
        raise click.exceptions.Exit(1)


def _print_lines(hits: Iterable[Hit]) -> None:
    """One object a hit, each as soon as it is found."""
    for hit in hits:
        print_json(as_object(hit))
        sys.stdout.flush()


COMMANDS = ()
"""Added to `query` above."""
