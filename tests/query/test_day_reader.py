"""A daily file that is open for reading."""

from __future__ import annotations

from pathlib import Path

from helpers.support import once, reference, write_lines
from sidecar.query.day_reader import DayReader

BASE = 1_735_500_000.0


def test_rows_that_are_given_up_after_the_file_was_closed_do_not_open_it_again(root: Path) -> None:
    records = ({"event": "agent:say", "timestamp": BASE + number, "data": {"agent_id": "a"}} for number in range(3))
    write_lines(root / "responses/sessions/s.jsonl", *records)
    once(reference(root))
    (path,) = (root / "index/daily").glob("*.db")
    day = DayReader(path)
    rows = day.rows()
    next(rows)
    day.close()
    rows.close()  # type: ignore[attr-defined]
    assert day._database.is_closed()
