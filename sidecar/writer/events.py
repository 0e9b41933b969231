"""Event files, one per event: `events/<UTC day>/evt_<seconds>_<type>.json`. And routing of messages and completions.

`handle_completion_event` and `route_message` are the integration points of the reference, which get the daemon's
functions as arguments.
"""

from __future__ import annotations

import asyncio
import os
import re
import time
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from random import randint
from typing import Any
from uuid import uuid4

from sidecar.errors import InvalidRecord

from .queue import ResponseLogWriter
from .record import Place, detect_communication_pattern, encode, stamped
from .session import sync_folder, write_refused

_UNSAFE = re.compile(r"[^A-Za-z0-9._-]")
_MAX_TYPE = 150
"""Characters of the event type in a file name."""
_MILLISECONDS = 10**11
"""A timestamp from here on is not in seconds but in a smaller unit."""


def write_event(root: str | os.PathLike[str], record: dict[str, Any], *, fsync: bool = False) -> Place:
    """Write an event to a file of its own, and return its place. With `fsync` it then survives a power failure.

    The file appears under its name whole or not at all, and no two events get the same name, whatever processes write.
    The day and the seconds (with six decimals) are those of the record's `timestamp` if that is a number of seconds,
    else those of the clock. If the name is taken, the seconds in it are increased by some microseconds; the record
    stays the same. In the event type, characters other than letters, digits, `.`, `_` and `-` become `_`.

    Raises InvalidRecord before a file is created, and WriterError if the system refuses to write. Crash window: a kill
    can leave a file `.tmp-...`, which no source matches; the event file is whole or does not exist.
    """
    record = stamped(record)
    line = encode(record)
    micros = round(_seconds(record["timestamp"]) * 10**6)
    day = datetime.fromtimestamp(micros // 10**6, UTC).strftime("%Y-%m-%d")
    event_type = _UNSAFE.sub("_", record["event"])[:_MAX_TYPE]
    folder = Path(root, "events", day)
    temporary = folder / f".tmp-{uuid4().hex}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        _write_whole(temporary, line, fsync)
        name = _link(temporary, folder, micros, event_type)
        if fsync:
            for each in (folder, *folder.parents[:2]):
                sync_folder(each)
    except OSError as error:
        raise write_refused(folder, error) from error
    finally:
        with suppress(OSError):
            temporary.unlink()
    return Place(f"events/{day}/{name}", 1, 0)


def _seconds(timestamp: object) -> float:
    """The timestamp if it is a number of seconds, else the time of the clock."""
    if isinstance(timestamp, int | float) and not isinstance(timestamp, bool) and 0 <= timestamp < _MILLISECONDS:
        return timestamp
    return time.time()


def _write_whole(path: Path, line: bytes, fsync: bool) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
    try:
        written = 0
        # No reader knows this name, so the rest may follow in another call.
        while written < len(line):
            written += os.write(fd, line[written:])
        if fsync:
            os.fsync(fd)
    finally:
        os.close(fd)


def _link(temporary: Path, folder: Path, micros: int, event_type: str) -> str:
    """Give the file its name, by a link: unlike a rename, it fails if the name is taken."""
    step = 1
    while True:
        name = f"evt_{micros // 10**6}.{micros % 10**6:06d}_{event_type}.json"
        try:
            os.link(temporary, folder / name)
            return name
        except FileExistsError:
            # Random, with steps that double, so that even a thousand events of one moment need few tries.
            micros += randint(1, step)
            step *= 2


# ---- routing

COMPLETION_PATTERNS = frozenset({"peer_to_peer", "team", "broadcast"})
"""Messages of these patterns ask for an answer, so they become completion requests."""
EmitEvent = Callable[[str, dict[str, Any]], Awaitable[object]]
"""Called with an event type and the data of the event."""
StoreEvent = Callable[[dict[str, Any]], Awaitable[object]]
"""Called with a record."""


async def handle_completion_event(
    event_name: str,
    data: Mapping[str, Any],
    context: Mapping[str, Any],
    *,
    response_writer: ResponseLogWriter,
) -> asyncio.Future[Place]:
    """Queue a completion event as a record, with `context` as its metadata. The result of the future is its place.

    The data of a `completion:request` get the context's `agent_id`, if it has one, and a communication pattern. Raises
    what `ResponseLogWriter.queue_completion_event` raises.
    """
    data, metadata = dict(data), dict(context)
    if event_name == "completion:request":
        if metadata.get("agent_id"):
            data["agent_id"] = metadata["agent_id"]
        data["pattern"] = detect_communication_pattern(data, metadata)
    return await response_writer.queue_completion_event({"event": event_name, "data": data, "metadata": metadata})


async def route_message(message: Mapping[str, Any], *, emit_event: EmitEvent, store_event: StoreEvent) -> str:
    """Pass a message on, and return its communication pattern.

    A message to one peer, to a team or to all (COMPLETION_PATTERNS) is passed to `emit_event("completion:request",
    data)`, where `data` is the message with its `content` as `prompt`, and the pattern. Any other is passed to
    `store_event` as a record: the message itself if it has an `event`, else an `agent:message` with the message as
    `data`. For `store_event`, `write_event` can be called in a thread.

    Raises InvalidRecord for a message to be answered that has no `content`.
    """
    data = dict(message)
    pattern = detect_communication_pattern(data)
    if pattern in COMPLETION_PATTERNS:
        if "content" not in data:
            raise InvalidRecord("the message has no content", hint="put the text of the message under `content`")
        await emit_event("completion:request", {"prompt": data.pop("content"), **data, "pattern": pattern})
    else:
        await store_event(data if "event" in data else {"event": "agent:message", "data": data})
    return pattern
