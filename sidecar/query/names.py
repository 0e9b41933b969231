"""Names as people type them: whole, in part, as shortened in a table, or misspelt.

Agents, event types and patterns have names, which have to be given whole. Sessions, conversations, correlations and
entries have ids, of which the beginning is enough if no other id begins with it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Iterator
from contextlib import suppress
from difflib import get_close_matches
from itertools import islice
from typing import Any, Literal

from sidecar.errors import AmbiguousId, EntryNotFound, UnknownName
from sidecar.records import Entry

from .arguments import as_indexed
from .index import Index

Kind = Literal["agent", "session", "conversation", "correlation", "event_type", "pattern"]

SHORTENED = "…"
"""Stands for the middle of an id for which a table has no room."""

RECENT_ENTRIES = 20_000
"""Latest entries that are searched for names of kinds that the index cannot list: it only looks up whole names of
them."""

MAX_COMPARED = 50_000
"""Names that a misspelt one is compared with, at most."""

MAX_LISTED = 3
"""Names that are suggested, at most."""

MAX_LOGS = 100
"""Logs that are searched for an entry whose id is given in part, at most."""

_COLUMNS = {"conversation": "conversation_id", "correlation": "correlation_id"}
_IDS = ("session", "conversation", "correlation")
_UNKNOWN = {
    "agent": "no agent is named {!r}",
    "session": "no session has the id {!r}",
    "conversation": "no conversation has the id {!r}",
    "correlation": "no entry has the correlation {!r}",
    "event_type": "no entry has the event type {!r}",
    "pattern": "no entry has the pattern {!r}",
}
_LISTS = {"agent": "sidecar query agents", "session": "sidecar query sessions"}


def resolve(index: Index, kind: Kind, text: str) -> str:
    """`text`, as the index has it, if it is a name there; else the only id that it stands for, in part or shortened.

    Raises UnknownName, which suggests similar names, and AmbiguousId. Of conversations and correlations, only the ids
    in the latest RECENT_ENTRIES entries are considered.
    """
    whole = as_indexed(text, kind)
    if is_known(index, kind, whole):
        return whole
    known = known_names(index, kind)
    if kind in _IDS or SHORTENED in text:
        found = [name for name in known if is_meant(text, name)]
        if len(found) > 1:
            raise AmbiguousId(f"{text!r} is part of the ids {_listed(found)}", hint="give more of it")
        if found:
            return found[0]
    raise UnknownName(_UNKNOWN[kind].format(text), hint=_hint(text, known, _LISTS.get(kind, "sidecar query timeline")))


def is_known(index: Index, kind: Kind, text: str) -> bool:
    """Whether any entry has this name."""
    filters: dict[str, Any] = {kind: text}
    return next(index.timeline(**filters, limit=1), None) is not None


def known_names(index: Index, kind: Kind, recent: int = RECENT_ENTRIES) -> list[str]:
    """The names of a kind: of agents and sessions all; of others those in the latest `recent` entries, latest first."""
    if kind == "agent":
        return [one.agent for one in index.agents()]
    if kind == "session":
        return [one.session_id for one in index.sessions()]
    column = _COLUMNS.get(kind, kind if kind != "pattern" else "pattern_type")
    return list(dict.fromkeys(name for entry in _latest(index, recent) if (name := getattr(entry, column))))


def is_meant(text: str, name: str) -> bool:
    """Whether `text` is the beginning of the name, or the name with its middle left out."""
    beginning, _, end = text.partition(SHORTENED)
    return len(name) >= len(beginning) + len(end) and name.startswith(beginning) and name.endswith(end)


def nearest(text: str, names: Iterable[str]) -> list[str]:
    """The names most like `text`, ignoring case: those with similar letters, then those that contain it."""
    folded = {name.casefold(): name for name in islice(names, MAX_COMPARED)}
    similar = get_close_matches(text.casefold(), folded, MAX_LISTED)
    around = (one for one in folded if text.casefold() in one)
    return [folded[one] for one in dict.fromkeys([*similar, *islice(around, MAX_LISTED)])][:MAX_LISTED]


# ---- entries


def find_entry(index: Index, text: str) -> Entry:
    """The entry whose id is `text`, begins with it, or was shortened to it. Raises the errors of `Index.get`."""
    try:
        return index.get(text)
    except EntryNotFound:
        found = list(islice(_entries_meant(index, text), MAX_LISTED + 1))
        if len(found) > 1:
            raise AmbiguousId(
                f"{text!r} is part of the ids {_listed([one.id for one in found])}", hint="give more of it"
            ) from None
        if found:
            return found[0]
        recent = [entry.id for entry in _latest(index, RECENT_ENTRIES)]
        hint = _hint(text, recent, "sidecar query timeline")
        raise EntryNotFound(f"no entry has the id {text!r}", hint=hint) from None


def _entries_meant(index: Index, text: str) -> Iterator[Entry]:
    """Entries whose id `text` may stand for. What comes before the `:` may be given in part; the offset too, if that is
    whole."""
    name, colon, offset = text.rpartition(":")
    named = name if colon and offset.isdecimal() else text
    logs = ((stem, entries) for stem, entries in _logs(index).items() if is_meant(named, stem) or stem == name)
    for stem, entries in islice(logs, MAX_LOGS):
        if entries > 1 and (named == text or stem == name):
            yield from (entry for entry in index.timeline(session=stem) if is_meant(text, entry.id))
            continue
        with suppress(EntryNotFound):
            yield index.get(f"{stem}:{offset if named != text else 0}")


def _logs(index: Index) -> dict[str, int]:
    """What the ids of all logs begin with, each with its number of entries."""
    stems: Counter[str] = Counter()
    for source in index._files.of_catalog(lambda catalog: catalog.standing()):
        stems[source.stem] += source.entries
    return stems


# ---- messages


def _latest(index: Index, count: int) -> Iterator[Entry]:
    return index.timeline(reverse=True, limit=count)


def _hint(text: str, names: Collection[str], command: str) -> str:
    if not names:
        return "the index has no entries: see `sidecar status`"
    similar = nearest(text, names)
    return f"did you mean {' or '.join(f'`{name}`' for name in similar)}?" if similar else f"`{command}` lists them"


def _listed(names: list[str]) -> str:
    more = " …" if len(names) > MAX_LISTED else ""
    return ", ".join(names[:MAX_LISTED]) + more
