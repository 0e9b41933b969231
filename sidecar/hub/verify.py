"""Node against hub: a checksum of each file and day, of which both sides say the rows in the same words."""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Mapping
from typing import TYPE_CHECKING

from . import values
from .batch import HubCursor
from .feed import Feed, FeedCatalog, Log, Opens
from .values import FeedRow

if TYPE_CHECKING:
    from .target import HubTarget

# Times by their bits, so that no side's way to write a number matters.
WORDS = (
    "concat_ws('|', e.byte_offset, e.line_number, e.byte_length, e.checksum,"
    " encode(float8send(e.\"timestamp\"), 'hex'),"
    " coalesce(encode(float8send(e.answered_after), 'hex'), ''), e.response, k.event_type, k.pattern,"
    " k.is_completion::int, k.is_request::int, k.requests_response::int, k.has_author::int, k.addressees, k.self_place,"
    " c.session, c.initiating_agent, c.conversation, p.agents, p.roles, coalesce(e.correlation, ''))"
)

Sums = dict[tuple[str, str], tuple[int, int]]
"""By file and day: the number of rows, and the sum of their checksums."""


def checksum(row: FeedRow) -> int:
    """The checksum of a row of the node, as the hub makes it of `WORDS`."""
    kind, after = row.kind, row.answered_after
    words = (
        *(row.byte_offset, row.line_number, row.byte_length, row.checksum, struct.pack(">d", row.timestamp).hex()),
        *("" if after is None else struct.pack(">d", after).hex(), row.response, kind.event_type, kind.pattern),
        *(int(kind.is_completion), int(kind.is_request), int(kind.requests_response), int(kind.has_author)),
        *(kind.addressees, kind.self_place, *row.context, *row.party, row.correlation or ""),
    )
    text = "|".join(map(str, words))
    return int(hashlib.md5(text.encode(), usedforsecurity=False).hexdigest()[:8], 16)


def sums_here(feed: Feed, catalog: FeedCatalog, log: Log, upto: Mapping[str, int]) -> Sums:
    """The sums of a log's files, of the rows before the bytes `upto`, by file. Within a transaction of the catalog."""
    found: Sums = {}
    for file in log.files:
        path = values.name(file.path)
        opens = Opens(catalog, log, file)
        for name in catalog.days() if upto.get(path) else ():
            day = feed.day(name)
            number = day.number(file.path) if day is not None else None
            if day is None or number is None:
                continue
            count = total = 0
            for row in day.rows(number, 0, upto[path], opens):
                count += 1
                total += checksum(row)
            if count:
                found[path, name] = (count, total)
    return found


def differing(
    feed: Feed, catalog: FeedCatalog, target: HubTarget, logs: Mapping[str, tuple[Log, list[HubCursor]]]
) -> dict[str, str]:
    """Those of some logs of which the hub has other rows than the node, up to the hub's cursors, by path, and the file
    and the days that differ. Each comes with its files at the hub."""
    paths = {file.id: (files[0].path, file.path) for _, files in logs.values() for file in files}
    there: dict[str, Sums] = {path: {} for path in logs}
    for source, day, count, total in target.sums(list(paths), WORDS):
        of_log, path = paths[source]
        there[of_log][path, day] = (count, total)
    found = {}
    for path, (log, files) in logs.items():
        upto = {file.path: file.offset for file in files}
        with catalog.in_one_state():
            here = sums_here(feed, catalog, log, upto)
        read = {values.name(file.path): file.offset for file in log.files}
        ahead = [file.path for file in files if file.offset > read.get(file.path, 0)]
        here = {key: value for key, value in here.items() if key[1] not in target.closed}
        wrong = sorted(key for key in here.keys() | there[path].keys() if here.get(key) != there[path].get(key))
        if ahead:
            found[path] = f"{ahead[0]}: the hub has more of it than the node"
        elif wrong:
            found[path] = f"{wrong[0][0]}: {', '.join(day for _, day in wrong[:5])}"
    return found
