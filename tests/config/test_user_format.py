"""Formats as data, end to end: a log of the user's own without any code, and the KSI daemon's as it writes them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from helpers.support import write_lines
from sidecar import Entry, Index
from sidecar.config.settings import Settings, load_settings
from sidecar.health.status import Status, status_of
from sidecar.health.verify import compare
from sidecar.service.supervisor import run_once

# ---- a bus log of one's own

CONFIG = """
root: logs
preset: reference

sources:
  - {name: chat, glob: "chat/**/*.log", layout: stream, format: chat}
  - {name: tickets, glob: "tickets/*.ticket", layout: file, format: ticket}

formats:
  chat:
    event_type: [head.kind]
    timestamp: [head.sent.at]
    session_id: [head.room]
    author: [sender.id]
    addressees: [recipients, body.cc]
    correlation: [head.thread.id]
    conversation: [[head, "topic.name"]]
    new_role: [sender.role]
    requests: ["ask"]
    answers: ["reply"]
    skip: ["typing"]
    set: {pattern: chat}
    shapes:
      - when: {path: head.kind, is: shout}
        set: {broadcast: true, pattern: broadcast}
      - when: {path: broken}
        set: {event_type: "chat:broken"}
  ticket:
    extends: reference
    author: [opened_by]
    set: {event_type: "ticket:opened"}
"""

CHAT = [
    b'{"head": {"kind": "ask", "sent": {"at": "2024-12-29T19:20:00Z"}, "room": "r1", "thread": {"id": 7},'
    b' "topic.name": "lunch"}, "sender": {"id": "ann", "role": "host"},'
    b' "recipients": ["bob"], "body": {"cc": ["eve"]}}',
    b'{"head": {"kind": "typing", "sent": {"at": 1735500001}}, "sender": {"id": "bob"}}',
    b'{"head": {"kind": "reply", "sent": {"at": 1735500002000}, "room": "r1", "thread": {"id": "7"}},'
    b' "sender": {"id": "bob"}}',
    b'{"head": {"kind": "shout", "sent": {"at": 1735500003}}, "sender": {"id": "eve"}}',
    b'{"broken": true, "sender": {"id": "ann"}}',
    b'{"event": "completion:request", "data": {"agent_id": "ann"}}',
    b"",
]


@pytest.fixture
def own(tmp_path: Path) -> Settings:
    """A tree with sources of the user's own beside the preset's, indexed by its config.yaml alone."""
    (tmp_path / "config.yaml").write_text(CONFIG)
    root = tmp_path / "logs"
    write_lines(root / "chat/2024/12/bus.log", *[line + b"\n" for line in CHAT], b'{"head": {"ki')
    write_lines(root / "tickets/t1.ticket", b'{\n  "opened_by": "ann",\n  "timestamp": 1735500010\n}\n')
    write_lines(root / "responses/sessions/s.jsonl", {"event": "agent:spawn", "timestamp": 1735500020})
    write_lines(root / "elsewhere/no_source.log", {"event": "agent:spawn", "timestamp": 1735500030})
    settings = load_settings(tmp_path / "config.yaml")
    run_once(settings, lambda _: None)
    return settings


def test_a_log_of_ones_own_is_indexed_by_what_the_config_says_of_it(own: Settings) -> None:
    with Index(own.root) as index:
        ask, reply, shout, broken, ticket, session = index.timeline()
    assert (ask.event_type, ask.timestamp, ask.session_id, ask.initiating_agent) == ("ask", 1735500000.0, "r1", "ann")
    assert ask.participating_agents == ("ann", "bob", "eve")
    assert ask.agent_roles == {"ann": "host"}
    assert (ask.correlation_id, ask.conversation_id, ask.pattern_type) == ("7", "lunch", "chat")
    assert (ask.is_request, ask.has_response, ask.requests_response) == (True, True, True)
    assert (reply.timestamp, reply.participating_agents) == (1735500002.0, ("bob", "ann"))
    assert (reply.initiating_agent, reply.conversation_id, reply.is_request) == ("ann", "lunch", False)
    assert (shout.pattern_type, shout.session_id, shout.conversation_id) == ("broadcast", "", "")
    assert (broken.event_type, broken.timestamp, broken.line_number) == ("chat:broken", 1735500003.0, 5)
    assert (ticket.event_type, ticket.initiating_agent, ticket.file_path) == (
        *("ticket:opened", "ann"),
        "tickets/t1.ticket",
    )
    assert session.session_id == "s"


def test_every_byte_of_a_log_of_ones_own_is_accounted_for(own: Settings) -> None:
    found = status_of(own, sources=True)
    assert (found.healthy, found.sources, found.rejected) == (True, 3, 1)
    (chat,) = (one for one in found.source_list if one.path.startswith("chat/"))
    sizes = [len(line) + 1 for line in CHAT]
    assert (chat.indexed, chat.skipped) == (sum(sizes) - sizes[1] - sizes[5] - sizes[6], sizes[1])
    assert (chat.rejected, chat.blank, chat.waiting) == (sizes[5], sizes[6], 13)
    assert adds_up(found)
    assert compare(own).holds


def test_the_questions_work_on_a_log_of_ones_own(own: Settings) -> None:
    with Index(own.root) as index:
        assert index.get_session_participants("r1") == ["ann", "bob", "eve"]
        assert index.get_agent_role_history("ann", "r1") == [
            {"timestamp": 1735500000.0, "role": "host"},
            {"timestamp": 1735500002.0, "role": "host"},
        ]
        assert [one.event_type for one in index.conversation("lunch")] == ["ask", "reply"]
        (entry,) = index.timeline(event_type="chat:broken")
        assert index.read(entry) == {"broken": True, "sender": {"id": "ann"}}
        assert [one.reason for one in index.rejected()] == ["no-event-type"]


def test_a_format_that_changes_makes_the_index_anew(own: Settings, tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text(CONFIG.replace("author: [sender.id]", "author: [sender.name, sender.id]"))
    write_lines(own.root / "chat/more.log", b'{"head": {"kind": "ask"}, "sender": {"id": "x", "name": "Xenia"}}\n')
    run_once(load_settings(tmp_path / "config.yaml"), lambda _: None)
    with Index(own.root) as index:
        assert "Xenia" in [one.agent for one in index.agents()]
        assert len(list(index.timeline())) == 7


# ---- the KSI daemon's

EVENTS = "events/2026-11-23/events.jsonl"
SESSION = "responses/0406bc02-62ac.jsonl"
BUS = "responses/message_bus.jsonl"


def event(seconds: float, name: str, **data: Any) -> dict[str, Any]:
    return {"timestamp": 1795427200 + seconds, "event_name": name, "data": data}


KSI_EVENTS = [
    event(0, "system:startup", daemon={"max_event_history": 1000}, _ksi_context="ctx_evt_1"),
    event(1, "monitor:broadcast_event", event_name="system:startup", event_data={"agent_id": "nobody"}),
    event(2, "agent:spawn", agent_id="planner", component="core/base_agent", metadata={"role": "planner"}),
    event(3, "agent:send_message", agent_id="planner", _agent_id="coder", message={"role": "user", "content": "x"}),
    event(4, "agent:send_message", agent_id="coder", from_agent="planner", message={"content": "x"}),
    event(5, "agent:send_message", agent_id="coder", message={"from": "scribe", "content": "x"}),
    event(6, "message:publish", agent_id="coder", event_type="DIRECT_MESSAGE", message={"to": "scribe"}),
    event(7, "completion:async", agent_id="planner", originator_id="coder", request_id="req_1", messages="..."),
    event(8, "completion:inject", agent_id="scribe", _agent_id="planner", originator_id="x", request_id="req_2"),
    event(
        9,
        "completion:result",
        request_id="req_1",
        result={"ksi": {"agent_id": "planner"}, "response": {"session_id": "0406bc02-62ac"}},
    ),
    event(10, "completion:error", request_id="req_9", agent_id="coder", session_id="other", error="late"),
    event(11, "state:entity:get", _agent_id="scribe", agent_id="planner", entity_id="e"),
    event(12, "system:result", agent_id="planner", request_id="req_2"),
]
KSI_RESPONSES = [
    {
        "ksi": {
            "provider": "cli",
            "request_id": "req_1",
            "timestamp": "2026-11-23T09:46:58.261194Z",
            "agent_id": "planner",
        },
        "response": {"type": "result", "session_id": "0406bc02-62ac"},
    },
    {
        "type": "user",
        "timestamp": "2026-11-23T09:46:58.300000Z",
        "content": "hello",
        "request_id": "req_1",
        "agent_id": "planner",
    },
    {"type": "feedback", "timestamp": "2026-11-23T09:47:00Z", "request_id": "req_3", "agent_id": "planner"},
    {"neither": "of both"},
]
KSI_BUS = [
    {"id": "1", "type": "CONVERSATION_MESSAGE", "from": "planner", "timestamp": "2026-11-23T09:46:53.961386Z"},
    {
        "id": "2",
        "type": "DIRECT_MESSAGE",
        "from": "coder",
        "to": "planner",
        "conversation_id": "conv_1",
        "timestamp": "2026-11-23T09:46:54.244661Z",
    },
    {"id": "3", "type": "BROADCAST", "from": "planner", "timestamp": "2026-11-23T09:46:55.198889Z", "content": "all"},
]


@pytest.fixture
def ksi(tmp_path: Path) -> Settings:
    """A small tree as the daemon writes it, indexed by the preset."""
    write_lines(tmp_path / EVENTS, *KSI_EVENTS)
    write_lines(tmp_path / SESSION, *KSI_RESPONSES)
    write_lines(tmp_path / BUS, *KSI_BUS)
    write_lines(tmp_path / "conversations/c.jsonl", {"id": "bare"})
    write_lines(tmp_path / "daemon/daemon.log.jsonl", {"event": "secret"})
    settings = load_settings(root=tmp_path, preset="ksi-daemon")
    run_once(settings, lambda _: None)
    return settings


def entries(settings: Settings, path: str) -> dict[int, Entry]:
    """The entries of a log by their line."""
    with Index(settings.root) as index:
        return {entry.line_number: entry for entry in index.timeline() if entry.file_path == path}


def adds_up(found: Status) -> bool:
    sums = found.bytes
    parts = sums.indexed + sums.blank + sums.rejected + sums.skipped + sums.waiting
    return sums.total == parts and found.behind_bytes == 0


def test_ksi_events_are_a_stream_of_many_sessions_without_what_repeats(ksi: Settings) -> None:
    found = entries(ksi, EVENTS)
    assert sorted(found) == [line for line in range(1, 14) if line != 2]
    assert [found[line].event_type for line in (1, 3, 12)] == ["system:startup", "agent:spawn", "state:entity:get"]
    assert {entry.session_id for entry in found.values()} == {"", "0406bc02-62ac", "other"}
    assert found[1].initiating_agent == "unknown"


@pytest.mark.parametrize(
    ("line", "participants", "initiating"),
    [
        (3, ("planner",), "planner"),
        (4, ("coder", "planner"), "coder"),
        (5, ("planner", "coder"), "planner"),
        (6, ("scribe", "coder"), "scribe"),
        (7, ("coder", "scribe"), "coder"),
        (8, ("coder", "planner"), "coder"),
        (9, ("planner", "scribe"), "planner"),
        (10, ("planner", "coder"), "coder"),
        (11, ("coder",), "unknown"),
        (12, ("scribe",), "scribe"),
        (13, ("planner",), "planner"),
    ],
)
def test_ksi_events_name_who_speaks_and_to_whom(
    ksi: Settings, line: int, participants: tuple[str, ...], initiating: str
) -> None:
    entry = entries(ksi, EVENTS)[line]
    assert (entry.participating_agents, entry.initiating_agent) == (participants, initiating)


def test_ksi_completions_are_asked_and_answered(ksi: Settings) -> None:
    found = entries(ksi, EVENTS)
    asked, injected, answer, error, result = (found[line] for line in (8, 9, 10, 11, 13))
    assert (asked.is_request, asked.has_response, asked.correlation_id) == (True, True, "req_1")
    assert (injected.is_request, injected.has_response) == (True, False)
    assert (answer.is_completion, answer.is_request, answer.session_id) == (True, False, "0406bc02-62ac")
    assert (error.correlation_id, error.session_id) == ("req_9", "other")
    assert not result.is_request
    assert found[3].agent_roles == {"planner": "planner"}
    assert asked.agent_roles == {"planner": "planner"}


@pytest.mark.parametrize("over", ["completion:cancel", "completion:cancelled", "completion:failed"])
def test_a_ksi_request_that_was_cancelled_or_lost_waits_no_more(tmp_path: Path, over: str) -> None:
    write_lines(
        tmp_path / EVENTS,
        event(0, "completion:async", request_id="req_1", originator_id="planner", agent_id="coder"),
        event(1, "completion:async", request_id="req_2", originator_id="planner", agent_id="coder"),
        event(2, over, request_id="req_1"),
    )
    settings = load_settings(root=tmp_path, preset="ksi-daemon")
    run_once(settings, lambda _: None)
    found = entries(settings, EVENTS)
    assert [found[line].has_response for line in (1, 2)] == [True, False]
    assert (found[3].correlation_id, found[3].participating_agents) == ("req_1", ("planner",))


def test_ksi_broadcasts_and_published_messages_say_so(tmp_path: Path) -> None:
    write_lines(
        tmp_path / EVENTS,
        event(0, "agent:broadcast", _agent_id="planner", message={"content": "all"}),
        event(1, "message:publish", agent_id="coder", event_type="BROADCAST", message={"conversation_id": "conv_1"}),
        event(2, "message:publish", agent_id="coder", event_type="DIRECT", message={"to": "planner"}),
    )
    settings = load_settings(root=tmp_path, preset="ksi-daemon")
    run_once(settings, lambda _: None)
    to_all, published, direct = (entries(settings, EVENTS)[line] for line in (1, 2, 3))
    assert (to_all.pattern_type, to_all.participating_agents) == ("broadcast", ("planner",))
    assert (published.pattern_type, published.conversation_id) == ("broadcast", "conv_1")
    assert (direct.pattern_type, direct.conversation_id) == ("peer_to_peer", "")
    assert direct.participating_agents == ("coder", "planner")


def test_a_ksi_response_is_addressed_to_who_asked(tmp_path: Path) -> None:
    ksi = {"timestamp": "2026-11-23T09:46:58Z", "agent_id": "planner", "client_id": "cli_7", "request_id": "req_1"}
    write_lines(tmp_path / SESSION, {"ksi": ksi, "response": {"content": "done"}})
    settings = load_settings(root=tmp_path, preset="ksi-daemon")
    run_once(settings, lambda _: None)
    assert entries(settings, SESSION)[1].participating_agents == ("planner", "cli_7")


def test_a_ksi_answer_that_stands_before_its_request_answers_it(ksi: Settings) -> None:
    found = entries(ksi, SESSION)
    answer, request, feedback = (found[line] for line in (1, 2, 3))
    assert (answer.event_type, answer.session_id) == ("completion:result", "0406bc02-62ac")
    assert (answer.is_completion, answer.is_request, answer.participating_agents) == (True, False, ("planner",))
    assert (request.event_type, request.is_request, request.has_response) == ("completion:request", True, True)
    assert (request.correlation_id, request.participating_agents) == ("req_1", ("planner",))
    assert (feedback.is_request, feedback.has_response, feedback.pattern_type) == (True, False, "peer_to_peer")


def test_messages_on_the_ksi_bus_have_sender_receiver_and_conversation(ksi: Settings) -> None:
    found = entries(ksi, BUS)
    note, direct, broadcast = (found[line] for line in (1, 2, 3))
    assert (note.event_type, note.participating_agents, note.pattern_type) == (
        *("CONVERSATION_MESSAGE", ("planner",)),
        "general",
    )
    assert (direct.participating_agents, direct.pattern_type) == (("coder", "planner"), "peer_to_peer")
    assert (direct.conversation_id, direct.timestamp) == ("conv_1", 1795427214.244661)
    assert (broadcast.event_type, broadcast.pattern_type) == ("BROADCAST", "broadcast")
    assert broadcast.initiating_agent == "planner"


def test_every_byte_that_the_ksi_daemon_wrote_is_accounted_for(ksi: Settings) -> None:
    found = status_of(ksi, sources=True)
    assert (found.healthy, found.sources, found.rejected) == (True, 3, 1)
    assert found.entries == 12 + 3 + 3
    assert adds_up(found)
    assert found.bytes.total == sum((ksi.root / path).stat().st_size for path in (EVENTS, SESSION, BUS))
    assert (found.bytes.skipped > 0, found.bytes.waiting) == (True, 0)
    assert compare(ksi).holds


def test_what_a_failed_write_glued_to_the_next_line_costs_no_record(ksi: Settings) -> None:
    write_lines(ksi.root / EVENTS, b'{"timestamp": 17954272', event(20, "agent:spawn", agent_id="glued"))
    write_lines(ksi.root / EVENTS, event(21, "agent:spawn", agent_id="after"))
    run_once(ksi, lambda _: None)
    with Index(ksi.root) as index:
        assert [one.reason for one in index.rejected() if one.file_path == EVENTS] == ["torn"]
        assert {"glued", "after"} <= {one.agent for one in index.agents()}
    assert adds_up(status_of(ksi))


def test_no_record_of_the_ksi_daemon_is_read_outside_its_sources(ksi: Settings) -> None:
    with Index(ksi.root) as index:
        assert {entry.file_path for entry in index.timeline()} == {EVENTS, SESSION, BUS}
        assert [one.file_path for one in index.rejected()] == [SESSION]
