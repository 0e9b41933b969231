"""Files of lines with everything that writers do and parsers dislike, as hypothesis strategies.

Records are small and collide often. Plain values stand first in each pool: hypothesis shrinks towards them.
"""

from __future__ import annotations

from random import Random
from typing import Any

from hypothesis import strategies as st

from helpers.corpora import BASE, RAW_LINES, encode

EVENTS = ["completion:request", "completion:result", "agent:say"]
AGENTS = ["a", "b", "c", 7, None]
CORRELATIONS = ["q1", "q2", "q3", 4, None, None]

# What a record of the strict reading becomes by one wrong character, each put behind `"odd":`.
LENIENT_VALUES = [
    b"NaN",
    b"-Infinity",
    b"[Infinity,1e999,-1e999]",
    b"9" * 400,
    b"18446744073709551616",
    b'"\\ud83d\\u2026"',
    b'"\\ude00\\ud83d"',
    b'"\\ud83d\\ude42\\ud83d"',
    b'"\xff\xfe"',
    b'"\xed\xa0\xbd"',
    b'"\xf0\x9f\x99"',
    b'"a\x00b\x1fc\td"',
    b'"\\\x01"',
    b"-NaN",
    b"nan",
    b"1e",
    b'"\\x41"',
]
# Places whose value an odd one takes, so that it stands where the law looks.
LENIENT_PLACES = [b'"odd"', b'"timestamp"', b'"correlation_id"', b'"agent_id"', b'"event"', b'"data"']
BETWEEN = [b"", b"", b" ", b"\x00", b"\x00 \x00", b"\t\r"]
TORN = [
    b'{"event":"completion:request","data":{"prompt":"a torn',
    b'{"event":"agent:say","data":{"agent_id":',
    b'{"event":"agent:say","data":{"list":[',
    b'{"event":"agent:say",',
    b'{"event":"agent:say","text":"a { brace \\"',
    b'{"event":"agent:say","text":"half \xe2\x82',
    b'{"event"',
    b"{",
    b"}",
    b'"}',
    b"}}",
    b'"]},"x":{}}',
    b'say","data":{"agent_id":"b"}}',
    b"{}",
    b'{"no":"event"}',
    b"text without braces",
    b"\xff\xfe",
    b"\x00\x01",
    b"[",
    b",",
    b"\\",
]
PADDING = [b"", b"", b"", b"\x00", b"\x00" * 40, b" \x00", b"\x00 ", b"\xef\xbb\xbf"]
BEGINNINGS = [b"", b"", b"", b"\xef\xbb\xbf", b"\xef\xbb\xbf\x00", b"\x00\xef\xbb\xbf", b"\xff\xfe", b"\xfe\xff"]


def small_record(chance: Random) -> dict[str, Any]:
    """A record of few fields; its time is not always there."""
    record: dict[str, Any] = {"event": chance.choice(EVENTS), "data": {}}
    for place, key, pool in (
        (record["data"], "agent_id", AGENTS),
        (record["data"], "to_agent", [None, *AGENTS]),
        (record, "correlation_id", CORRELATIONS),
        (record, "timestamp", [BASE, BASE + 1, BASE + 90_000, None]),
    ):
        value = chance.choice(pool)
        if value is not None:
            place[key] = value
    return record


def _wholes(chance: Random) -> list[bytes]:
    strict = [encode(small_record(chance)) for _ in range(150)]
    lenient = [
        encode(small_record(chance))[:-1] + b"," + place + b":" + value + b"}"
        for place in LENIENT_PLACES
        for value in LENIENT_VALUES
    ]
    return strict + lenient


WHOLE = _wholes(Random("odd"))
"""Records as bytes: strict ones, and such as only the lenient reading takes, or takes for none."""


def whole() -> st.SearchStrategy[bytes]:
    """One of `WHOLE`."""
    return st.sampled_from(WHOLE)


@st.composite
def glued(draw: st.DrawFn) -> bytes:
    """Records and torn pieces on one line."""
    pieces = draw(st.lists(st.one_of(whole(), whole(), st.sampled_from(TORN), cut()), min_size=1, max_size=5))
    return b"".join(draw(st.sampled_from(BETWEEN)) + piece for piece in pieces)


def cut() -> st.SearchStrategy[bytes]:
    """The beginning or the end of a record."""
    return st.builds(
        lambda line, at, head: line[: at % len(line)] if head else line[at % len(line) :],
        whole(),
        st.integers(0, 200),
        st.booleans(),
    )


def odd_lines() -> st.SearchStrategy[bytes]:
    """One line without its LF."""
    line = st.one_of(whole(), whole(), glued(), st.sampled_from(RAW_LINES))
    pad = st.sampled_from(PADDING)
    return st.builds(lambda left, text, right: left + text + right, pad, line, st.one_of(pad, st.just(b"\r")))


@st.composite
def odd_files(draw: st.DrawFn, max_lines: int = 12) -> bytes:
    """A file of lines; the last may lack its LF, torn, glued or whole."""
    content = draw(st.sampled_from(BEGINNINGS))
    content += b"".join(line + b"\n" for line in draw(st.lists(odd_lines(), max_size=max_lines)))
    return content + draw(st.one_of(st.just(b""), odd_lines(), cut()))
