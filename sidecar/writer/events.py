"""One event, one file: `events/<UTC day>/evt_<seconds>_<type>.json`; and where messages and completions go.

The router is the reference's integration points with their parts passed in.
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
_LONGEST_TYPE = 150
_MILLISECONDS = 10**11
"""From here on a number counts something smaller than seconds."""


def write_event(root: str | os.PathLike[str], record: dict[str, Any], *, fsync: bool = False) -> Place:
    """Write an event to a file of its own, and say where it is. With `fsync` it then survives a power failure.

    The file appears under its name whole or not at all, and no two events share a name, whatever processes write. Day
    and seconds (with six digits behind the point) are those of the record's `timestamp` where that is a number of
    seconds, else of the clock; an event whose name is taken moves on by some microseconds, in its name only.

    Raises InvalidRecord before a file is made, WriterError where the system refuses one. Crash window: killed between
    its two names, or before the second, it leaves a file `.tmp-...` that no source matches; the event is there, or is
    not, as the second name tells.
    """
    record = stamped(record)
    line = encode(record)
    micros = round(_seconds(record["timestamp"]) * 10**6)
    day = datetime.fromtimestamp(micros // 10**6, UTC).strftime("%Y-%m-%d")
    kind = _UNSAFE.sub("_", record["event"])[:_LONGEST_TYPE]
    folder = Path(root, "events", day)
    temporary = folder / f".tmp-{uuid4().hex}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        _write_whole(temporary, line, fsync)
        name = _link(temporary, folder, micros, kind)
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
    """The timestamp, or the clock's where it is no number of seconds."""
    if isinstance(timestamp, int | float) and not isinstance(timestamp, bool) and 0 <= timestamp < _MILLISECONDS:
        return timestamp
    return time.time()


def _write_whole(path: Path, line: bytes, fsync: bool) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
    try:
        written = 0
        while written < len(line):  # nobody sees this name, so the rest may follow in a second call
            written += os.write(fd, line[written:])
        if fsync:
            os.fsync(fd)
    finally:
        os.close(fd)


def _link(temporary: Path, folder: Path, micros: int, kind: str) -> str:
    """Give the file its name: a link, unlike a rename, fails where the name is taken."""
    step = 1
    while True:
        name = f"evt_{micros // 10**6}.{micros % 10**6:06d}_{kind}.json"
        try:
            os.link(temporary, folder / name)
            return name
        except FileExistsError:
            micros += randint(1, step)  # by chance and ever wider: a thousand of one moment need no million tries
            step *= 2


# ---- routing

COMPLETION_PATTERNS = frozenset({"peer_to_peer", "team", "broadcast"})
"""Messages of these patterns ask somebody to answer, so they become completion requests."""
EmitEvent = Callable[[str, dict[str, Any]], Awaitable[object]]
StoreEvent = Callable[[dict[str, Any]], Awaitable[object]]


async def handle_completion_event(
    event_name: str,
    data: Mapping[str, Any],
    context: Mapping[str, Any],
    *,
    response_writer: ResponseLogWriter,
) -> asyncio.Future[Place]:
    """Queue a completion event as a record, with `context` as its metadata; the future tells its place.

    A `completion:request` gets the context's `agent_id`, if it has one, and the pattern in which it speaks. Errors as
    with `queue_completion_event`.
    """
    data, metadata = dict(data), dict(context)
    if event_name == "completion:request":
        if metadata.get("agent_id"):
            data["agent_id"] = metadata["agent_id"]
        data["pattern"] = detect_communication_pattern(data, metadata)
    return await response_writer.queue_completion_event({"event": event_name, "data": data, "metadata": metadata})


async def route_message(message: Mapping[str, Any], *, emit_event: EmitEvent, store_event: StoreEvent) -> str:
    """Send a message on its way, and say in which pattern it speaks.

    To one peer, a team or all: `emit_event("completion:request", data)`, where `data` is the message with its `content`
    as `prompt`, and the pattern; such a message without content raises InvalidRecord. Anything else goes to
    `store_event` as a record: the message itself where it has an `event`, else under `data` of an `agent:message`.
    `write_event`, called in a thread, is a `store_event`.
    """
    data = dict(message)
    pattern = detect_communication_pattern(data)
    if pattern in COMPLETION_PATTERNS:
        if "content" not in data:
            raise InvalidRecord("this message has no content", hint="put what is said under `content`")
        await emit_event("completion:request", {"prompt": data.pop("content"), **data, "pattern": pattern})
    else:
        await store_event(data if "event" in data else {"event": "agent:message", "data": data})
    return pattern
