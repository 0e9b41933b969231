"""The lines of a file, against places and reasons worked by hand from the text of the law."""

from __future__ import annotations

import json
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from helpers.corpora import RAW_LINES
from oracle.glue import ends_of_objects
from oracle.lenient import NOT_JSON, parsed
from oracle.model import ModelFile, model_file
from oracle.odd import odd_files
from oracle.reading import Reader, Reading
from oracle.rules import FIRST, SECOND, Rules

A = b'{"event":"a"}'  # 13 bytes
B = b'{"event":"b"}'


def read(content: bytes, *, settled: bool = False, limit: int = 16 << 20, rules: Rules = SECOND) -> Reading:
    return Reader(rules, limit, lambda record: bool(record.get("event"))).lines(content, settled=settled)


def places(reading: Reading) -> list[tuple[int, int, int, str]]:
    """Line, place, length, and what is there: the event type or the reason."""
    return [
        (piece.number, piece.offset, piece.length, piece.reason or str((piece.record or {})["event"]))
        for piece in reading.pieces
    ]


def counts(reading: Reading) -> dict[str, int]:
    return {key: value for key, value in reading.bytes.items() if value}


# ---- NULs, marks, encodings


@pytest.mark.parametrize(
    ("content", "expected", "counted"),
    [
        (b"\0\0\0" + A + b"\n", [(1, 3, 13, "a")], {"blank": 3, "indexed": 14}),
        (A + b"\0\0\n" + B + b"\n", [(1, 0, 13, "a"), (2, 16, 13, "b")], {"blank": 2, "indexed": 28}),
        (b"\0\0\n\0\n" + A + b"\n", [(3, 5, 13, "a")], {"blank": 5, "indexed": 14}),
        (b"\0\0 \t\0\n", [], {"blank": 6}),
        (b"\xef\xbb\xbf" + A + b"\r\n", [(1, 3, 14, "a")], {"blank": 3, "indexed": 15}),
        (b"\xef\xbb\xbf\n" + A + b"\n", [(2, 4, 13, "a")], {"blank": 4, "indexed": 14}),
        (b"\xef\xbb\xbf\0" + A + b"\n", [(1, 4, 13, "a")], {"blank": 4, "indexed": 14}),
        (A + b"\n" + b"\0" * 700 + B + b"\n", [(1, 0, 13, "a"), (2, 714, 13, "b")], {"blank": 700, "indexed": 28}),
        (A + b"\n" + b"\0" * 9, [(1, 0, 13, "a")], {"indexed": 14, "waiting": 9}),
    ],
)
def test_nuls_and_a_mark_at_the_front_are_blank_and_the_line_is_what_is_left(
    content: bytes, expected: list[tuple[int, int, int, str]], counted: dict[str, int]
) -> None:
    reading = read(content)

    assert places(reading) == expected
    assert counts(reading) == counted
    assert reading.repaired == 0


def test_a_mark_that_is_not_at_the_front_of_the_file_belongs_to_its_line() -> None:
    assert places(read(A + b"\n\xef\xbb\xbf" + B + b"\n")) == [
        (1, 0, 13, "a"),
        (2, 14, 3, "torn"),
        (2, 17, 13, "b"),
    ]


@pytest.mark.parametrize("mark", [b"\xff\xfe", b"\xfe\xff"])
def test_a_file_in_utf16_is_rejected_whole(mark: bytes) -> None:
    reading = read(mark + b"\n\0" + A + b"\n\0")

    assert places(reading) == [(1, 0, 2, "not-utf8"), (2, 3, 14, "not-utf8")]
    assert counts(reading) == {"rejected": 18, "waiting": 1}


def test_the_longest_line_is_about_what_is_left() -> None:
    assert places(read(b"\0" * 20 + A + b"\0" * 20 + b"\n", limit=13)) == [(1, 20, 13, "a")]
    assert places(read(b"\0" + A + b" \0\n", limit=13)) == [(1, 1, 14, "too-long")]
    assert counts(read(b"\0" + A + b" \0\n", limit=13)) == {"blank": 2, "rejected": 15}


# ---- the lenient reading


@pytest.mark.parametrize(
    ("text", "value"),
    [
        (b'["\xff"]', ["\ufffd"]),
        (b'["\xed\xa0\x80"]', ["\ufffd" * 3]),
        (b'["\xf0\x9f\x99"]', ["\ufffd"]),
        (b'["\xe2\x82"]', ["\ufffd"]),
        (b'["\\ud800"]', ["\ufffd"]),
        (b'["\\uDC00\\uD800"]', ["\ufffd\ufffd"]),
        (b'["\\ud83d\\ude42\\ud83d"]', ["🙂\ufffd"]),
        (b'["\\ud83d\\ud83d\\ude42"]', ["\ufffd🙂"]),
        (b'["\\\\ud800", NaN]', ["\\ud800", None]),
        (b'["a\x00\x1f\tb"]', ["a\x00\x1f\tb"]),
        (b"[NaN,Infinity,-Infinity]", [None, None, None]),
        (b'{"NaN":"NaN","x":NaN}', {"NaN": "NaN", "x": None}),
        (b"[1e999,-1e999,1e308]", [None, None, 1e308]),
        (b"[" + b"9" * 400 + b"]", [None]),
        (b"[18446744073709551616,NaN]", [1.8446744073709552e19, None]),
        (b"[18446744073709551615,-9223372036854775808,NaN]", [2**64 - 1, -(2**63), None]),
        (b"[-9223372036854775809,1E5,-0,NaN]", [-9223372036854775808.0, 100000.0, 0, None]),
        (b'{"a":NaN,"a":2}', {"a": 2}),
    ],
)
def test_the_lenient_reading_forgives_what_the_law_names(text: bytes, value: object) -> None:
    assert parsed(text, lenient=False)[0] is NOT_JSON
    found, repaired = parsed(text, lenient=True)
    assert (found, repaired) == (value, True)
    assert json.dumps(found) == json.dumps(value)


@pytest.mark.parametrize(
    "text",
    [
        b'["\\x"]',
        b'["\\\x01"]',
        b"[-NaN]",
        b"[nan]",
        b"[+1]",
        b"[01]",
        b"[1.]",
        b"[.5]",
        b"[1e]",
        b"[1,]",
        b"['a']",
        b"[1\x01]",
        b"[1]\x00",
        b'{1e999:"a"}',
        b'["\\ud80"]',
        b'["a',
        b'["a\\',
        b"[" * 1_025 + b"NaN" + b"]" * 1_025,
    ],
)
def test_the_lenient_reading_forgives_nothing_else(text: bytes) -> None:
    assert parsed(text, lenient=True)[0] is NOT_JSON


def test_a_repaired_line_keeps_its_raw_place_and_is_counted() -> None:
    odd = b'{"event":"a","x":"\xff\\ud800"}'
    reading = read(b"\0" + odd + b"\n" + B + b"\n")

    assert places(reading) == [(1, 1, len(odd), "a"), (2, len(odd) + 2, 13, "b")]
    assert reading.pieces[0].record == {"event": "a", "x": "\ufffd\ufffd"}
    assert [piece.repaired for piece in reading.pieces] == [True, False]
    assert reading.repaired == 1


def test_what_the_lenient_reading_gives_must_be_a_record_like_any_other() -> None:
    reading = read(b'{"event":NaN}\n{"x":NaN}\n[NaN]\nNaN\n[1]\n')

    assert [reason for *_, reason in places(reading)] == [
        "no-event-type",
        "no-event-type",
        "not-json",
        "not-json",
        "not-object",
    ]
    assert reading.repaired == 0


# ---- glued and torn


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (A + B, [(0, 13, "a"), (13, 13, "b")]),
        (A + b" \0\t" + B + b" ", [(0, 13, "a"), (16, 13, "b")]),
        (b" " + A + B, [(1, 13, "a"), (14, 13, "b")]),
        (b'{"ev' + A, [(0, 4, "torn"), (4, 13, "a")]),
        (A + b'{"ev', [(0, 13, "a"), (13, 4, "torn")]),
        (A + b'{"ev' + B, [(0, 13, "a"), (13, 4, "torn"), (17, 13, "b")]),
        (A + B + b'{"ev' + A + B, [(0, 13, "a"), (13, 13, "b"), (26, 4, "torn"), (30, 13, "a"), (43, 13, "b")]),
        (b'{"event":"x","text":"torn' + A, [(0, 25, "torn"), (25, 13, "a")]),
        (b'{"event":"x","data":' + A, "not-json"),
        (b'{"event":"x","data": ' + A, "not-json"),
        (b'{"event":"x",' + A, "not-json"),
        (b'{"event":"x","data":[' + A, "not-json"),
        (b'{"event":"x","data":[1,' + A + B, [(0, 36, "torn"), (36, 13, "b")]),
        (A + b"," + B, [(0, 13, "a"), (13, 14, "torn")]),
        (A + b"}", [(0, 13, "a"), (13, 1, "torn")]),
        (b"x" + A + b"x", "not-json"),
        (b"x" + A + b"x" + B, [(0, 15, "torn"), (15, 13, "b")]),
        (A + b"{}" + B, [(0, 13, "a"), (13, 2, "torn"), (15, 13, "b")]),
        (b"{}" + A + b"{}", "not-json"),
        (b"{}{}", "not-json"),
        (b'{"x":' + A + b"}" + B, [(0, 19, "torn"), (19, 13, "b")]),
        (A + b'{"event":"n","x":NaN}', [(0, 13, "a"), (13, 21, "n")]),
        (A + b' {"event":"\xe2\x82' + B + b"\r", [(0, 13, "a"), (14, 12, "torn"), (26, 13, "b")]),
        (A + b"\r" + B, [(0, 13, "a"), (14, 13, "b")]),
        (b'"' + A, [(0, 1, "torn"), (1, 13, "a")]),
        (b'{"x":"{' + A[1:], [(0, 6, "torn"), (6, 13, "a")]),
    ],
)
def test_whole_records_on_a_line_that_is_no_object_are_found(
    line: bytes, expected: list[tuple[int, int, str]] | str
) -> None:
    reading = read(A + b"\n" + line + b"\n")

    wanted = [(0, len(line), expected)] if isinstance(expected, str) else expected
    assert places(reading)[1:] == [(2, 14 + place, length, what) for place, length, what in wanted]
    assert sum(reading.bytes.values()) == len(line) + 15


def test_the_line_end_of_a_glued_line_goes_with_its_last_piece_and_gaps_are_blank() -> None:
    assert counts(read(A + b" " + B + b"\r\n")) == {"indexed": 27, "blank": 2}
    assert counts(read(A + b' {"ev\n')) == {"indexed": 13, "blank": 1, "rejected": 5}


def test_at_most_a_thousand_are_taken_from_the_end_and_any_number_from_the_front() -> None:
    assert [what for *_, what in places(read(b"x" + A * 1_002 + b"\n"))] == ["torn", *["a"] * 1_000]
    assert places(read(b"x" + A * 1_002 + b"\n"))[:2] == [(1, 0, 27, "torn"), (1, 27, 13, "a")]
    assert len(read(A * 1_500 + b"\n").pieces) == 1_500


def test_only_pieces_that_needed_it_count_as_repaired() -> None:
    assert read(A + b'{"event":"n","x":NaN}' + B + b"\n").repaired == 1


@pytest.mark.parametrize(
    "line",
    [
        b"{" * 64_000,
        b'{"a":' * 12_800,
        b'{"a":"' + b"\0" * 64_000,
        (b'{"a":"' + b"x" * 58) * 1_000 + A,
        b"{" + b'\\"' * 32_000,
        b'{"' + b'{\\"' * 21_000,
        b"\0" * 640_000 + A + b"\0" * 640_000,
        b'{"ev' + A * 5_000,
        b"[{" * 32_000 + b"}]" * 32_000,
        A + b" " * 64_000 + b"x" + b"\0" * 64_000 + A,
    ],
    ids=range(10),
)
def test_no_line_takes_long(line: bytes) -> None:
    began = time.process_time()
    read(line + b"\n")

    # A reading that is not linear takes a minute.
    assert time.process_time() - began < 10


@given(st.text('{}[]",:\\ aN1', max_size=40))
@settings(max_examples=60)
def test_every_object_on_a_line_ends_where_a_parser_says(text: str) -> None:
    ends = ends_of_objects(text.encode())
    for start, character in enumerate(text):
        if character == "{":
            try:
                _, end = json.JSONDecoder(strict=False).raw_decode(text, start)
            except json.JSONDecodeError:
                continue
            assert ends[start] == end


# ---- the last line


@pytest.mark.parametrize("tail", [A, A + b"\r", b"\0" + A + b"\0\0", b'{"event":"a","x":NaN}'])
def test_a_last_line_without_lf_that_is_a_whole_record_is_taken_once_it_is_settled(tail: bytes) -> None:
    waiting, settled = read(B + b"\n" + tail), read(B + b"\n" + tail, settled=True)

    assert waiting.bytes["waiting"] == len(tail)
    assert len(waiting.pieces) == 1
    assert settled.bytes["waiting"] == 0
    assert places(settled)[1] == (2, 14 + tail.index(b"{"), len(tail.strip(b"\0")), "a")
    assert settled.bytes["blank"] == tail.count(b"\0")


@pytest.mark.parametrize("tail", [b'{"ev', b"{}", b"[1]", A + B, b"x" + A, b"\0\0", b"  "])
def test_a_last_line_that_is_not_a_whole_record_waits_forever(tail: bytes) -> None:
    reading = read(B + b"\n" + tail, settled=True)

    assert counts(reading) == {"indexed": 14, "waiting": len(tail)}


# ---- whole files


def event_file(content: bytes, rules: Rules = SECOND) -> ModelFile:
    path = "events/2024-12-29/evt_1735500000.123_agent_spawn.json"
    return model_file(content, path=path, layout="file", mtime=0.0, rules=rules)


@pytest.mark.parametrize(
    ("content", "place", "length"),
    [
        (b"\xef\xbb\xbf{}\n", 3, 2),
        (b"\0\0{}\0\n", 2, 2),
        (b'{"x":NaN}', 0, 9),
        (b'{\n "x": "a\nb"\n}\n', 0, 15),
    ],
)
def test_an_event_file_is_read_as_leniently_as_a_line(content: bytes, place: int, length: int) -> None:
    found = event_file(content)

    assert [(row["id"], row["byte_length"]) for row in found.rows] == [
        (f"evt_1735500000.123_agent_spawn:{place}", length)
    ]
    assert sum(found.bytes.values()) == len(content)


@pytest.mark.parametrize(
    ("content", "reason"), [(b"{}{}", "not-json"), (b"\xff\xfe{\0}\0", "not-utf8"), (b"[NaN]", "not-json")]
)
def test_an_event_file_is_one_record_or_none(content: bytes, reason: str) -> None:
    assert event_file(content).rejected == [(1, 0, len(content), reason)]


@given(odd_files(), st.booleans(), st.sampled_from([60, 16 << 20]))
@settings(max_examples=60)
def test_every_byte_of_an_odd_file_is_accounted_for(content: bytes, settled: bool, limit: int) -> None:
    reading = read(content, settled=settled, limit=limit)

    assert sum(reading.bytes.values()) == len(content)
    end = 0
    for piece in reading.pieces:
        assert (piece.offset >= end and piece.length > 0) or piece.reason == "not-utf8"
        assert piece.number == content[: piece.offset].count(b"\n") + 1
        assert b"\n" not in content[piece.offset : piece.offset + piece.length]
        end = piece.offset + piece.length
    for piece in reading.pieces:
        if piece.record is not None:
            value, repaired = parsed(content[piece.offset :][: piece.length].removesuffix(b"\r"), lenient=True)
            assert (value, repaired) == (piece.record, piece.repaired)


@given(odd_files())
@settings(max_examples=40)
def test_the_second_edition_finds_every_record_of_the_first(content: bytes) -> None:
    if content.startswith((b"\xff\xfe", b"\xfe\xff")):
        return
    first = [place for place in places(read(content, rules=FIRST)) if "-" not in place[3]]

    assert set(first) <= set(places(read(content)))


@pytest.mark.parametrize("line", RAW_LINES)
def test_a_line_that_the_strict_reading_takes_is_taken_alike_by_both_editions(line: bytes) -> None:
    if line.startswith((b"\xff\xfe", b"\xef\xbb\xbf")):
        return
    first, second = places(read(line + b"\n", rules=FIRST)), places(read(line + b"\n"))
    if not first or first[0][3] != "not-json":
        assert second == first
