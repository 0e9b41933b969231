"""Where a daemon's messages and completions go: the reference's integration points, with their parts handed in."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from sidecar.errors import InvalidRecord

from .patterns import detect_communication_pattern
from .queue import ResponseLogWriter
from .record import Place

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
