"""The parts of a rotated log, worked by hand from the text of the law."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from oracle.cases import T, answer, ask, at
from oracle.logs import ROTATED, logs, model_tree
from oracle.model import LogFile
from oracle.rules import SECOND


def file(name: str, *records: dict[str, Any], folder: str = "responses/sessions", mtime: float = 0.0) -> LogFile:
    return LogFile(f"{folder}/{name}", b"".join(orjson.dumps(record) + b"\n" for record in records), mtime)


def names(found: list[LogFile], rotated: tuple[str, ...] = ROTATED) -> list[list[str]]:
    return sorted([part.path.removeprefix("responses/sessions/") for part in log.parts] for log in logs(found, rotated))


@pytest.mark.parametrize(
    ("there", "expected"),
    [
        (["s.jsonl", "s.jsonl.1", "s.jsonl.2", "s.jsonl.10"], [["s.jsonl.10", "s.jsonl.2", "s.jsonl.1", "s.jsonl"]]),
        (["s.jsonl", "s.jsonl-20241230", "s.jsonl-20241229"], [["s.jsonl-20241229", "s.jsonl-20241230", "s.jsonl"]]),
        (
            ["s.jsonl", "s-20241229-02.jsonl", "s-20241229-01.jsonl", "s-20241228_5.jsonl"],
            [["s-20241228_5.jsonl", "s-20241229-01.jsonl", "s-20241229-02.jsonl", "s.jsonl"]],
        ),
        (["s.jsonl", "s-1.jsonl"], [["s-1.jsonl"], ["s.jsonl"]]),
        (["s.jsonl", "s-2024122.jsonl"], [["s-2024122.jsonl"], ["s.jsonl"]]),
        (["s.jsonl", "s-20241229x.jsonl"], [["s-20241229x.jsonl"], ["s.jsonl"]]),
        (["s.jsonl", "s.jsonl.1.gz"], [["s.jsonl"], ["s.jsonl.1.gz"]]),
        (["s.jsonl", "s.jsonl.x"], [["s.jsonl"], ["s.jsonl.x"]]),
        (["s-20241229.jsonl"], [["s-20241229.jsonl"]]),
        (["s.jsonl", "s.jsonl.1", "s.jsonl.1.1"], [["s.jsonl.1", "s.jsonl"], ["s.jsonl.1.1"]]),
        (
            ["s.jsonl", "s-20241229.jsonl", "s-20241229-20241230.jsonl"],
            [["s-20241229.jsonl", "s-20241229-20241230.jsonl", "s.jsonl"]],
        ),
        (["s.jsonl", "t-20241229.jsonl"], [["s.jsonl"], ["t-20241229.jsonl"]]),
    ],
)
def test_the_names_say_which_files_are_one_log_and_in_which_order(there: list[str], expected: list[list[str]]) -> None:
    assert names([file(name) for name in there]) == expected
    assert names([file(name) for name in reversed(there)]) == expected


def test_parts_lie_in_the_folder_of_their_log_and_none_is_one_where_no_name_says_so() -> None:
    elsewhere = [file("s.jsonl"), file("s-20241229.jsonl", folder="responses/sessions/other")]
    assert len(names(elsewhere)) == 2
    assert len(names([file("s.jsonl"), file("s-20241229.jsonl")], rotated=())) == 2


def test_the_parts_of_a_log_are_one_session_with_one_owner_and_one_memory() -> None:
    old = file("s-20241229.jsonl", ask("a", "c"), ask("b", "d") | {"timestamp": T + 1})
    new = file("s.jsonl", {"event": "e"}, answer("x", "c") | {"timestamp": T + 5}, ask(role="lead"))
    found = model_tree([new, old], rules=SECOND)
    older, newer = found[old.path], found[new.path]

    assert {row["session_id"] for row in older.rows + newer.rows} == {"s"}
    assert {row["initiating_agent"] for row in older.rows + newer.rows} == {"a"}
    assert [row["has_response"] for row in older.rows] == [1, 0]
    assert [row["answered_after"] for row in older.rows] == [5.0, None]
    assert newer.rows[1]["participating_agents"] == ["x", "a"]
    assert newer.rows[0]["timestamp"] == T + 1
    assert newer.times == {"own": 2, "inherited": 1, "file": 0}
    assert newer.rows[2]["agent_roles"] == {"a": "lead"}
    assert [(row["id"], row["file_path"], row["line_number"], row["byte_offset"]) for row in newer.rows[:1]] == [
        ("s:0", "responses/sessions/s.jsonl", 1, 0)
    ]
    assert older.rows[0]["id"] == "s-20241229:0"


def test_the_newest_request_is_the_furthest_in_the_log_not_in_its_file() -> None:
    old = file("s.jsonl.1", at(T), at(T), ask("a", "c"))
    new = file("s.jsonl", ask("b", "c"), answer("x", "c"))
    found = model_tree([old, new], rules=SECOND)

    assert [row["has_response"] for row in found[old.path].rows] == [0, 0, 0]
    assert [row["has_response"] for row in found[new.path].rows] == [1, 0]


def test_a_part_without_its_log_is_a_log_by_itself() -> None:
    old = file("s-20241229.jsonl", ask("a"))
    (found,) = model_tree([old], rules=SECOND).values()

    assert found.rows[0]["session_id"] == "s-20241229"


def test_what_no_glob_has_is_read_as_the_part_of_a_log_only() -> None:
    log, part, other = file("s.jsonl", at(T)), file("s.jsonl.1", at(T)), file("t.jsonl.1", at(T))
    found = model_tree([log, part, other], takes=lambda path: path.endswith(".jsonl"), rules=SECOND)

    assert set(found) == {log.path, part.path}


def test_each_part_is_a_file_of_its_own_lines() -> None:
    old = LogFile("responses/sessions/s.jsonl.1", b'\xef\xbb\xbf{"event":"a"}\n{"event":"b"}', 3.0, settled=True)
    new = LogFile("responses/sessions/s.jsonl", b'\xef\xbb\xbf{"event":"c"}\n{"event":"d"}', 4.0)
    found = model_tree([old, new], rules=SECOND)

    assert [(row["event_type"], row["byte_offset"], row["timestamp"]) for row in found[old.path].rows] == [
        ("a", 3, 3.0),
        ("b", 17, 3.0),
    ]
    assert [(row["event_type"], row["byte_offset"], row["timestamp"]) for row in found[new.path].rows] == [
        ("c", 3, 3.0)
    ]
    assert found[new.path].bytes["waiting"] == 13
