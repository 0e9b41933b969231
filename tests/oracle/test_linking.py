"""Answers: used up, in another file, beyond what is remembered. Worked by hand from the text of the law."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from oracle import linking
from oracle.cases import T, answer, ask
from oracle.logs import model_tree
from oracle.model import LogFile, ModelFile
from oracle.rules import SECOND


def log(name: str, *records: dict[str, Any]) -> LogFile:
    content = b"".join(orjson.dumps(record) + b"\n" for record in records)
    return LogFile(f"responses/sessions/{name}.jsonl", content, 0.0)


def responses(*files: LogFile, across: bool = True) -> list[list[int]]:
    """`has_response` of each row of each file."""
    return [[row["has_response"] for row in found.rows] for found in read(*files, across=across)]


def read(*files: LogFile, across: bool = True) -> list[ModelFile]:
    found = model_tree(files, answers_across=across, rules=SECOND)
    backwards = model_tree(files[::-1], answers_across=across, rules=SECOND)
    assert found == backwards  # the order of the files does not show
    return [found[file.path] for file in files]


def test_an_answer_in_another_file_is_a_response_where_the_source_says_so() -> None:
    files = log("a", ask("x", "c")), log("b", answer("y", "c"))

    assert responses(*files) == [[1], [0]]
    assert responses(*files, across=False) == [[0], [0]]


def test_nothing_else_is_derived_from_an_answer_in_another_file() -> None:
    (asked,), (answered,) = (found.rows for found in read(log("a", ask("x", "c")), log("b", answer("y", "c"))))

    assert asked["answered_after"] is None
    assert answered["participating_agents"] == ["y"]
    assert answered["conversation_id"] == "b"


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        # An answer that belongs to a request of its own file is nobody else's.
        ([[ask("x", "c")], [ask("z", "c"), answer("y", "c")]], [[0], [1, 0]]),
        ([[ask("x", "c")], [answer("y", "c"), ask("z", "c")]], [[0], [0, 1]]),
        # Nor one that takes a request without correlation, or has none.
        ([[ask("x", "c")], [ask("z"), answer("y", "c")]], [[0], [1, 0]]),
        ([[ask("x")], [answer("y", "c")]], [[0], [0]]),
        ([[ask("x", "c")], [answer("y")]], [[0], [0]]),
        ([[ask("x", "c")], [answer("y", "d")]], [[0], [0]]),
        # A used-up answer leaves the next request open, until another file answers it.
        ([[answer("y", "c"), ask("x", "c"), ask("x", "c")]], [[0, 1, 0]]),
        ([[answer("y", "c"), ask("x", "c"), ask("x", "c")], [answer("y", "c")]], [[0, 1, 1], [0]]),
        # One answer elsewhere is a response to every request that is open, in every file.
        ([[ask("x", "c"), ask("x", "c")], [ask("z", "c")], [answer("y", "c")]], [[1, 1], [1], [0]]),
        # A request takes its correlation from an answer of its own file, and then it is answered.
        ([[ask("x"), answer("y", "c"), ask("x", "c")], [answer("y", "c")]], [[1, 0, 1], [0]]),
    ],
)
def test_only_what_belongs_to_no_request_of_its_own_file_answers_elsewhere(
    files: list[list[dict[str, Any]]], expected: list[list[int]]
) -> None:
    assert responses(*[log(f"s{number}", *records) for number, records in enumerate(files)]) == expected


def test_an_answer_that_is_remembered_no_more_still_answers_in_another_file(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(linking, "KEPT", 2)
    early = log("a", answer("y", "c"), answer("y", "d"), answer("y", "e"), ask("x", "c"))

    assert responses(early) == [[0, 0, 0, 0]]
    assert responses(early, log("b", ask("z", "c"))) == [[0, 0, 0, 0], [1]]


def test_an_early_answer_that_comes_again_keeps_its_first_time_and_counts_as_the_latest(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(linking, "KEPT", 2)
    (found,) = read(
        log(
            "a",
            answer("y", "c"),
            answer("y", "d"),
            answer("y", "c") | {"timestamp": T + 9},
            answer("y", "e"),
            ask("x", "c") | {"timestamp": T + 4},
            ask("x", "d"),
        )
    )

    assert [row["has_response"] for row in found.rows] == [0, 0, 0, 0, 1, 0]
    assert found.rows[4]["answered_after"] == -4
