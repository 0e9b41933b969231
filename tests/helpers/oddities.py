"""What writers do to lines and parsers dislike: one wrong character, NULs, records glued together and torn."""

from __future__ import annotations

from collections.abc import Callable
from random import Random

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


def with_odd_value(record: bytes, place: bytes, value: bytes) -> bytes:
    """An encoded record with one more value in it, which may be no JSON."""
    return record[:-1] + b"," + place + b":" + value + b"}"


def odd_line(random: Random, record: Callable[[], bytes]) -> bytes:
    """A line, without its LF, that is made of records and is none, or none that a strict parser takes."""
    kind = random.randrange(4)
    if kind == 0:
        return with_odd_value(record(), random.choice(LENIENT_PLACES), random.choice(LENIENT_VALUES))
    if kind == 1:
        return random.choice(PADDING) + record() + random.choice(PADDING)
    pieces = [record() if random.random() < 0.6 else _torn(random, record()) for _ in range(random.randint(2, 4))]
    return b"".join(random.choice(BETWEEN) + piece for piece in pieces)


def without_a_whole_end(line: bytes, random: Random) -> bytes:
    """The beginning of a line that is no record, however long it stays so."""
    return line[: random.randint(0, max(0, line.find(b"}")))]


def _torn(random: Random, record: bytes) -> bytes:
    if random.random() < 0.5:
        return random.choice(TORN)
    at = random.randrange(len(record))
    return record[:at] if random.random() < 0.7 else record[at:]
