"""Records that are glued together on one line, and what a dead writer left of one."""

from __future__ import annotations

import tracemalloc
from typing import Any

import orjson
import pytest
from hypothesis import example, given, settings

from oracle import glue
from oracle.odd import odd_lines
from sidecar.config.formats import load_formats
from sidecar.ingest.glued import MAX_DEPTH, MAX_FROM_END, split
from sidecar.ingest.second_reading import pieces_of
from sidecar.records import Line

A = b'{"event":"a"}'
MIB = 1 << 20


def is_record(document: dict[str, Any]) -> bool:
    return isinstance(document.get("event"), str) and document["event"] != ""


def places(line: bytes) -> tuple[list[bytes], bytes | None]:
    found = split(line, is_record)
    torn = None if found.torn is None else line[slice(*found.torn)]
    return [line[one.start : one.end] for one in found.records], torn


@pytest.mark.parametrize(
    ("line", "records", "torn"),
    [
        (A + A, [A, A], None),
        (A + b" \0\0\t" + A + b"\r", [A, A], None),
        (b'{"event":"b","text":"a torn' + A, [A], b'{"event":"b","text":"a torn'),
        (A + b'{"event":"b","text":"a torn', [A], b'{"event":"b","text":"a torn'),
        (A + b" torn " + A + A, [A, A, A], b"torn"),
        (b'torn{"event":"b","d":[{"event":"c"}],"e":{}}', [b'{"event":"b","d":[{"event":"c"}],"e":{}}'], b"torn"),
        (b'torn{"event":"b","text":"}{\\"\\\\"}', [b'{"event":"b","text":"}{\\"\\\\"}'], b"torn"),
        (b"torn" + b'{"event":"b","x":NaN,"y":"\xff"}', [b'{"event":"b","x":NaN,"y":"\xff"}'], b"torn"),
        (A + b"[1]" + A, [A, A], b"[1]"),
        (A + b'{"no":1}' + A, [A, A], b'{"no":1}'),
        (b'{"event":"b","data":' + A, [], None),
        (b'{"event":"b","data":[ ' + A, [], None),
        (b'{"event":"b","data":{},' + A, [], None),
        (b"torn" + A + b"torn", [], None),
        (b'{"no":1}{"no":2}', [], None),
    ],
)
def test_whole_records_are_told_from_what_is_torn(line: bytes, records: list[bytes], torn: bytes | None) -> None:
    assert places(line) == (records, torn)


def test_from_the_end_of_a_line_a_thousand_records_are_taken_and_from_its_beginning_all() -> None:
    records, torn = places(A * 1_500 + b"torn" + A * (MAX_FROM_END + 1))
    assert len(records) == 1_500 + MAX_FROM_END
    assert torn == b"torn" + A


def test_nesting_is_limited_as_by_the_strict_reading() -> None:
    def nested(depth: int) -> bytes:
        return b'{"event":"a","data":' + b"[" * (depth - 1) + b"]" * (depth - 1) + b"}"

    assert places(nested(MAX_DEPTH) + b"torn")[0] == [nested(MAX_DEPTH)]
    assert places(b"torn" + nested(MAX_DEPTH))[0] == [nested(MAX_DEPTH)]
    assert places(nested(MAX_DEPTH + 1) + b"torn")[0] == []


@pytest.mark.parametrize(
    "line",
    [
        b"{" * MIB,
        b"}" * MIB,
        b'{"a":' * MIB,
        b'"}' * MIB,
        b'{"' * MIB,
        b'x"' + b'\\"' * MIB + b'"}',
        b'{"event":"a","d":[{}' + b",{}" * MIB + b"]}x",
        b'x{"event":"a","d":[{}' + b",{}" * MIB + b"]}",
    ],
    ids=lambda line: line[:8].decode(),
)
def test_a_long_line_is_not_searched_from_every_place(line: bytes) -> None:
    # A search from every place would take hours.
    assert len(split(line, is_record).records) <= 1


def test_the_documents_of_a_long_line_are_not_in_memory_at_once() -> None:
    record = orjson.dumps({"event": "a", "timestamp": 1735500000, "data": {f"k{n}": [n, {}] for n in range(100)}})
    line = Line(0, 1, record * 200)
    format_ = load_formats()["reference"]
    tracemalloc.start()
    try:
        count = sum(1 for _ in pieces_of(line, format_, None, {}))
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert count == 200
    assert most < len(line.data)  # each document takes about ten times its bytes


@settings(deadline=None, max_examples=300)
@given(odd_lines())
@example(b'"{"event":"a"}')
@example(b'{"event":"a\\"}{"event":"a"}')
def test_the_plain_model_finds_the_same(line: bytes) -> None:
    records, torn = glue.Line(line, is_record).split()
    found = split(line, is_record)
    assert [(one.start, one.end, one.is_repaired) for one in found.records] == [
        (one.start, one.end, one.repaired) for one in records
    ]
    assert found.torn == torn
