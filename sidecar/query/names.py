"""Names as people type them: whole, by their beginning, as a table has shortened them, or with a slip of the finger.

Agents, event types and patterns have names, which have to be whole. Sessions, conversations, correlations and entries
have ids, of which as much is enough as no other has.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Iterator
from contextlib import suppress
from difflib import get_close_matches
from itertools import islice
from typing import Any, Literal

from sidecar.errors import AmbiguousId, EntryNotFound, UnknownName
from sidecar.fs import split_path
from sidecar.records import Entry

from .index import Index

Kind = Literal["agent", "session", "conversation", "correlation", "event_type", "pattern"]

SHORTENED = "…"
"""Stands for the middle of an id that a table has no room for."""

RECENT_ENTRIES = 20_000
"""Latest entries in which names are looked for that no list of the index has: it says of a string at once whether it
is there, and only with a walk which others are."""

MAX_COMPARED = 50_000
"""Names that a misspelt one is compared with."""

MAX_LISTED = 3
"""Names that are suggested."""

MAX_LOGS = 100
"""Logs in which an entry is looked for whose id was given in part."""

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
    """The name that is meant by `text`: itself, if the index has it; else the only id that it is a part of.

    Raises UnknownName, which suggests the nearest, and AmbiguousId. Both have looked for ids, but for those of
    sessions, in the latest RECENT_ENTRIES alone.
    """
    if is_known(index, kind, text):
        return text
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
    """Names of a kind: all agents and sessions; of others, those in so many of the latest entries, the latest first."""
    if kind == "agent":
        return [one.agent for one in index.agents()]
    if kind == "session":
        return [one.session_id for one in index.sessions()]
    column = _COLUMNS.get(kind, kind if kind != "pattern" else "pattern_type")
    return list(dict.fromkeys(name for entry in _latest(index, recent) if (name := getattr(entry, column))))


def is_meant(text: str, name: str) -> bool:
    """Whether `text` is the beginning of a name, or the name without its middle."""
    beginning, _, end = text.partition(SHORTENED)
    return len(name) >= len(beginning) + len(end) and name.startswith(beginning) and name.endswith(end)


def nearest(text: str, names: Iterable[str]) -> list[str]:
    """The names most like `text`, without regard to case: those of similar letters, then those that it is in."""
    folded = {name.casefold(): name for name in islice(names, MAX_COMPARED)}
    similar = get_close_matches(text.casefold(), folded, MAX_LISTED)
    around = (one for one in folded if text.casefold() in one)
    return [folded[one] for one in dict.fromkeys([*similar, *islice(around, MAX_LISTED)])][:MAX_LISTED]


# ---- entries


def find_entry(index: Index, text: str) -> Entry:
    """The entry whose id is `text`, or begins with it, or was shortened to it. Raises as `Index.get`."""
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
    """Entries whose id `text` is a part of: in session logs by any part, elsewhere with the offset given whole."""
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
    """The stems of all logs, which ids begin with, and how many entries each has."""
    stems: Counter[str] = Counter()
    for path, *_, entries in index._files.of_catalog(lambda catalog: catalog.sources()):
        stems[split_path(path)[1]] += entries
    return stems


# ---- the words of it


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
