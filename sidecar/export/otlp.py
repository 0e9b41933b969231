"""Answered requests as OpenTelemetry spans, in the JSON encoding of OTLP: what the file exporter of a collector writes.

The conventions for generative AI are in development, so the file's name has their version. A span says who was asked,
in which conversation, and for how long; nothing of what was said.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from hashlib import blake2b
from itertools import islice
from typing import Any, BinaryIO, NamedTuple

import orjson

from sidecar import __version__
from sidecar.query.columns import COLUMNS

from .entry_files import FileKind, Rows

CONVENTIONS = "1.41.0"
"""The version of the OpenTelemetry semantic conventions whose names are used."""
SPANS_A_LINE = 500
_CLIENT = 3
_OPERATION = "invoke_agent"


class _Request(NamedTuple):
    entry: dict[str, Any]
    trace: str
    span: str


def write_spans(file: BinaryIO, rows: Rows) -> None:
    """A span for each answered request of a day, a `TracesData` of up to 500 spans a line."""
    requests: list[_Request] = []
    by_correlation: defaultdict[str, list[_Request]] = defaultdict(list)
    answerers: dict[str, str] = {}
    for row in rows:
        entry = dict(zip(COLUMNS, row, strict=True))
        correlation = entry["correlation_id"]
        if entry["is_request"] or entry["requests_response"]:
            request = _Request(entry, _hash(16, entry["conversation_id"]), _hash(8, entry["file_path"], entry["id"]))
            requests.append(request)
            if correlation is not None:
                by_correlation[correlation].append(request)
        elif correlation is not None and entry["author"] is not None:
            answerers.setdefault(correlation, entry["author"])
    spans = (
        _span(one, _answerer(one.entry, answerers), by_correlation.get(one.entry["correlation_id"], ()))
        for one in requests
        if one.entry["answered_after"] is not None
    )
    while some := list(islice(spans, SPANS_A_LINE)):
        file.write(orjson.dumps(_traces(some), option=orjson.OPT_APPEND_NEWLINE))


def _answerer(entry: dict[str, Any], answerers: dict[str, str]) -> str | None:
    """Who was asked: the only addressee, else the author of the first answer on the same day."""
    addressees = entry["addressees"]
    return addressees[0] if len(addressees) == 1 else answerers.get(entry["correlation_id"])


def _span(request: _Request, answerer: str | None, same: Iterable[_Request]) -> dict[str, Any]:
    entry = request.entry
    begin = int(entry["timestamp"] * 1e9)
    attributes = {
        "gen_ai.operation.name": _OPERATION,
        "gen_ai.agent.name": answerer,
        "gen_ai.conversation.id": entry["conversation_id"] or None,
        "sidecar.entry.id": entry["id"],
        "sidecar.author": entry["author"],
    }
    links = [{"traceId": one.trace, "spanId": one.span} for one in same if one is not request]
    return {
        "traceId": request.trace,
        "spanId": request.span,
        "name": _OPERATION if answerer is None else f"{_OPERATION} {answerer}",
        "kind": _CLIENT,
        "startTimeUnixNano": str(begin),
        # An answer may have an earlier time than its request. A span may not end before it begins.
        "endTimeUnixNano": str(begin + max(0, int(entry["answered_after"] * 1e9))),
        "attributes": [_attribute(key, value) for key, value in attributes.items() if value is not None],
        **({"links": links} if links else {}),
    }


def _traces(spans: Sequence[dict[str, Any]]) -> dict[str, Any]:
    schema = f"https://opentelemetry.io/schemas/{CONVENTIONS}"
    scope = {"scope": {"name": "sidecar", "version": __version__}, "spans": spans, "schemaUrl": schema}
    resource = {"attributes": [_attribute("service.name", "sidecar")]}
    return {"resourceSpans": [{"resource": resource, "scopeSpans": [scope], "schemaUrl": schema}]}


def _attribute(key: str, value: str) -> dict[str, Any]:
    return {"key": key, "value": {"stringValue": value}}


def _hash(size: int, *texts: str) -> str:
    return blake2b("\0".join(texts).encode(), digest_size=size).hexdigest()


OTLP = FileKind(f"spans-semconv-{CONVENTIONS}.otlp.jsonl", write_spans)
