"""What a shell may complete: names and ids that the index has, presets, folders. It never fails, and says nothing."""

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
"""Values offered at most: a shell lists all of them."""

RECENT_ENTRIES = 2_000
"""Latest entries whose ids and names are offered: somebody waits for the answer, between two keys."""

_SAFE = re.compile(r"[\w.:@+=/][\w.:@+=/-]*")
"""Names that mean nothing else to a shell. It would put any other into the command line just as a stranger wrote it."""


def names_of(kind: Kind) -> Completer:
    """Offers names of a kind."""

    def known(index: Index) -> Iterable[str]:
        from sidecar.query.names import known_names

        return known_names(index, kind, RECENT_ENTRIES)

    return _of_index(known)


def ids_of_entries() -> Completer:
    """Offers ids of the latest entries."""
    return _of_index(lambda index: (entry.id for entry in index.timeline(reverse=True, limit=RECENT_ENTRIES)))


def presets(_ctx: click.Context, _param: click.Parameter, beginning: str) -> list[CompletionItem]:
    """Offers the names of the presets."""
    from sidecar.config.formats import read_packaged

    return _beginning_with(beginning, read_packaged("presets").mapping())


def folders(_ctx: click.Context, _param: click.Parameter, beginning: str) -> list[CompletionItem]:
    """Leaves it to the shell to offer folders."""
    return [CompletionItem(beginning, type="dir")]


def _of_index(known: Callable[[Index], Iterable[str]]) -> Completer:
    def complete(ctx: click.Context, _param: click.Parameter, beginning: str) -> list[CompletionItem]:
        from contextlib import closing

        from sidecar.errors import SidecarError

        try:
            with closing(ctx.obj.open_index()) as index:  # GlobalOptions, which the outermost command has made
                return _beginning_with(beginning, known(index))
        except (SidecarError, OSError):
            return []

    return complete


def _beginning_with(beginning: str, names: Iterable[str]) -> list[CompletionItem]:
    found = [name for name in names if name.startswith(beginning) and _SAFE.fullmatch(name)]
    return [CompletionItem(name) for name in found[:MAX_COMPLETED]]
