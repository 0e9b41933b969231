"""Every question is answered by the hub as by the node; and what only a hub knows."""

from __future__ import annotations

import json
import random
import subprocess
import threading
from contextlib import closing
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from helpers.corpora import session_files
from helpers.hubs import equal, pushed
from helpers.support import Stepped, command, eventually, once, reference, scratch, write_lines
from sidecar.errors import AmbiguousId, EntryNotFound, SourceChanged, SourceElsewhere
from sidecar.hub.reader import HubIndex
from sidecar.query.index import Index
from sidecar.records import Entry

from .conftest import Hub
from .test_push import T, say


def answers(index: Index, names: dict[str, list[str]]) -> dict[str, Any]:
    """The answers to every question, about each of some names."""
    found: dict[str, Any] = {
        "all": list(index.timeline()),
        "back": list(index.timeline(reverse=True, limit=50)),
        "some": list(index.timeline(since=T + 3, until=T + 90_000)),
        "columns": list(index.timeline(columns=["id", "author", "addressees", "answered_after"])),
        "waiting": list(index.waiting()),
        "pending": index.find_pending_requests(None),
        "agents": index.agents(),
        "sessions": list(index.sessions()),
        "completed": list(index.sessions("completed")),
        "rejected": list(index.rejected()),
    }
    for agent in names["agent"]:
        found[f"agent {agent}"] = list(index.timeline(agent=agent))
        found[f"peers {agent}"] = index.find_peer_interactions(agent, 10**10)
        found[f"by {agent}"] = list(index.waiting(by=agent)), list(index.waiting(to=agent, newest_first=True))
        for session in names["session"][:3]:
            found[f"roles {agent} {session}"] = index.get_agent_role_history(agent, session)
    for session in names["session"]:
        found[f"session {session}"] = list(index.timeline(session=session))
        found[f"in {session}"] = index.get_session_participants(session)
    for kind in ("event_type", "pattern", "conversation", "correlation"):
        for name in names[kind]:
            filters: dict[str, Any] = {kind: name}
            found[f"{kind} {name}"] = list(index.timeline(**filters))
    return found


def names_in(entries: list[Entry]) -> dict[str, list[str]]:
    return {
        "agent": sorted({agent for one in entries for agent in one.participating_agents})[:12],
        "session": sorted({one.session_id for one in entries})[:8],
        "event_type": sorted({one.event_type for one in entries})[:6],
        "pattern": sorted({one.pattern_type for one in entries})[:6],
        "conversation": sorted({one.conversation_id for one in entries})[:8],
        "correlation": sorted({one.correlation_id for one in entries if one.correlation_id})[:8],
    }


def talk(root: Path, seed: int, entries: int = 150) -> None:
    """Logs of some sessions, with requests, answers, roles, teams, and lines that are none."""
    chance = random.Random(seed)
    agents = [f"agent_{number}" for number in range(6)]
    for number in range(entries):
        author, other = chance.sample(agents, 2)
        data: dict[str, Any] = {"agent_id": author, "to_agent": other, "text": f"{seed} {number}"}
        if chance.random() < 0.2:
            data |= {"new_role": chance.choice(["lead", "peer"]), "participants": chance.sample(agents, 3)}
        if chance.random() < 0.3:
            data["conversation_id"] = f"talk_{chance.randrange(4)}"
        event = chance.choice(["x:request", "x:request", "x:result", "x:note", "completion:request"])
        record: dict[str, Any] = {"event": event, "timestamp": T + number * chance.choice([0, 1, 700]), "data": data}
        if chance.random() < 0.6:
            record["correlation_id"] = f"r{chance.randrange(20)}"
        if chance.random() < 0.02:
            record["status"] = "completed"
        path = root / "responses" / "sessions" / f"s{seed}_{chance.randrange(5)}.jsonl"
        path.parent.mkdir(parents=True, exist_ok=True)
        write_lines(path, record)
        if chance.random() < 0.03:
            with path.open("ab") as file:
                file.write(b'{"event": torn\n')


@pytest.mark.parametrize("seed", [1, 2])
def test_every_question_is_answered_by_the_hub_as_by_the_node(hub: Hub, root: Path, seed: int) -> None:
    talk(root, seed)
    once(reference(root))
    pushed(hub, reference(root), batch=70)
    with closing(Index(root)) as here, closing(Index(hub.url)) as there:
        names = names_in(list(here.timeline()))
        expected = answers(here, names)
        given = answers(there, names)
        assert len(expected["all"]) == 150
        for question, answer in expected.items():
            assert given[question] == answer, question
        for entry in expected["all"][::10]:
            assert there.get(entry.id) == entry == there.get(f"{entry.file_path}:{entry.byte_offset}")
            assert there.get(entry.id).checksum == entry.checksum
        with pytest.raises(EntryNotFound):
            there.get("s:99999")


_EXAMPLES = count()


@settings(max_examples=8, suppress_health_check=[*HealthCheck])
@given(files=st.lists(session_files(), min_size=1, max_size=3))
def test_odd_logs_are_answered_alike(hub: Hub, files: list[bytes]) -> None:
    node = f"odd-{next(_EXAMPLES)}"
    with scratch() as root:
        for number, content in enumerate(files):
            path = root / "responses" / "sessions" / f"s{number}.jsonl"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        once(reference(root))
        pushed(hub, reference(root), node=node)
        equal(hub, reference(root), node)


def test_three_machines_give_one_answer_and_each_its_own(hub: Hub, tmp_path: Path) -> None:
    roots = [tmp_path / name for name in ("a", "b", "c")]
    for seed, root in enumerate(roots):
        root.mkdir()
        talk(root, seed, 60)
        once(reference(root))
        pushed(hub, reference(root), node=root.name)
    singles = [Index(root) for root in roots]
    try:
        each = [list(index.timeline()) for index in singles]
    finally:
        for index in singles:
            index.close()
    with closing(Index(hub.url)) as everywhere:
        found = list(everywhere.timeline())
        assert sorted(found, key=lambda one: (one.node, one.id)) == sorted(
            (entry for some in each for entry in some), key=lambda one: (one.id.partition("_")[0], one.id)
        )
        assert [one.timestamp for one in found] == sorted(one.timestamp for one in found)
        assert {one.node for one in found} == {"a", "b", "c"}
    with closing(HubIndex(hub.url, node="b")) as one_of_them:
        assert list(one_of_them.timeline()) == each[1]
        assert {entry.node for entry in one_of_them.timeline()} == {"b"}


def test_an_id_that_two_machines_have_is_told_apart_by_the_node(hub: Hub, root: Path, log: Path) -> None:
    write_lines(log, say(T))
    once(reference(root))
    for node in ("a", "b"):
        pushed(hub, reference(root), node=node)
    with closing(Index(hub.url)) as index:
        with pytest.raises(AmbiguousId, match=r"a/responses/sessions/s\.jsonl:0, b/"):
            index.get("s:0")
        assert index.get("b/responses/sessions/s.jsonl:0").node == "b"
        assert index.get("a/s:0").node == "a"


def test_records_are_read_from_a_mounted_folder_and_checked(hub: Hub, root: Path, log: Path) -> None:
    write_lines(log, say(T, text="hello"))
    once(reference(root))
    pushed(hub, reference(root))
    with closing(Index(hub.url)) as index:
        entry = index.get("s:0")
        with pytest.raises(SourceElsewhere, match="n1") as error:
            index.read(entry)
        assert "sidecar show" in error.value.hint
        hub.ask(f"UPDATE hub.node SET read_from = '{root}'")
        assert index.read(entry)["data"]["text"] == "hello"
        log.write_bytes(log.read_bytes().replace(b"hello", b"other"))
        with pytest.raises(SourceChanged):
            index.read(entry)
        hub.ask("UPDATE hub.node SET read_from = '/nowhere'")
        with pytest.raises(SourceElsewhere, match="not mounted"):
            index.read(entry)


def test_new_entries_are_followed_each_once(hub: Hub, stepped: Stepped, log: Path) -> None:
    write_lines(log, say(T))
    stepped.turn()
    pushed(hub, stepped)
    seen: list[str] = []
    done = threading.Event()

    def follow() -> None:
        with closing(Index(hub.url)) as index:
            seen.extend(entry.id for entry in index.follow(agent="b", stop=done.is_set))

    with closing(Index(hub.url)) as index:
        waiting = index.follow(stop=lambda: True)
        assert list(waiting) == []
    thread = threading.Thread(target=follow)
    thread.start()
    try:
        eventually(
            lambda: hub.ask(
                "SELECT 1 FROM pg_stat_activity WHERE query LIKE 'LISTEN%' AND datname = current_database()"
            )
        )
        for number in range(3):
            write_lines(log, say(T + 1 + number), {"event": "x:other", "timestamp": T, "data": {}})
            stepped.turn()
            pushed(hub, stepped)
        eventually(lambda: len(seen) >= 3)
    finally:
        done.set()
        thread.join()
    assert len(seen) == len(set(seen)) == 3


def test_an_answer_on_another_machine_and_who_owns_a_session_are_seen_by_all(hub: Hub, tmp_path: Path) -> None:
    a, b = tmp_path / "a", tmp_path / "b"
    for root in (a, b):
        (root / "responses" / "sessions").mkdir(parents=True)
    name = "responses/sessions/m.jsonl"
    write_lines(a / name, say(T, "session:created"), say(T + 1, "x:request", "r1"), say(T + 2, "x:request", "r2"))
    write_lines(a / name, say(T + 3, "session:transfer", to_node="B"))
    write_lines(b / name, say(T + 4, "session:adopted", from_node="A"), say(T + 5, "x:result", "r1"))
    for root, node in ((a, "A"), (b, "B")):
        once(reference(root))
        pushed(hub, reference(root), node=node)
    with closing(HubIndex(hub.url)) as index:
        assert [one.correlation_id for one in index.waiting()] == ["r1", "r2"]
        assert [one.correlation_id for one in index.pending_everywhere()] == ["r2"]
    assert hub.ask("SELECT session_id, node, since FROM hub.session_owner") == [("m", "B", T + 4)]
    assert hub.ask("SELECT * FROM hub.session_conflicts") == []
    pushed(hub, reference(b), node="C")
    assert hub.ask("SELECT session_id, nodes FROM hub.session_conflicts") == [("m", ["B", "C"])]


def test_the_command_asks_a_hub(hub: Hub, root: Path, log: Path, tmp_path: Path) -> None:
    write_lines(log, say(T, "x:request", "r1"), say(T + 1))
    once(reference(root))
    (tmp_path / "config.yaml").write_text(
        f"hub: {{url: '{hub.url}', node: build-17, read_from: '{root}'}}\nroot: logs\n"
    )

    def sidecar(*words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(command(*words), cwd=tmp_path, capture_output=True, text=True, check=False)

    assert json.loads(sidecar("push", "--once", "--json").stdout) == {
        "schema_version": 1,
        "node": "build-17",
        "rows": 2,
    }
    (status,) = [json.loads(line) for line in sidecar("hub", "status", "--json").stdout.splitlines()]
    assert (status["node"], status["entries"], status["last_error"]) == ("build-17", 2, None)
    found = [json.loads(line) for line in sidecar("query", "timeline", "--json", "--hub").stdout.splitlines()]
    assert [(one["node"], one["id"]) for one in found] == [
        ("build-17", "s:0"),
        ("build-17", f"s:{found[1]['byte_offset']}"),
    ]
    assert sidecar("query", "timeline", "--hub", hub.url, "--node", "other", "--json").stdout == ""
    assert "x:request" in sidecar("query", "pending", "--hub", hub.url).stdout
    assert json.loads(sidecar("show", "s:0", "--hub", "--json").stdout)["entry"]["node"] == "build-17"
    following = subprocess.Popen(
        command("follow", "--hub", hub.url, "--json"), cwd=tmp_path, stdout=subprocess.PIPE, text=True
    )
    try:
        asks = "SELECT 1 FROM pg_stat_activity WHERE query LIKE 'LISTEN%' AND datname = current_database()"
        eventually(lambda: hub.ask(asks))
        write_lines(log, say(T + 2, "x:new"))
        once(reference(root))
        sidecar("push", "--once")
        assert following.stdout is not None
        assert json.loads(following.stdout.readline())["event_type"] == "x:new"
    finally:
        following.kill()
        following.communicate()
    assert sidecar("hub", "verify").returncode == 0
    hub.ask("UPDATE hub.entry SET line_number = 99 WHERE byte_offset = 0")
    wrong = sidecar("hub", "verify")
    assert wrong.returncode == 1 and "s.jsonl: 2024-12-29" in wrong.stderr
    assert sidecar("hub", "verify", "--repair").returncode == 0
    assert sidecar("hub", "verify", "--json").returncode == 0
    refused = sidecar("hub", "forget", "build-17")
    assert refused.returncode == 2 and "--yes" in refused.stderr
    assert sidecar("hub", "forget", "build-17", "--yes").returncode == 0
    assert sidecar("query", "agents", "--hub", "--json").stdout == ""
    wrong = sidecar("status", "--hub", hub.url)
    assert wrong.returncode == 2
    (tmp_path / "config.yaml").write_text("root: logs\nhub:\n  url: postgresql://ann:secret@hub/sidecar\n")
    wrong = sidecar("status")
    assert wrong.returncode == 2 and wrong.stderr.startswith("error: config.yaml:3: hub.url: it contains a password")
    assert "secret" not in wrong.stderr
