"""Formats: where the attributes stand, and what counts as a value. One record at a time, no files."""

from __future__ import annotations

import json
import pickle
from typing import Any

import pytest

from sidecar.config.formats import Format, load_formats
from sidecar.config.timestamps import timestamp_of
from sidecar.config.yaml_nodes import parse_yaml
from sidecar.errors import ConfigError
from sidecar.records import Kind, Record

REFERENCE = load_formats()["reference"]
YEAR_10000 = 253402300800


def formats(yaml: str) -> dict[str, Format]:
    return load_formats(parse_yaml(yaml, "config.yaml"))


def extract(document: dict[str, Any], name: str = "reference", named_type: str | None = None) -> Record:
    record = load_formats()[name].extract(document, named_type)
    assert record is not None
    return record


def refusal(yaml: str) -> str:
    with pytest.raises(ConfigError) as caught:
        formats(yaml)
    return str(caught.value)


# --- the reference format ---------------------------------------------------------------------------------------------


def test_a_reference_record_gives_every_attribute() -> None:
    document = {
        "event": "completion:request",
        "timestamp": 1735500000.123,
        "correlation_id": "req_123",
        "status": "completed",
        "data": {
            "session_id": "sess_1",
            "agent_id": "agent_a",
            "to_agent": "agent_b",
            "routing": {"to_agents": ["agent_c", "agent_b"]},
            "participants": ["agent_d"],
            "pattern": "peer_to_peer",
            "conversation_id": "conv_1",
            "team_id": "team_1",
            "broadcast": True,
            "context": {"role_transition": {"from": "peer", "to": "lead"}},
            "expects_response": False,
        },
    }
    assert extract(document) == Record(
        event_type="completion:request",
        kind=Kind(is_completion=True, is_request=True, is_answer=False, skip=False),
        timestamp=1735500000.123,
        session_id="sess_1",
        author="agent_a",
        addressees=("agent_b", "agent_c"),
        members=("agent_d",),
        correlation="req_123",
        pattern="peer_to_peer",
        conversation="conv_1",
        new_role="lead",
        has_team=True,
        is_broadcast=True,
        requests_response=False,
        is_completed=True,
    )


def test_a_record_that_says_nothing_has_absent_attributes() -> None:
    kind = Kind(False, False, False, False)
    nothing = (None, None, None, (), (), None, None, None, None, False, False, False, False)
    assert extract({"event": "x"}) == Record("x", kind, *nothing)


@pytest.mark.parametrize("event", [None, "", 5, ["a"], {"a": 1}, True])
def test_without_a_type_that_is_a_non_empty_string_there_is_no_record(event: object) -> None:
    assert REFERENCE.extract({"event": event, "data": {"agent_id": "a"}}) is None


def test_the_type_in_a_files_name_holds_where_the_record_names_none() -> None:
    assert extract({}, named_type="agent:spawn").event_type == "agent:spawn"
    assert extract({"event": "own"}, named_type="agent:spawn").event_type == "own"
    assert REFERENCE.extract({}, "") is None


@pytest.mark.parametrize(
    ("data_id", "author"), [("a", "a"), (7, "7"), (0, "0"), ("", "meta"), (None, "meta"), (True, "meta")]
)
def test_the_first_path_with_an_id_wins(data_id: object, author: str) -> None:
    assert extract({"event": "x", "data": {"agent_id": data_id}, "metadata": {"agent_id": "meta"}}).author == author


@pytest.mark.parametrize("other", [1.5, [], ["a"], {}, {"a": 1}, False])
def test_what_is_no_id_counts_as_absent(other: object) -> None:
    assert extract({"event": "x", "data": {"agent_id": other}, "agent_id": "top"}).author == "top"


def test_a_number_with_more_digits_than_python_writes_is_absent() -> None:
    huge = 10**5000
    record = extract({"event": "x", "timestamp": -huge, "agent_id": huge, "data": {"to_agents": [huge, 1]}})
    assert (record.timestamp, record.author, record.addressees) == (None, None, ("1",))
    assert timestamp_of(huge) is None


@pytest.mark.parametrize("data", [None, "text", 5, ["agent_id"], True])
def test_data_that_is_no_object_holds_nothing(data: object) -> None:
    assert extract({"event": "x", "data": data, "agent_id": "top"}).author == "top"


def test_addressees_come_in_the_order_of_the_paths_without_repeats() -> None:
    data = {
        "routing": {"to_agents": "e", "to_agent": ["d", "a"]},
        "to_agents": ["c", 7, "", None, True, ["no"], "a", "c"],
        "to_agent": "a",
    }
    assert extract({"event": "x", "data": data}).addressees == ("a", "c", "7", "d", "e")


def test_a_list_with_a_hundred_thousand_addressees_takes_no_quadratic_time() -> None:
    many = [f"agent_{i}" for i in range(100_000)]
    assert len(extract({"event": "x", "data": {"to_agents": many * 2}}).addressees) == 100_000


def test_members_are_a_list_and_never_a_plain_string() -> None:
    assert extract({"event": "x", "data": {"participants": ["b", 3, "b", 1.5]}}).members == ("b", "3")
    assert extract({"event": "x", "data": {"participants": "b"}}).members == ()


@pytest.mark.parametrize(
    ("event", "kind"),
    [
        ("completion:request", (True, True, False)),
        ("completion:result", (True, False, True)),
        ("completion:cancelled", (True, False, True)),
        ("completion", (False, False, False)),
        ("state:a:response", (False, False, True)),
        ("error", (False, False, True)),
        ("request", (False, True, False)),
        ("requests", (False, False, False)),
        ("request:", (False, False, False)),
    ],
)
def test_the_kind_of_an_event_is_in_its_type(event: str, kind: tuple[bool, bool, bool]) -> None:
    assert extract({"event": event}).kind == Kind(*kind, skip=False)


def test_more_types_than_are_remembered_keep_their_kinds() -> None:
    for i in range(10_000):
        assert extract({"event": f"completion:{i}"}).kind.is_completion
    assert extract({"event": "a:request"}).kind.is_request


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        ({}, True),
        ({"requests_response": False}, False),
        ({"requests_response": "no"}, True),
        ({"requests_response": None, "expects_response": False}, False),
        ({"requests_response": True, "expects_response": False}, True),
    ],
)
def test_a_request_expects_a_response_unless_it_says_otherwise(data: dict[str, object], expected: bool) -> None:
    assert extract({"event": "a:request", "data": data}).requests_response is expected


def test_only_true_is_a_broadcast() -> None:
    assert extract({"event": "x", "data": {"broadcast": True}}).is_broadcast
    assert not extract({"event": "x", "data": {"broadcast": 1}}).is_broadcast
    assert not extract({"event": "x", "data": {"broadcast": "true"}}).is_broadcast


def test_a_session_is_completed_at_any_place_of_the_status() -> None:
    assert extract({"event": "x", "status": "open", "metadata": {"status": "completed"}}).is_completed
    assert not extract({"event": "x", "data": {"status": ["completed"]}}).is_completed


# --- moments ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        (0, 0.0),
        (1735500000, 1735500000.0),
        (1735500000.123, 1735500000.123),
        (99_999_999_999, 99_999_999_999.0),
        (1e11, 1e8),
        (1735500000123, 1735500000.123),
        (1e14, 1e8),
        (1735500000123456, 1735500000.123456),
        (1e17, 1e8),
        (1735500000123456789, 1735500000.1234567),
        ((YEAR_10000 - 1) * 10**9, YEAR_10000 - 1.0),
        ("2024-12-29T19:20:00.123Z", 1735500000.123),
        ("2024-12-29T19:20:00.123", 1735500000.123),
        ("2024-12-29T20:20:00.123+01:00", 1735500000.123),
        ("2024-12-29", 1735430400.0),
        ("1970-01-01T00:00:00Z", 0.0),
        ("9999-12-31T23:59:59Z", YEAR_10000 - 1.0),
    ],
)
def test_a_moment_is_seconds_by_size_or_iso_8601(value: object, seconds: float) -> None:
    assert timestamp_of(value) == seconds


@pytest.mark.parametrize(
    "value",
    [
        *(None, True, False, [], {}, "", "soon", "12:00", "2024-13-01", "\ud800", "1" * 5000),
        *(-1, -0.5, float("nan"), float("inf"), float("-inf"), 1e300, YEAR_10000 * 10**9),
        *("1969-12-31T23:59:59Z", "0001-01-01T00:00:00+23:59", "9999-12-31T23:59:59-23:59", "1970-01-01T00:00+01:00"),
        "2024-12-29T19:20:00.123 Z" * 3,
    ],
)
def test_what_is_no_moment_between_1970_and_9999_is_absent(value: object) -> None:
    assert timestamp_of(value) is None


def test_the_first_path_that_gives_a_moment_wins() -> None:
    own = formats("mine: {event_type: [e], timestamp: [a, b.c, d]}")["mine"]
    record = own.extract({"e": "x", "a": "soon", "b": {"c": 12}, "d": 13})
    assert record is not None and record.timestamp == 12.0


# --- formats of the KSI daemon ----------------------------------------------------------------------------------------


def ksi_event(name: str, data: dict[str, Any]) -> Record:
    return extract({"timestamp": 1795427209.6, "event_name": name, "data": data}, "ksi-events")


def test_ksi_completions_are_asked_by_the_originator_and_answered_by_the_agent() -> None:
    asked = ksi_event("completion:async", {"agent_id": "b", "originator_id": "a", "request_id": "r1"})
    assert (asked.author, asked.addressees, asked.correlation) == ("a", ("b",), "r1")
    assert asked.kind == Kind(True, True, False, False)
    injected = ksi_event("completion:inject", {"agent_id": "b", "_agent_id": "c", "originator_id": "a"})
    assert (injected.author, injected.addressees) == ("c", ("b",))
    result = {"ksi": {"agent_id": "b"}, "response": {"session_id": "s"}}
    answered = ksi_event("completion:result", {"request_id": "r1", "result": result})
    assert (answered.author, answered.session_id, answered.correlation) == ("b", "s", "r1")
    assert answered.kind == Kind(True, False, True, False)
    failed = ksi_event("completion:error", {"agent_id": "x", "session_id": "t", "result": result})
    assert (failed.author, failed.session_id, failed.kind.is_answer) == ("x", "t", True)


def test_ksi_messages_name_sender_and_receiver_by_their_own_paths() -> None:
    sent = ksi_event("agent:send_message", {"agent_id": "b", "message": {"from": "a"}})
    assert (sent.author, sent.addressees) == ("a", ("b",))
    assert ksi_event("agent:send_message", {"agent_id": "b", "from_agent": "c"}).author == "c"
    published = ksi_event("message:publish", {"agent_id": "a", "_agent_id": "no", "message": {"to": "b"}})
    assert (published.author, published.addressees) == ("a", ("b",))


def test_ksi_spawn_gives_a_role_and_other_events_their_agent() -> None:
    spawned = ksi_event("agent:spawn", {"agent_id": "a", "metadata": {"role": "planner"}})
    assert (spawned.author, spawned.new_role) == ("a", "planner")
    assert ksi_event("agent:status", {"agent_id": "a", "_agent_id": "b"}).author == "b"
    assert ksi_event("agent:status", {"agent_id": "a"}).author == "a"


def test_ksi_events_that_repeat_are_skipped_and_a_system_result_answers_nobody() -> None:
    assert ksi_event("monitor:broadcast_event", {}).kind.skip
    assert ksi_event("system:result", {}).kind == Kind(False, False, False, False)
    assert ksi_event("completion:status", {}).kind == Kind(True, False, False, False)


def test_a_ksi_response_line_is_a_result_or_a_request_by_its_shape() -> None:
    ksi = {"timestamp": "2026-11-23T09:46:58.168802Z", "agent_id": "a", "request_id": "r1"}
    result = extract({"ksi": ksi, "response": {"session_id": "s"}, "timestamp": 1}, "ksi-responses")
    assert (result.event_type, result.author, result.correlation) == ("completion:result", "a", "r1")
    assert result.timestamp == 1795427218.168802
    for kind in ("user", "feedback"):
        line = {"type": kind, "timestamp": "2026-11-23T09:46:54Z", "request_id": "r2", "agent_id": "b"}
        request = extract(line, "ksi-responses")
        assert (request.event_type, request.author, request.addressees) == ("completion:request", None, ("b",))
        assert (request.timestamp, request.correlation, request.requests_response) == (1795427214.0, "r2", True)
    assert load_formats()["ksi-responses"].extract({"type": "other", "response": None}) is None


def test_a_message_on_the_ksi_bus_neither_asks_nor_answers() -> None:
    line = {
        "id": "1795427214.2446542",
        "type": "DIRECT_MESSAGE",
        "from": "a",
        "timestamp": "2026-11-23T09:46:54.244661Z",
        "to": "b",
        "conversation_id": "c",
    }
    record = extract(line, "ksi-bus")
    assert (record.event_type, record.author, record.addressees) == ("DIRECT_MESSAGE", "a", ("b",))
    assert (record.conversation, record.timestamp, record.is_broadcast) == ("c", 1795427214.244661, False)
    assert extract({**line, "type": "BROADCAST"}, "ksi-bus").is_broadcast
    assert extract({**line, "type": "a:request"}, "ksi-bus").kind == Kind(False, False, False, False)


# --- formats of one's own ---------------------------------------------------------------------------------------------


def test_what_a_format_does_not_say_comes_from_the_one_it_extends() -> None:
    own = formats("mine: {extends: theirs, author: [from]}\ntheirs: {extends: reference, event_type: [kind]}")["mine"]
    record = own.extract({"kind": "a:request", "from": "x", "data": {"agent_id": "y", "to_agent": "z"}})
    assert record is not None
    assert (record.author, record.addressees, record.kind.is_request) == ("x", ("z",), True)


def test_a_shape_inherits_from_the_format_that_uses_it() -> None:
    own = formats("mine: {extends: ksi-events, correlation: [own]}")["mine"]
    record = own.extract({"event_name": "completion:result", "own": "c", "data": {"request_id": "r", "agent_id": "a"}})
    assert record is not None and (record.correlation, record.author) == ("c", "a")


def test_the_first_shape_whose_condition_holds_has_the_record() -> None:
    own = formats(
        """
        mine:
          event_type: [e]
          shapes:
            - {when: {path: a.b}, set: {author: present}}
            - {when: {path: n, is: 1}, set: {author: one}}
            - {when: {path: n, in: [true, two]}, set: {author: either}}
            - {when: {path: n, in: []}, set: {author: never}}
          set: {author: none}
        """
    )["mine"]

    def author(document: dict[str, Any]) -> str | None:
        record = own.extract({"e": "x", **document})
        return record and record.author

    assert author({"a": {"b": False}, "n": 1}) == "present"
    assert author({"a": {"b": None}, "n": 1}) == "one"
    values: list[Any] = [True, "two", 1.0, "1", [], None]
    assert [author({"n": value}) for value in values] == ["either", "either", *["none"] * 4]


def test_a_constant_holds_where_the_record_is_silent() -> None:
    own = formats(
        """
        mine:
          event_type: [e]
          author: [a]
          addressees: [to]
          broadcast: [b]
          status: [s]
          set: {author: somebody, addressees: [all], broadcast: true, status: completed, team: red, event_type: late}
        """
    )["mine"]
    silent = own.extract({"e": "x", "a": "", "to": [], "b": "no"})
    assert silent is not None
    assert (silent.author, silent.addressees, silent.is_broadcast) == ("somebody", ("all",), True)
    assert (silent.is_completed, silent.has_team) == (True, True)
    telling = own.extract({"e": "x", "a": "me", "to": "you", "b": False, "s": "open"})
    assert telling is not None
    assert (telling.author, telling.addressees, telling.is_broadcast) == ("me", ("you",), False)
    assert not telling.is_completed
    assert [r and r.event_type for r in (own.extract({}), own.extract({}, "named"))] == ["late", "named"]


def test_a_constant_event_type_with_no_path_beside_it_stands_alone() -> None:
    shapes = "[{when: {path: a}, set: {event_type: fixed}}]"
    own = formats(f"mine: {{extends: reference, shapes: {shapes}}}")["mine"]
    record = own.extract({"a": 1, "event": "own"}, "named")
    assert record is not None and record.event_type == "fixed"


def test_a_path_may_be_a_list_of_keys_with_any_characters() -> None:
    key = "a.b' + \"\\\n__import__('os')"
    own = formats(f"mine: {{event_type: [e], author: [[{json.dumps(key)}, c]]}}")["mine"]
    record = own.extract({"e": "x", key: {"c": "found"}})
    assert record is not None and record.author == "found"


def test_paths_below_one_another_are_kept_apart() -> None:
    own = formats("mine: {event_type: [e], author: [a.b.c.d], pattern: [a.x], new_role: [a.b.x]}")["mine"]
    record = own.extract({"e": "t", "a": {"x": "ax", "b": {"x": "abx", "c": {"d": "abcd", "x": "no"}}}})
    assert record is not None
    assert (record.author, record.pattern, record.new_role) == ("abcd", "ax", "abx")


def test_hundreds_of_paths_and_deep_ones_compile() -> None:
    many = [f"a{i}.b" for i in range(300)]
    deep = ".".join("abcde" * 10)
    own = formats(f"mine: {{event_type: [e], author: {json.dumps([*many, deep])}}}")["mine"]
    record = own.extract({"e": "x", "a299": {"b": "last"}})
    assert record is not None and record.author == "last"


def test_a_type_that_asks_and_answers_is_a_request() -> None:
    own = formats('mine: {event_type: [e], requests: ["a:"], answers: [":b"]}')["mine"]
    record = own.extract({"e": "a:b"})
    assert record is not None and record.kind == Kind(False, True, False, False)


def test_a_format_goes_to_another_process_and_is_the_same_there() -> None:
    again = pickle.loads(pickle.dumps(REFERENCE))
    assert again == REFERENCE and again.extract({"event": "x"}) == REFERENCE.extract({"event": "x"})


def test_a_fingerprint_differs_where_the_format_does_and_only_there() -> None:
    def fingerprint(yaml: str) -> str:
        return formats(f"mine: {yaml}")["mine"].fingerprint

    assert fingerprint("{extends: reference}") == REFERENCE.fingerprint
    assert fingerprint("{author: [a], pattern: [b]}") == fingerprint("{pattern: [b], author: [a]}")
    assert fingerprint("{author: [a, b]}") != fingerprint("{author: [b, a]}")
    assert fingerprint("{set: {author: a}}") != fingerprint("{author: [a]}")
    assert fingerprint("{shapes: [{when: {path: a, is: 1}}]}") != fingerprint("{shapes: [{when: {path: a, is: true}}]}")


@pytest.mark.parametrize(
    ("yaml", "message"),
    [
        ("mine: []", "config.yaml:1: mine: expected a mapping with"),
        ("mine:\n  autor: [a]", "config.yaml:2: mine.autor: unknown key `autor`"),
        ("mine:\n  autor: [a]", "did you mean `author`?"),
        ("mine: {author: from}", "mine.author: expected a list of places, found `from`"),
        ("mine: {author: [1]}", "mine.author[0]: expected a place"),
        ("mine: {author: [a..b]}", "mine.author[0]: expected a place"),
        ("mine: {author: [[]]}", "mine.author[0]: expected a list of 1 to 50 keys, found a list"),
        ("mine: {author: [[a, 2]]}", "mine.author[0][1]: expected a string, found `2`"),
        ("mine: {extends: referense}", "unknown format `referense`"),
        ("mine: {extends: referense}", "did you mean `reference`?"),
        ("mine: {extends: mine}", "mine.extends: expected a format that does not extend this one in turn"),
        ("mine: {extends: b}\nb: {extends: mine}", "b.extends: expected a format that does not extend this one"),
        ("reference: {}", "reference: `reference` is a format of the package"),
        ('mine: {requests: [":"]}', "mine.requests[0]: expected an event type"),
        ('mine: {skip: [":a:b"]}', "mine.skip[0]: expected an event type"),
        ("mine: {requests: [a], answers: [a]}", "mine.answers: `a` is under `requests` and under `answers`"),
        ("mine:\n  shapes:\n  - {author: [a]}", "config.yaml:3: mine.shapes[0]: the key `when` is missing"),
        ("mine: {shapes: [{when: {is: a}}]}", "mine.shapes[0].when: the key `path` is missing"),
        ("mine: {shapes: [{when: {path: a, is: b, in: [c]}}]}", "mine.shapes[0].when: expected one of `is`"),
        ("mine: {shapes: [{when: {path: a, is: 1.5}}]}", "shapes[0].when.is: expected a string, a whole number"),
        ("mine: {shapes: [{when: {path: a}, skip: [b]}]}", "shapes[0].skip: unknown key `skip`"),
        ("mine: {set: {timestamp: 5}}", "mine.set.timestamp: unknown key `timestamp`"),
        ("mine: {set: {broadcast: 1}}", "mine.set.broadcast: expected true or false, found `1`"),
        ("mine: {set: {addressees: all}}", "mine.set.addressees: expected a list of strings, found `all`"),
        ("mine: {set: {author: []}}", "mine.set.author: expected a string, found a list"),
        ("[mine]", "config.yaml:1: expected a mapping from names to formats, found a list"),
    ],
)
def test_a_wrong_format_is_refused_with_its_place_and_what_was_expected(yaml: str, message: str) -> None:
    assert message in refusal(yaml)
