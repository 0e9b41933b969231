"""Values for shell completion: names and ids in the index, presets, folders. It never fails, and prints no messages."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

import click
from click.shell_completion import CompletionItem

if TYPE_CHECKING:
    from sidecar.query.index import Index
    from sidecar.query.names import Kind

Completer = Callable[[click.Context, click.Parameter, str], list[CompletionItem]]

MAX_COMPLETED = 200
"""The largest number of values to offer, because a shell lists them all."""

RECENT_ENTRIES = 2_000
"""How many of the latest entries are searched for names and ids, because completion must not take long."""

_SAFE = re.compile(r"[\w.:@+=/][\w.:@+=/-]*")
"""Names without characters that are special in a shell. Only these are offered, because a shell inserts a completed
value without quoting it."""


def names_of(kind: Kind) -> Completer:
    """A completer for names of a kind."""

    def known(index: Index) -> Iterable[str]:
        from sidecar.query.names import known_names

        return known_names(index, kind, RECENT_ENTRIES)

    return _of_index(known)


def ids_of_entries() -> Completer:
    """A completer for ids of the latest entries."""
    return _of_index(lambda index: (entry.id for entry in index.timeline(reverse=True, limit=RECENT_ENTRIES)))


def presets(_ctx: click.Context, _param: click.Parameter, beginning: str) -> list[CompletionItem]:
    """The names of the presets that begin with what has been typed."""
    from sidecar.config.formats import read_packaged

    return _beginning_with(beginning, read_packaged("presets").mapping())


def folders(_ctx: click.Context, _param: click.Parameter, beginning: str) -> list[CompletionItem]:
    """Let the shell itself complete the names of folders."""
    return [CompletionItem(beginning, type="dir")]


def _of_index(known: Callable[[Index], Iterable[str]]) -> Completer:
    def complete(ctx: click.Context, _param: click.Parameter, beginning: str) -> list[CompletionItem]:
        from contextlib import closing

        from sidecar.errors import SidecarError

        try:
            # GlobalOptions, which the outermost command has made.
            with closing(ctx.obj.open_index()) as index:
                return _beginning_with(beginning, known(index))
        except (SidecarError, OSError):
            return []

    return complete


def _beginning_with(beginning: str, names: Iterable[str]) -> list[CompletionItem]:
    found = [name for name in names if name.startswith(beginning) and _SAFE.fullmatch(name)]
    return [CompletionItem(name) for name in found[:MAX_COMPLETED]]
