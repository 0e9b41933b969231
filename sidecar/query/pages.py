"""Pages of entries, bounded in characters as well as in rows.

A record may name as many participants as fit into a line, so a page of some hundred rows could take gigabytes.
Therefore long lists are left out of the query for a page, so that SQLite need not sort them, and read one by one as the
page is filled. A page ends when it has enough characters, or with the first entry that has a long list.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from sidecar.records import Entry
from sidecar.store.codec import decode_entry

FIRST_PAGE = 128
"""The number of rows of a first page. Each page after it has twice as many, up to `LARGEST_PAGE`."""
LARGEST_PAGE = 2048
PAGE_CHARACTERS = 1 << 20
"""A page ends when its lists of participants and sets of roles have more characters than this."""
LONG_LIST = 8192
"""From this many characters on, such a text is read by itself."""

_AGENTS = f"CASE WHEN LENGTH(p.agents) < {LONG_LIST} THEN p.agents ELSE p.id END"
"""SQL for the list of participants `p`, or its number if it is long. `_ROLES` is the same for the set of roles `o`."""
_ROLES = f"CASE WHEN LENGTH(o.roles) < {LONG_LIST} THEN o.roles ELSE o.id END"
NAMED = (
    "SELECT e.log || ':' || e.byte_offset, e.timestamp, t.text, n.text, e.path, e.line_number, e.byte_offset,"
    f" i.text, {_AGENTS}, {_ROLES}, a.text, v.text, r.text,"
    " k.is_completion, k.is_request, e.has_response, e.requests_response, k.has_author, k.addressees, k.self_place,"
    " e.answered_after, e.checksum FROM ({chosen}) e"
    " LEFT JOIN kind k ON k.id = e.kind LEFT JOIN name t ON t.id = k.event_type LEFT JOIN name a ON a.id = k.pattern"
    " LEFT JOIN context c ON c.id = e.context LEFT JOIN name n ON n.id = c.session"
    " LEFT JOIN name i ON i.id = c.initiating_agent LEFT JOIN name v ON v.id = c.conversation"
    " LEFT JOIN party p ON p.id = e.party LEFT JOIN role_set o ON o.id = e.roles"
    " LEFT JOIN correlation r ON r.id = e.correlation ORDER BY {order}"
)
"""SQL for the rows that `page_of` takes, of entries that are `chosen`. The joins are outer joins, so that a number that
leads nowhere is reported as damage and does not hide the entry."""

_AGENTS_AT, _ROLES_AT = 8, 9
"""The positions of the two in a row."""


class Page(NamedTuple):
    """Some entries, in order."""

    entries: list[Entry]
    is_whole: bool
    """Whether the page has all of the rows; false if it ended early."""


def page_of(rows: Iterator[tuple[Any, ...]], long_list: Callable[[str, int], Any]) -> Page:
    """The entries of the first rows, up to the bound. `long_list` returns the text of a `party` or a `role_set`, the
    name of its table and its number being given. Raises the errors of `decode_entry` and `long_list`."""
    entries: list[Entry] = []
    characters = 0
    for row in rows:
        agents, roles = row[_AGENTS_AT], row[_ROLES_AT]
        if agents.__class__ is int or roles.__class__ is int:
            if agents.__class__ is int:
                agents = long_list("party", agents)
            if roles.__class__ is int:
                roles = long_list("role_set", roles)
            entries.append(decode_entry((*row[:_AGENTS_AT], agents, roles, *row[_ROLES_AT + 1 :])))
            return Page(entries, next(rows, None) is None)
        entries.append(decode_entry(row))
        characters += len(agents) + len(roles)
        if characters > PAGE_CHARACTERS:
            return Page(entries, next(rows, None) is None)
    return Page(entries, is_whole=True)
