"""Answers in other files: a request is answered while another log holds its answer, in whatever order they came."""

from __future__ import annotations

import os
import random
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from helpers.rotations import WAYS, Rotate
from helpers.support import Stepped, everything, once, rebuilt, scratch, write_lines
from oracle.logs import model_tree
from oracle.model import LogFile
from oracle.rules import MAIN
from sidecar.archive.job import ArchiveOptions, archive
from sidecar.config.settings import Settings, load_settings
from sidecar.errors import ConfigError
from sidecar.health.verify import compare
from sidecar.indexer.day_files import DayFiles
from sidecar.query.index import Index
from sidecar.service.daemon import Sidecar
from sidecar.service.supervisor import rebuild

T = 1_735_500_000
DAY = 86_400
SOURCES = """
sources:
  - {name: logs, glob: "logs/*.jsonl", layout: session, format: reference, answers_across_files: true}
  - {name: single, glob: "events/*.json", layout: file, format: reference, answers_across_files: true}
  - {name: alone, glob: "alone/*.jsonl", layout: session, format: reference}
"""


@pytest.fixture
def settings() -> Iterator[Settings]:
    with scratch() as folder:
        config = folder / "config.yaml"
        config.write_text(SOURCES)
        root = folder / "root"
        root.mkdir()
        yield load_settings(config, root=root)


def ask(correlation: str | None, at: float = T, **data: Any) -> dict[str, Any]:
    record = {"event": "x:request", "timestamp": at, "data": {"agent_id": "asker", **data}}
    return record if correlation is None else {**record, "correlation_id": correlation}


def answer(correlation: str, at: float = T + 5) -> dict[str, Any]:
    return {"event": "x:result", "timestamp": at, "correlation_id": correlation, "data": {"agent_id": "answerer"}}


def log(settings: Settings, name: str) -> Path:
    return settings.root / "logs" / f"{name}.jsonl"


def answered(settings: Settings) -> dict[str, bool]:
    """By id, whether each request has a response; what waits agrees. The index is as if it was made anew."""
    assert everything(settings.index_folder) == rebuilt(settings)
    return seen(settings)


def seen(settings: Settings) -> dict[str, bool]:
    with Index(settings.root) as index:
        requests = {entry.id: entry.has_response for entry in index.timeline() if entry.is_request}
        waiting = {entry.id for entry in index.waiting()}
        assert waiting == {id for id, has_response in requests.items() if not has_response}
        assert waiting == {row.id for row in index.find_pending_requests(time_limit=None)}
        assert all(entry.answered_after is None for entry in index.timeline() if entry.correlation_id == "c")
    return requests


@pytest.mark.parametrize("order", [("a", "b"), ("b", "a")])
@pytest.mark.parametrize("apart", [True, False])
def test_an_answer_in_another_file_counts_whichever_came_first(
    settings: Settings, order: tuple[str, str], apart: bool
) -> None:
    record = {"a": ask("c"), "b": answer("c", T + 3 * DAY)}
    with Stepped(settings) as stepped:
        for name in order:
            write_lines(log(settings, name), record[name])
            if apart:
                stepped.turn()
        stepped.turn()
        assert seen(settings) == {"a:0": True}
    assert answered(settings) == {"a:0": True}


def test_an_event_file_answers_too_and_a_source_that_does_not_say_so_has_no_part_in_it(
    settings: Settings,
) -> None:
    write_lines(log(settings, "a"), ask("c"), ask("d"), ask(None), ask("e"))
    write_lines(settings.root / "events/one.json", answer("c"))
    write_lines(settings.root / "alone/x.jsonl", answer("d"), ask("e"))
    write_lines(log(settings, "b"), answer("e"))
    once(settings)
    with Index(settings.root) as index:
        found = [
            (entry.session_id, entry.correlation_id, entry.has_response)
            for entry in index.timeline()
            if entry.is_request
        ]
    assert sorted(found, key=str) == sorted(
        [("a", "c", True), ("a", "d", False), ("a", None, False), ("a", "e", True), ("x", "e", False)], key=str
    )
    assert everything(settings.index_folder) == rebuilt(settings)


def test_nothing_but_the_flag_is_derived_from_an_answer_in_another_file(settings: Settings) -> None:
    write_lines(log(settings, "a"), ask("c", conversation_id="talk"))
    write_lines(log(settings, "b"), answer("c"))
    once(settings)
    with Index(settings.root) as index:
        request, reply = index.timeline()
    assert (request.has_response, request.answered_after) == (True, None)
    assert (reply.conversation_id, reply.participating_agents) == ("b", ("answerer",))


def test_a_request_takes_its_own_answer_although_another_file_has_one(settings: Settings) -> None:
    write_lines(log(settings, "a"), ask("own"))
    write_lines(log(settings, "b"), answer("own"))
    once(settings)
    write_lines(log(settings, "a"), answer("own", T + 7))
    once(settings)
    os.truncate(log(settings, "b"), 0)
    once(settings)
    with Index(settings.root) as index:
        request = next(iter(index.timeline()))
    assert (request.has_response, request.answered_after) == (True, 7.0)
    assert everything(settings.index_folder) == rebuilt(settings)


def test_an_answer_that_its_own_file_uses_up_answers_nobody_elsewhere(settings: Settings) -> None:
    write_lines(log(settings, "a"), ask("c"))
    write_lines(log(settings, "b"), answer("c"))
    once(settings)
    assert seen(settings) == {"a:0": True}
    write_lines(log(settings, "b"), ask("c"))
    once(settings)
    with Index(settings.root) as index:
        assert [entry.id for entry in index.waiting()] == ["a:0"]
    assert everything(settings.index_folder) == rebuilt(settings)


@pytest.mark.parametrize("how", ["truncated", "replaced"])
@pytest.mark.parametrize("killed", [True, False])
def test_when_the_answer_goes_its_request_waits_again(settings: Settings, how: str, killed: bool) -> None:
    write_lines(log(settings, "a"), ask("c"))
    write_lines(log(settings, "b"), answer("c"), answer("d"))
    once(settings)
    assert seen(settings) == {"a:0": True}
    if how == "replaced":
        log(settings, "b").unlink()
        write_lines(log(settings, "b"), answer("other"), answer("d"))
    else:
        os.truncate(log(settings, "b"), 0)
        write_lines(log(settings, "b"), answer("other"))
    if killed:
        sidecar = Sidecar(settings, watch=False)
        sidecar.open()
        while sidecar.step(time.time()):
            pass
        sidecar.abandon()
    once(settings)
    assert answered(settings) == {"a:0": False}


def test_the_answer_of_a_log_whose_file_is_gone_stays_as_long_as_its_rows_do(settings: Settings) -> None:
    write_lines(log(settings, "a"), ask("c"))
    write_lines(log(settings, "b"), answer("c"))
    once(settings)
    log(settings, "b").unlink()
    once(settings)
    assert seen(settings) == {"a:0": True}
    assert compare(settings, lambda _: None).holds
    rebuild(settings, 1, lambda _: None)
    assert answered(settings) == {"a:0": False}


@pytest.mark.parametrize("length", [64, 65, 1024, 3000])
def test_correlations_of_any_length_find_each_other(settings: Settings, length: int) -> None:
    write_lines(log(settings, "a"), ask("c" * length))
    write_lines(log(settings, "b"), answer("c" * length))
    once(settings)
    assert list(answered(settings).values()) == [True]


def die_at(settings: Settings, step: str, monkeypatch: pytest.MonkeyPatch, later: float = 0.0) -> None:
    """A sidecar at work that gets no further than the beginning of a step of DayFiles, as if it was killed there."""

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    sidecar = Sidecar(settings, watch=False)
    sidecar.open()
    with monkeypatch.context() as patched:
        patched.setattr(DayFiles, step, killed)
        with pytest.raises(KeyboardInterrupt):
            while sidecar.step(time.time() + later):
                pass
    sidecar.abandon()


@pytest.mark.parametrize("step", ["delete_rows_of", "mark"])
def test_killed_while_an_answer_goes_the_next_start_takes_its_mark_back(
    settings: Settings, step: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_lines(log(settings, "a"), ask("c"))
    write_lines(log(settings, "b"), answer("c"))
    once(settings)
    log(settings, "b").unlink()
    write_lines(log(settings, "b"), answer("other"))

    die_at(settings, step, monkeypatch)
    once(settings)
    assert answered(settings) == {"a:0": False}


@pytest.mark.parametrize("step", ["make_durable", "mark"])
def test_killed_before_a_checkpoint_the_next_start_marks_what_the_catalog_says(
    settings: Settings, step: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_lines(log(settings, "a"), ask("c"), ask("d"))
    write_lines(log(settings, "b"), answer("d"))
    once(settings)
    write_lines(log(settings, "b"), answer("c"), ask("d"))

    die_at(settings, step, monkeypatch, later=60.0)
    with closing(Sidecar(settings, watch=False)) as opened:
        opened.open()
        with Index(settings.root) as index:
            assert [entry.correlation_id for entry in index.waiting()] == ["c"]
    once(settings)
    assert everything(settings.index_folder) == rebuilt(settings)


def test_a_log_goes_with_its_archive_and_its_answer_with_it(settings: Settings) -> None:
    write_lines(log(settings, "a"), ask("c"))
    done = {"event": "session:completed", "status": "completed", "timestamp": T + 6}
    write_lines(log(settings, "b"), answer("c"), done)
    os.utime(log(settings, "b"), (T, T))
    once(settings)
    assert [one.logs for one in archive(settings, ArchiveOptions(age=0.0)).archived] == [1]
    assert answered(settings) == {"a:0": True}
    assert compare(settings, lambda _: None).holds
    assert archive(settings, ArchiveOptions(age=0.0, keep=0.0)).deleted
    assert answered(settings) == {"a:0": False}


def test_an_answer_stays_with_its_log_under_another_name(settings: Settings) -> None:
    write_lines(log(settings, "a"), ask("c"))
    write_lines(log(settings, "b"), answer("c"))
    once(settings)
    log(settings, "b").rename(log(settings, "z"))
    log(settings, "a").rename(log(settings, "y"))
    once(settings)
    assert answered(settings) == {"y:0": True}


def modelled(settings: Settings) -> dict[tuple[str, int], int]:
    """By path and place, whether each request has a response, as the plain model has it."""
    files = [
        LogFile(path.relative_to(settings.root).as_posix(), path.read_bytes(), path.stat().st_mtime)
        for path in sorted(settings.root.glob("logs/*.jsonl*"))
    ]
    found = model_tree(files, takes=lambda path: path.endswith(".jsonl"), answers_across=True, rules=MAIN)
    rows = [row for model in found.values() for row in model.rows if row["is_request"]]
    return {(row["file_path"], row["byte_offset"]): row["has_response"] for row in rows}


@pytest.mark.parametrize("rotate", [None, *WAYS.values()])
@pytest.mark.parametrize("seed", [*range(3), *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(3, 20))])
def test_after_any_appends_cuts_rotations_and_kills_the_flags_are_those_of_the_law(
    settings: Settings, seed: int, rotate: Rotate | None
) -> None:
    dice = random.Random(seed)
    rotations = 0
    sidecar = Sidecar(settings, watch=False)
    sidecar.open()
    now = time.time()
    for _ in range(40):
        path = log(settings, dice.choice("abcd"))
        chance = dice.random()
        if chance < 0.75 or not path.exists():
            make = dice.choice([ask, answer])
            write_lines(path, *(make(f"c{dice.randrange(6)}", T + dice.randrange(3) * DAY) for _ in range(2)))
        elif rotate is not None and rotations < 9:  # then their names are in order
            if path.stat().st_size:
                rotations += 1
                rotate(path, rotations)
                write_lines(path, answer("other"))
        elif chance < 0.85:
            content = path.read_bytes()
            path.unlink()
            path.write_bytes(content[: content.find(b"\n") + 1] if dice.random() < 0.5 else b"")
        if dice.random() < 0.6:
            now += dice.choice([0.1, 60])
            while sidecar.step(now):
                pass
        if (chance := dice.random()) < 0.3:
            sidecar.abandon() if chance < 0.2 else sidecar.close()
            sidecar = Sidecar(settings, watch=False)
            sidecar.open()
    sidecar.close()
    once(settings)
    with closing(Index(settings.root)) as index:
        found = {
            (entry.file_path, entry.byte_offset): int(entry.has_response)
            for entry in index.timeline()
            if entry.is_request
        }
    assert found == modelled(settings)
    assert everything(settings.index_folder) == rebuilt(settings)
    assert compare(settings, lambda _: None).holds


def test_requests_and_answers_find_each_other_in_any_part_of_rotated_logs(settings: Settings) -> None:
    with Stepped(settings) as stepped:
        write_lines(log(settings, "a"), answer("x"), ask("c"))
        write_lines(log(settings, "b"), answer("y"))
        stepped.turn()
        for name in "ab":
            log(settings, name).rename(f"{log(settings, name)}.1")
        write_lines(log(settings, "a"), ask("d"))
        write_lines(log(settings, "b"), answer("c"))
        stepped.turn()
        stepped.turn(2.0)  # a checkpoint
        assert sorted(seen(settings).values()) == [False, True]
        write_lines(log(settings, "b"), answer("d"))
        stepped.turn()
    place = len(log(settings, "a").with_name("a.jsonl.1").read_bytes().split(b"\n")[0]) + 1
    assert answered(settings) == {f"a.jsonl:{place}": True, "a:0": True}


def test_a_value_that_is_no_flag_is_refused(tmp_path: Path) -> None:
    config = tmp_path / "config.yaml"
    config.write_text(SOURCES.replace("answers_across_files: true", "answers_across_files: sometimes"))
    with pytest.raises(ConfigError, match="true or false"):
        load_settings(config, root=tmp_path)
