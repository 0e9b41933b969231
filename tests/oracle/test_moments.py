"""Times as strings and numbers, and where they came from, worked by hand from the text of the law."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from oracle.model import model_file
from oracle.moments import moment
from oracle.rules import FIRST, SECOND

T = 1_735_500_000  # 2024-12-29T19:20:00Z


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        (T, T),
        (T + 0.25, T + 0.25),
        (T * 1_000, T),
        (T * 1_000_000, T),
        (T * 1_000_000_000, T),
        (99_999_999_999, 99_999_999_999),
        (10**11, 10**8),
        (10**14, 10**8),
        (10**17, 10**8),
        ("1735500000", T),
        ("1735500000.25", T + 0.25),
        ("1735500000250", T + 0.25),
        ("1735500000250.0", T + 0.25),
        ("1735500000250000", T + 0.25),
        ("1735500000250000000", T + 0.25),
        ("999999999", 999_999_999),
        ("000000000", 0),
        ("0001735500000", T),
        ("2024-12-29T19:20:00Z", T),
        ("2024-12-29T19:20:00", T),
        ("2024-12-29 19:20:00,250", T + 0.25),
        ("2024-12-29T19:20:00,250+01:00", T - 3_600 + 0.25),
        ("2024-12-29 19:20:00 UTC", T),
        ("2024-12-29T19:20:00.25 GMT", T + 0.25),
        ("2024-12-29 19:20:00,25 UTC", T + 0.25),
        ("20241229T192000Z", T),
        ("Sun, 29 Dec 2024 19:20:00 +0000", T),
        ("Sun, 29 Dec 2024 21:20:00 +0200", T),
        ("29 Dec 2024 19:20:00 GMT", T),
        ("Sun, 29 Dec 2024 19:20 -0000", T),
        ("29 Dec 2024 14:20:00 EST", T),
        ("29 Dec 24 19:20:00 GMT", T),
        ("Thu, 01 Jan 70 00:00:09 GMT", 9),
        ("Sun, 29 Dec 2024 19:20:00 +0000 (UTC)", T),
        ("Thu, 1 Jan 1970 00:00:00 +0000", 0),
        ("1970-01-01", 0),
        ("9999-12-31T23:59:59Z", 253_402_300_799),
        ("9999-12-31 23:59:59 UTC", 253_402_300_799),
        ("9" * 20, 10**11),
        ("253402300799", 253_402_300.799),  # from 1e11 on, also as a string, these are milliseconds
    ],
)
def test_a_time_is_read_in_each_of_its_forms(value: Any, seconds: float) -> None:
    assert moment(value, SECOND) == seconds


@pytest.mark.parametrize(
    "value",
    [
        *(True, None, [], {}, -1, -0.5, 1e300, "", " ", "soon", "NaN", "Infinity"),
        *("12345678", "12345678.5", "-1735500000", "+1735500000", " 1735500000", "1735500000 ", "1735500000."),
        *("1735500000Z", "1.7355e9", "1_735_500_000", "١٧٣٥٥٠٠٠٠٠", "9" * 30, "9" * 5_000),
        *("2024-02-30T00:00:00Z", "1969-12-31T23:59:59Z", "10000-01-01T00:00:00Z", "2024-12-29 19:20:00 CET"),
        *("2024-12-29T19:20:00+02:00 UTC", "UTC", " UTC"),
        *("Sun, 30 Feb 2024 19:20:00 +0000", "Wed, 31 Dec 1969 23:59:59 +0000", "29 Dec 2024", "Sun, 29 Dec 2024"),
    ],
)
def test_what_is_no_time_is_absent(value: Any) -> None:
    assert moment(value, SECOND) is None


@pytest.mark.parametrize("value", ["1735500000", "2024-12-29 19:20:00 UTC", "29 Dec 2024 19:20:00 GMT"])
def test_the_first_edition_knew_fewer_forms(value: str) -> None:
    assert moment(value, FIRST) is None


def counted(content: bytes, path: str = "responses/sessions/s.jsonl", layout: str = "session") -> dict[str, int]:
    return model_file(content, path=path, layout=layout, mtime=5.0, rules=SECOND).times


def test_each_row_counts_where_its_time_came_from() -> None:
    times = [None, "soon", T, None, -1, str(T)]
    lines = [orjson.dumps({"event": "e"} | ({} if time is None else {"timestamp": time})) for time in times]

    # The first has the file's modification time, and the second that of the first.
    assert counted(b"\n".join([*lines, b'{"timestamp": 1}', b""])) == {"own": 2, "inherited": 3, "file": 1}
    assert counted(b"") == {"own": 0, "inherited": 0, "file": 0}


def test_the_seconds_in_the_name_of_an_event_file_are_of_the_file() -> None:
    assert counted(b"{}", "events/2024-12-29/evt_1_x.json", "file") == {"own": 0, "inherited": 0, "file": 1}
