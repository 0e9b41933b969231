"""The routes: what they answer, over HTTP, about a log in which it is known what happened."""

from __future__ import annotations

import json
from collections.abc import Iterator
from http.client import HTTPConnection
from pathlib import Path
from urllib.parse import quote

import pytest

from helpers.pages import BEGIN, HOSTILE, ROUNDS, Client, indexed_story, serving, story
from helpers.support import HANG, running

pytest.importorskip("starlette", reason="the extra `web` is not installed")

RECORDS = [record for records in story().values() for record in records]
ASKED = [one for one in RECORDS if one["event"] == "completion:request"]
ANSWERED = {one["request_id"] for one in RECORDS if one["event"] == "completion:result"}


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    with serving(indexed_story(tmp_path_factory.mktemp("page") / "logs")) as client:
        yield client


def test_every_answer_says_its_version_and_its_span(page: Client) -> None:
    routes = ["overview", "lanes", "graph", "pending", "sessions", "status", "agent?id=code-bo"]
    routes += ["conversation?id=pingpong", "entry?id=pingpong:0"]
    for route in routes:
        answer = page.get(f"/api/{route}")
        assert answer.status == 200, answer.body
        assert answer.headers["content-type"] == "application/json"
        assert len(answer.body) < 1_000_000
        assert {"schema_version", "from", "to"} <= answer.json.keys()
        assert answer.json["from"] <= answer.json["to"]


def test_the_overview_counts_what_is_in_the_log(page: Client) -> None:
    found = page.api("overview")
    assert found["messages"] == sum(found["said"]) == len(RECORDS)
    assert found["asked_n"] == sum(found["asked"]) == len(ASKED)
    assert found["answered"] == len(ANSWERED)
    assert found["pending"] == sum(found["wait"]) == len(ASKED) - len(ANSWERED) == 2
    by_name = {one["id"]: one for one in found["agents"]}
    assert by_name["lead-ada"]["role"] == "coordinator"
    assert by_name["rev-kai"]["role"] is None
    assert by_name["test-pia"]["pending"] == 2
    assert by_name["rev-kai"]["median"] == 4.0
    assert sum(by_name["code-bo"]["spark"]) == by_name["code-bo"]["said"] and len(by_name["code-bo"]["spark"]) == 48
    (loop,) = (one for one in found["anomalies"] if one["kind"] == "ping_pong")
    assert (loop["agents"], loop["rounds"], loop["conversation"]) == (["code-bo", "rev-kai"], ROUNDS, "pingpong")
    assert found["extent"] == [BEGIN, max(one["timestamp"] for one in RECORDS)]


def test_the_times_of_an_old_log_are_counted_from_its_last_entry(page: Client) -> None:
    found = page.api("overview")
    assert found["to"] == int(found["extent"][1]) + 1
    assert found["to"] - found["from"] == 86_400
    assert page.api("overview?from=1h")["from"] == found["to"] - 3600


def test_a_timeline_of_few_messages_has_each_one_and_whom_it_went_to(page: Client) -> None:
    found = page.api("lanes")
    assert found["entries"] == len(found["marks"]) == len(RECORDS)
    names = [one["id"] for one in found["agents"]]
    id_, moment, author, to, kind, what, correlation, conversation = next(
        mark for mark in found["marks"] if mark[7] == "hostile"
    )
    assert (names[author], [names[one] for one in to]) == ("lead-ada", [HOSTILE])
    assert (id_, moment, kind, what, conversation) == ("hostile:0", BEGIN + 2_800, "completion:request", 1, "hostile")
    assert correlation.startswith("req_")
    assert sum(cell[2] for cell in found["cells"]) == len(RECORDS)
    assert found["roles"]["lead-ada"][0][2] == "coordinator"
    # An answer names no addressee; it reaches who asked.
    answer = next(mark for mark in found["marks"] if mark[4] == "completion:result")
    assert [names[one] for one in answer[3]] == ["lead-ada"]


def test_the_graph_has_an_edge_from_each_author_to_each_addressee(page: Client) -> None:
    found = page.api("graph")
    edges = {(one["a"], one["b"]): one for one in found["edges"]}
    assert edges["code-bo", "test-pia"] == {
        "a": "code-bo",
        "b": "test-pia",
        "n": 10,
        "asked": 10,
        "answered": 8,
        "pending": 2,
        "p50": 40.0,
        "p95": 40.0,
    }
    nodes = {one["id"]: one for one in found["nodes"]}
    assert nodes["test-pia"]["in"] == 20 and nodes["test-pia"]["role"] == "tester"
    assert sum(found["said"]) == len(RECORDS)


def test_a_conversation_has_what_was_said_and_how_long_answers_took(page: Client) -> None:
    found = page.api("conversation?id=team_00")
    request = next(row for row in found["rows"] if row["request"])
    assert (request["from"], request["to"]) == ("lead-ada", ["code-bo"])
    assert request["text"] == "Please implement the next step of the night export."
    assert request["file"] == "responses/sessions/team_00.jsonl" and request["roles"]["code-bo"] == "coder"
    answer = next(row for row in found["rows"] if row["corr"] == request["corr"] and not row["request"])
    assert (answer["from"], answer["to"], answer["after"], answer["text"]) == ("code-bo", ["lead-ada"], 20.0, "Done.")
    assert {one["id"] for one in found["agents"]} == {"lead-ada", "code-bo", "test-pia"}
    (loop,) = page.api("conversation?id=pingpong")["loops"]
    assert (loop["agents"], loop["rounds"], loop["messages"]) == (["code-bo", "rev-kai"], ROUNDS, 2 * ROUNDS)


def test_a_conversation_and_the_sessions_go_on_behind_what_was_read_last(page: Client) -> None:
    rows = page.api("conversation?id=pingpong")["rows"]
    rest = page.api(f"conversation?id=pingpong&after={rows[9]['id']}")["rows"]
    assert [row["id"] for row in rest] == [row["id"] for row in rows[10:]]
    seen, after = [], ""
    while True:
        found = page.api(f"sessions?limit=5&after={after}")
        seen += [one["id"] for one in found["rows"]]
        if found["next"] is None:
            break
        after = found["next"]
    assert sorted(seen) == sorted(story()) and found["n"] == len(story())


def test_what_waits_comes_oldest_first_with_its_age(page: Client) -> None:
    found = page.api("pending?limit=1")
    assert found["n"] == 2 and len(found["rows"]) == 1
    row = found["rows"][0]
    assert (row["from"], row["to"], row["conversation"]) == ("code-bo", ["test-pia"], "team_08")
    assert row["age"] == found["to"] - row["t"]
    assert page.api(f"pending?after={quote(found['next'])}")["rows"][0]["conversation"] == "team_09"
    assert page.api("pending?agent=rev-kai")["n"] == 0


def test_a_record_is_read_from_the_log_and_a_changed_log_is_told(tmp_path: Path) -> None:
    root = indexed_story(tmp_path / "logs")
    log = root / "responses" / "sessions" / "hostile.jsonl"
    with serving(root) as page:
        found = page.api("entry?id=hostile:0")
        assert found["raw"].encode() == log.read_bytes().splitlines()[0]
        assert (found["file"], found["line"], found["offset"]) == ("responses/sessions/hostile.jsonl", 1, 0)
        assert found["checksum"] is True and found["gone"] is None
        log.write_bytes(log.read_bytes().replace(b"script", b"scribe"))
        found = page.api("entry?id=hostile:0")
        assert (found["raw"], found["checksum"], found["gone"]) == (None, False, "SourceChanged")
        assert page.api("conversation?id=hostile")["rows"][0]["gone"] == "SourceChanged"


@pytest.mark.parametrize(
    ("path", "status", "words"),
    [
        ("overview?from=soon", 400, "from: "),
        ("overview?from=1748600000&to=1748500000", 400, "before `to`"),
        ("pending?limit=many", 400, "limit: a whole number"),
        ("sessions?status=lost", 400, "status: "),
        ("conversation", 400, "id: is missing"),
        ("conversation?id=nobody", 404, "no conversation 'nobody'"),
        ("entry?id=nothing:0", 404, "nothing:0"),
        ("search", 400, "q: is missing"),
        ("agent?id=nobody", 404, "no agent 'nobody'"),
        ("nothing", 404, "Not Found"),
    ],
)
def test_an_error_is_json_with_its_status_and_says_what_is_wrong(
    page: Client, path: str, status: int, words: str
) -> None:
    answer = page.get(f"/api/{path}")
    assert (answer.status, answer.json["status"]) == (status, status)
    assert words in answer.json["error"] and answer.json["schema_version"] == 1


def test_hits_of_a_search_come_one_by_one_and_then_the_end(page: Client) -> None:
    events = [
        (part.partition("data: ")[0].strip(), json.loads(part.partition("data: ")[2]))
        for part in page.get("/api/search?q=FLAKY").body.decode().split("\n\n")
        if "data: " in part
    ]
    hits = [value for name, value in events if not name]
    assert len(hits) == 10 and {one["match"] for one in hits} == {"flaky"}
    assert [one["t"] for one in hits] == sorted((one["t"] for one in hits), reverse=True)
    assert (hits[0]["from"], hits[0]["to"], hits[0]["place"]) == ("lead-ada", ["test-pia"], "data.prompt")
    assert events[-1][0] == "event: end" and events[-1][1]["complete"] is True
    assert b"event: end" in page.get("/api/search?q=flaky&agent=rev-kai&scan_limit=1").body
    assert page.get("/api/search?q=(&regex=1").json["error"].startswith("q: not a regular expression")


def test_without_an_index_the_page_stands_and_says_what_to_do(root: Path) -> None:
    (root / "responses" / "sessions").mkdir(parents=True)
    with serving(root) as page:
        assert page.get("/").status == 200
        answer = page.get("/api/overview")
        assert answer.status == 503 and "sidecar run" in answer.json["hint"]
        assert page.get("/api/status").status == 200


def test_entries_that_a_running_sidecar_indexes_come_as_events(root: Path) -> None:
    indexed_story(root)
    log = root / "responses" / "sessions" / "team_00.jsonl"
    with running(root), serving(root) as page:
        connection = HTTPConnection("127.0.0.1", page.port, timeout=HANG)
        connection.request("GET", "/api/live")
        stream = connection.getresponse()
        assert stream.headers["content-type"].startswith("text/event-stream")
        assert _next_event(stream)["n"] == 0  # it follows now
        with log.open("a") as file:
            for n in range(30):
                data = {"agent_id": f"new-{n}", "to_agent": "lead-ada", "content": "I am here."}
                file.write(json.dumps({"event": "message:sent", "timestamp": BEGIN + 9_000 + n, "data": data}) + "\n")
        count, last = 0, []
        while count < 30:
            event = _next_event(stream)
            count += event["n"]
            last = event["last"] or last
            assert len(event["last"]) <= 12
        assert count == 30
        assert (last[-1]["from"], last[-1]["to"], last[-1]["type"]) == ("new-29", ["lead-ada"], "message:sent")
        connection.close()


def _next_event(stream: object) -> dict[str, object]:
    while not (line := stream.readline()).startswith(b"data: "):  # type: ignore[attr-defined]
        assert line, "the stream has ended"
    found: dict[str, object] = json.loads(line[6:])
    return found
