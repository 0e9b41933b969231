"""Files of lines with everything that writers do and parsers dislike, as hypothesis strategies.

Records are small and collide often. Plain values stand first in each pool: hypothesis shrinks towards them.
"""

from __future__ import annotations

from random import Random
from typing import Any

from hypothesis import strategies as st

from helpers.corpora import BASE, RAW_LINES, encode
from helpers.oddities import BEGINNINGS, BETWEEN, LENIENT_PLACES, LENIENT_VALUES, PADDING, TORN, with_odd_value

EVENTS = ["completion:request", "completion:result", "agent:say"]
AGENTS = ["a", "b", "c", 7, None]
CORRELATIONS = ["q1", "q2", "q3", 4, None, None]


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
        with_odd_value(encode(small_record(chance)), place, value)
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
