"""What a push brings to the hub: every row once, and what becomes of it later."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from helpers.hubs import equal, pushed
from helpers.postgres import Server
from helpers.support import Stepped, command, eventually, once, reference, running, write_lines
from sidecar.archive.job import ArchiveOptions, archive
from sidecar.errors import HubUnavailable, NodeTaken
from sidecar.hub.admin import init
from sidecar.hub.push import Pusher
from sidecar.service.supervisor import rebuild

from .conftest import Hub

T = 1_735_500_000.0


def say(at: float, event: str = "x:note", correlation: str | None = None, **data: Any) -> dict[str, Any]:
    record = {"event": event, "timestamp": at, "data": {"agent_id": "a", "to_agent": "b", **data}}
    return record if correlation is None else {**record, "correlation_id": correlation}


def test_every_row_comes_once_with_all_that_it_says(hub: Hub, stepped: Stepped, log: Path) -> None:
    write_lines(log, say(T, "x:request", "r1"), say(T + 1, role="lead"), say(T + 90_000, "y:note"))
    write_lines(log.with_name("t.jsonl"), say(T, "x:request", requests_response=False))
    with log.open("ab") as file:
        file.write(b"no record\n")
    stepped.turn()
    assert pushed(hub, stepped) == 4
    equal(hub, stepped)
    assert pushed(hub, stepped) == 0
    assert hub.ask("SELECT reason, node FROM hub.rejected") == [("not-json", "n1")]
    assert hub.ask("SELECT session_id, status FROM hub.sessions ORDER BY 1") == [("s", "active"), ("t", "active")]


def test_a_late_answer_changes_the_row_of_its_request(hub: Hub, stepped: Stepped, log: Path) -> None:
    write_lines(log, say(T, "x:request", "r1"), say(T + 1, "x:request"))
    stepped.turn()
    pushed(hub, stepped)
    assert len(hub.ask("SELECT * FROM hub.pending_everywhere")) == 2
    write_lines(log, say(T + 90_000, "x:result", "r1", agent_id="b"), say(T + 90_001, "x:result", "c", agent_id="b"))
    stepped.turn()
    assert pushed(hub, stepped) == 2
    equal(hub, stepped)
    assert hub.ask("SELECT * FROM hub.pending_everywhere") == []


@pytest.mark.parametrize("lines", [0, 1, 5])
def test_a_log_that_begins_again_has_only_its_new_rows(hub: Hub, stepped: Stepped, log: Path, lines: int) -> None:
    write_lines(log, *(say(T + at) for at in range(3)))
    stepped.turn()
    pushed(hub, stepped)
    log.write_text("")
    write_lines(log, *(say(T + at, "other:note") for at in range(lines)))
    stepped.turn()
    pushed(hub, stepped)
    equal(hub, stepped)
    assert len(hub.ask("SELECT * FROM hub.entry")) == lines


def test_a_log_that_was_dropped_is_gone_from_the_hub_too(hub: Hub, root: Path, log: Path) -> None:
    settings = reference(root)
    write_lines(log, {**say(T), "status": "completed"})
    write_lines(log.with_name("t.jsonl"), say(T))
    once(settings)
    pushed(hub, settings)
    archive(settings, ArchiveOptions(age=0.0))
    pushed(hub, settings)
    equal(hub, settings)
    assert len(hub.ask("SELECT * FROM hub.entry")) == 2
    archive(settings, ArchiveOptions(age=0.0, keep=0.0))
    pushed(hub, settings)
    equal(hub, settings)
    assert hub.ask("SELECT session_id FROM hub.sessions") == [("t",)]


def test_rotated_and_renamed_logs_have_their_present_names(hub: Hub, stepped: Stepped, log: Path) -> None:
    write_lines(log, say(T, "x:request", "r1"), say(T + 1))
    write_lines(log.with_name("old.jsonl"), say(T, "x:request"))
    stepped.turn()
    pushed(hub, stepped)
    log.rename(log.with_name("s.jsonl.1"))
    write_lines(log, say(T + 2, "x:result", "r1", agent_id="b"))
    log.with_name("old.jsonl").rename(log.with_name("new.jsonl"))
    stepped.turn()
    stepped.turn()  # what a checkpoint does not cover is not pushed
    pushed(hub, stepped)
    equal(hub, stepped)
    write_lines(log, say(T + 3))
    stepped.turn()
    assert pushed(hub, stepped) == 1
    equal(hub, stepped)


def test_a_log_larger_than_a_batch_is_cut(hub: Hub, stepped: Stepped, log: Path) -> None:
    write_lines(log, *(say(T + at * 400, "x:request" if at % 3 else "x:result") for at in range(1000)))
    stepped.turn()
    assert pushed(hub, stepped, batch=130) == 1000
    equal(hub, stepped)
    assert hub.ask("SELECT turn > 4 FROM hub.node") == [(True,)]


def test_after_a_rebuild_only_what_differs_is_sent_again(hub: Hub, root: Path, log: Path) -> None:
    settings = reference(root)
    write_lines(log, *(say(T + at, "x:request") for at in range(5)))
    write_lines(log.with_name("t.jsonl"), *(say(T + at) for at in range(3)))
    write_lines(log.with_name("gone.jsonl"), say(T))
    once(settings)
    pushed(hub, settings)
    log.with_name("gone.jsonl").unlink()
    hub.ask(
        "UPDATE hub.entry SET line_number = 77 WHERE byte_offset = 0"
        " AND source = (SELECT id FROM hub.source WHERE path LIKE '%/t.jsonl')"
    )
    rebuild(settings, 1, lambda _: None)
    assert pushed(hub, settings) == 3
    equal(hub, settings)


def test_a_hub_that_was_set_back_is_caught_up(hub: Hub, stepped: Stepped, log: Path) -> None:
    write_lines(log, say(T))
    stepped.turn()
    pushed(hub, stepped)
    backup = hub.server.new_database(hub.database)
    write_lines(log, say(T + 1), say(T + 2))
    stepped.turn()
    pushed(hub, stepped)
    restored = Hub(hub.server, backup)
    assert pushed(restored, stepped) == 2
    equal(restored, stepped)


def test_a_clone_of_a_machine_is_refused_under_its_name(hub: Hub, root: Path, log: Path, tmp_path: Path) -> None:
    import shutil

    write_lines(log, say(T))
    once(reference(root))
    pushed(hub, reference(root))
    clone = tmp_path / "clone"
    shutil.copytree(root, clone)
    pushed(hub, reference(root))
    with pytest.raises(NodeTaken, match="n1"):
        pushed(hub, reference(clone))
    assert pushed(hub, reference(clone), node="n2") == 1
    pushed(hub, reference(root))


def test_of_two_pushers_for_a_node_one_steps_back(hub: Hub, stepped: Stepped, log: Path) -> None:
    write_lines(log, say(T))
    stepped.turn()
    with (
        closing(Pusher(stepped.settings.index_folder, hub.url, "n1")) as one,
        closing(Pusher(stepped.settings.index_folder, hub.url, "n1")) as other,
    ):
        one.once()
        write_lines(log, say(T + 1))
        stepped.turn()
        assert other.once() == 1
        write_lines(log, say(T + 2))
        stepped.turn()
        assert one.once() + other.once() == 1
    equal(hub, stepped)


def test_a_node_writes_its_own_rows_only(hub: Hub, stepped: Stepped, log: Path) -> None:
    import psycopg

    roles = [f"{name}_{hub.database}" for name in ("one", "two", "ann")]
    one, two, ann = roles
    hub.ask(
        f"CREATE ROLE {one} LOGIN IN ROLE hub_writer",
        f"CREATE ROLE {two} LOGIN IN ROLE hub_writer",
        f"CREATE ROLE {ann} LOGIN IN ROLE hub_reader",
    )
    write_lines(log, say(T, "x:request", "r"), say(T + 1))
    stepped.turn()
    assert pushed(hub, stepped, role=one) == 2
    equal(hub, stepped)
    with pytest.raises(HubUnavailable, match="belongs to another role"):
        pushed(hub, stepped, role=two)
    assert pushed(hub, stepped, role=two, node="n2", take_over=True) == 2
    refused = (psycopg.errors.InsufficientPrivilege, psycopg.errors.RaiseException)
    with psycopg.connect(hub.of(two), autocommit=True) as db:
        assert db.execute("SELECT count(DISTINCT node) FROM hub.entry").fetchone() == (1,)
        assert db.execute("DELETE FROM hub.entry WHERE node = 1").rowcount == 0
        assert db.execute("UPDATE hub.source SET entries = 0 WHERE node = 1").rowcount == 0
        for statement in (
            "INSERT INTO hub.dropped VALUES (1, 'x', 'y', 1)",
            f"UPDATE hub.node SET role = '{one}'",
            "INSERT INTO hub.entry_20241229 SELECT * FROM hub.entry",
            "DROP TABLE hub.entry_20241229",
            "DELETE FROM hub.node",
        ):
            with pytest.raises(refused):
                db.execute(statement)
    with psycopg.connect(hub.of(ann), autocommit=True) as db:
        assert db.execute("SELECT count(*) FROM hub.ksi_index").fetchone() == (4,)
        for statement in ("DELETE FROM hub.entry", "SELECT hub.make_day('2030-01-01')", "SELECT hub.join_as('ann')"):
            with pytest.raises(refused):
                db.execute(statement)
    hub.ask(f"DROP OWNED BY {one}, {two}, {ann}", f"DROP ROLE {one}, {two}, {ann}")


def test_names_that_postgresql_cannot_hold_are_brought_in_another_form(hub: Hub, stepped: Stepped, log: Path) -> None:
    write_lines(log, say(T, "x:note\0nul"), say(T + 1, "x:request", "ä" * 1020, to_agent="漢" * 1000))
    stepped.turn()
    assert pushed(hub, stepped) == 2
    equal(hub, stepped)
    assert hub.ask("SELECT event_type FROM hub.entries ORDER BY timestamp LIMIT 1") == [("x:note␀nul",)]


def test_a_place_without_a_hub_says_how_to_make_one(stepped: Stepped, postgres: Any) -> None:
    empty = postgres.new_database()
    with pytest.raises(HubUnavailable) as error:
        pushed(Hub(postgres, empty), stepped)
    assert "hub init" in error.value.hint


def test_a_log_that_begins_again_while_it_is_read_is_read_anew(hub: Hub, stepped: Stepped, log: Path) -> None:
    write_lines(log, *(say(T + at) for at in range(5)))
    stepped.turn()
    changes = iter([7, 0, 9])

    def on_stage(stage: str) -> None:
        if stage == "read" and (lines := next(changes, None)) is not None:
            log.write_text("")
            write_lines(log, *(say(T + at, "other:note") for at in range(lines)))
            stepped.turn()

    pushed(hub, stepped, on_stage=on_stage)
    stepped.turn()
    pushed(hub, stepped)
    equal(hub, stepped)
    assert hub.ask("SELECT count(*), min(event_type) FROM hub.entries") == [(9, "other:note")]


def test_a_pusher_that_follows_goes_on_when_the_hub_is_back(hub: Hub, root: Path, log: Path) -> None:
    import signal
    import subprocess

    write_lines(log, say(T))
    words = command("push", "--root", root, "--hub", hub.url, "--node", "n1")
    with running(root):
        with subprocess.Popen(words, stderr=subprocess.PIPE, text=True) as pusher:
            try:
                for number in range(1, 4):
                    eventually(lambda number=number: hub.ask("SELECT count(*) FROM hub.entry") == [(number,)])
                    hub.ask(
                        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query LIKE '%hub.node%'"
                        " AND datname = current_database() AND pid <> pg_backend_pid()"
                    )
                    write_lines(log, say(T + number))
                eventually(lambda: hub.ask("SELECT count(*) FROM hub.entry") == [(4,)])
            finally:
                pusher.send_signal(signal.SIGTERM)
                told = pusher.communicate()[1]
        assert pusher.returncode == 0, told
        assert told.endswith("stopped\n")


def test_a_role_that_may_not_make_a_hub_is_told_so_in_words(postgres: Server) -> None:
    database = postgres.new_database()
    role = f"weak_{database}"
    postgres.execute(database, f"CREATE ROLE {role} LOGIN")
    with pytest.raises(HubUnavailable, match="permission denied") as raised:
        init(postgres.url(database, role))
    assert "docs/hub.md" in raised.value.hint
