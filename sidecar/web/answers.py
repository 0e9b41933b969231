"""Answers as JSON: their version, their errors, and their size."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import orjson
from starlette.responses import Response

from sidecar.errors import AmbiguousId, BadTime, EntryNotFound, IndexUnavailable, SidecarError, UnknownName

SCHEMA_VERSION = 1
"""As in the output of the commands: raised when a key is removed or changes its meaning."""
LARGEST = 1_000_000
"""Bytes of an answer, at most."""

_STATUS: dict[type[SidecarError], int] = {
    BadTime: 400,
    AmbiguousId: 400,
    EntryNotFound: 404,
    UnknownName: 404,
    IndexUnavailable: 503,
}


def encoded(value: Mapping[str, Any], lists: Sequence[str] = ()) -> bytes:
    """A value as JSON. If that is larger than an answer may be, the longest of the named lists are cut, from their
    ends, and `truncated` says so."""
    value = {"schema_version": SCHEMA_VERSION, **value}
    while True:
        text = _json(value)
        if len(text) <= LARGEST:
            return text
        sizes = {name: len(_json(value[name])) for name in lists if value.get(name)}
        longest = max(sizes, key=lambda name: sizes[name], default=None)
        if longest is None:
            raise ValueError("an answer is larger than it may be")
        value[longest] = value[longest][: len(value[longest]) // 2]
        value["truncated"] = True


def _json(value: Any) -> bytes:
    try:
        return orjson.dumps(value)
    except TypeError:  # a lone surrogate in a name of a file
        return json.dumps(value).encode()


def json_response(body: bytes, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """An answer in JSON."""
    return Response(body, status, headers, "application/json")


def failure(status: int, message: str, hint: str = "", headers: Mapping[str, str] | None = None) -> Response:
    """An error in JSON: what is wrong, and what to do."""
    hints = {"hint": hint} if hint else {}
    return json_response(encoded({"status": status, "error": message, **hints}), status, headers)


def failure_of(error: SidecarError) -> Response:
    """The answer to a request that ended with an error of the package."""
    status = next((number for kind, number in _STATUS.items() if isinstance(error, kind)), 500)
    return failure(status, str(error), error.hint)
