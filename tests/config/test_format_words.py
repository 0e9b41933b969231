"""The words of a format for the logs of agent tools: steps into lists, texts with places, parts of the path, kept
values, lists of conditions."""

from __future__ import annotations

import pickle
import random
import time
from pathlib import Path
from typing import Any

import pytest

from faults.steps import Death, died, in_a_child, of_files, of_stages
from helpers.support import Stepped, everything, rebuilt, write_lines
from sidecar import Entry, Index
from sidecar.config.formats import load_formats
from sidecar.config.settings import Settings, Source, load_settings
from sidecar.config.yaml_nodes import parse_yaml
from sidecar.errors import ConfigError, EntryNotFound
from sidecar.health.verify import compare
from sidecar.query.names import find_entry
from sidecar.records import Record
from sidecar.service.lock import root_locked
from sidecar.service.supervisor import open_sidecar, run_once

# ---- one record at a time


def extract(yaml: str, document: dict[str, Any], names: dict[str, str] | None = None) -> Record:
    text = f"mine: {{event_type: [e], {yaml}}}"
    record = load_formats(parse_yaml(text, "config.yaml"))["mine"].extract(
        {"e": "x", **document}, None, {} if names is None else names
    )
    assert record is not None
    return record


CONTENT = {
    "content": [
        "loose text",
        {"type": "text", "text": "Let me look."},
        {"type": "tool_use", "id": "", "name": "Read", "input": {"to": None}},
        {"type": "tool_use", "id": "t2", "name": "Write", "input": {"to": "bob"}},
        {"type": "tool_use", "id": "t3", "name": "Read", "input": {"to": "eve"}},
    ]
}


def test_a_step_into_a_list_leads_to_its_objects_that_have_the_key_and_value() -> None:
    record = extract(
        'correlation: ["content[type=tool_use].id"], pattern: ["content[type=image].id"],'
        ' addressees: ["content[type=tool_use].input.to"], members: ["content[].name"]',
        CONTENT,
    )
    assert record.correlation == "t2", "the first that holds something"
    assert record.pattern is None
    assert record.addressees == ("bob", "eve"), "all of them"
    assert record.members == ("Read", "Write")


@pytest.mark.parametrize(
    ("step", "picked"),
    [("kind=1", "b"), ("kind=true", "c"), ("kind=x.y", "d"), ("kind=1.5", None), ("", "a"), ("kind=None", None)],
)
def test_the_value_of_a_step_is_a_text_a_whole_number_or_a_truth_value(step: str, picked: str | None) -> None:
    kinds: list[Any] = [None, 1, True, "x.y", 1.5, [], {}]
    document = {"all": [{"kind": kind, "id": id} for kind, id in zip(kinds, "abcdefg", strict=True)]}
    assert extract(f'author: ["all[{step}].id"]', document).author == picked


def test_steps_into_lists_go_on_through_objects_and_further_lists() -> None:
    document = {"spans": [{"tags": []}, {"tags": [{"key": "who.is", "value": {"text": "ann"}}]}, {"tags": 5}]}
    assert extract('author: ["spans[].tags[key=who.is].value.text"]', document).author == "ann"
    nested = {"rows": [["a", ["b"]], "c", {"d": "e"}]}
    assert extract('addressees: ["rows[][]"]', nested).addressees == ("a",)


@pytest.mark.parametrize("value", [None, "text", 5, {}, {"type": "tool_use", "id": "t"}, [], [None, 1, "x", []]])
def test_what_is_no_list_of_objects_holds_nothing(value: Any) -> None:
    assert extract('author: ["content[type=tool_use].id"]', {"content": value}).author is None


def test_times_flags_and_event_types_are_found_in_lists_as_well() -> None:
    document = {"all": [{"at": "soon", "type": 5, "loud": "yes"}, {"at": 9.9e11, "type": "note", "loud": True}]}
    yaml = "mine: {event_type: ['all[].type'], timestamp: ['all[].at'], broadcast: ['all[].loud']}"
    record = load_formats(parse_yaml(yaml, "config.yaml"))["mine"].extract(document)
    assert record is not None
    assert (record.event_type, record.timestamp, record.is_broadcast) == ("note", 9.9e8, True)


def test_a_text_with_places_is_there_where_all_of_them_are() -> None:
    yaml = 'author: ["{a.b}/{c}", "{c}", fallback], addressees: ["tool:{content[type=tool_use].name}"]'
    assert extract(yaml, {"a": {"b": "x"}, "c": 7}).author == "x/7"
    assert extract(yaml, {"a": {"b": ""}, "c": 7}).author == "7"
    assert extract(yaml, {"c": ["no text"], "fallback": "f"}).author == "f"
    assert extract(yaml, CONTENT).addressees == ("tool:Read", "tool:Write"), "all of them, each once"
    assert extract(yaml, {"content": []}).addressees == ()


def test_a_long_text_made_of_places_is_shortened_like_any_id() -> None:
    made, plain = (extract(yaml, {"a": "x" * 2_000}) for yaml in ('author: ["{a}"]', "author: [a]"))
    assert made.author == plain.author
    assert plain.author is not None and len(plain.author) == 97


def test_all_conditions_of_a_shape_must_hold() -> None:
    yaml = (
        "shapes: [{when: [{path: a, in: [1, null]}, {path: b, is: null}, {path: c, begins: ['<', 'Caveat']}],"
        " set: {author: yes_}}], set: {author: no_}"
    )

    def author(**document: Any) -> str | None:
        return extract(yaml, document).author

    assert author(a=1, c="<command>") == author(c="Caveat: x") == author(a=None, b=None, c="<") == "yes_"
    assert author(a=True, c="<") == author(a=1, b=0, c="<") == author(a=1, c=" <") == author(a=1, c=["<"]) == "no_"


def test_a_condition_looks_at_the_first_value_in_a_list_and_at_names() -> None:
    yaml = (
        "shapes: [{when: {path: 'content[type=text].text', begins: [Let]}, set: {author: said}},"
        " {when: {path: <agent>, is: a7}, set: {author: <agent>}}]"
    )
    assert extract(yaml, CONTENT).author == "said"
    assert extract(yaml, {}, {"agent": "a7"}).author == "<agent>", "a constant is a plain text"
    assert extract(yaml, {}, {"agent": "a8"}).author is None


def test_null_takes_a_constant_back() -> None:
    yaml = (
        "set: {author: ann, broadcast: true, requests_response: true, addressees: [bob], event_type: y},"
        " shapes: [{when: {path: a}, set: {author: null, broadcast: null, requests_response: null,"
        " addressees: null, event_type: null}}]"
    )
    own, back = extract(yaml, {}), extract(yaml, {"a": 1})
    assert (own.author, own.is_broadcast, own.requests_response, own.addressees) == ("ann", True, True, ("bob",))
    assert (back.author, back.is_broadcast, back.requests_response, back.addressees) == (None, False, False, ())
    assert back.event_type == "x"
    both = load_formats(
        parse_yaml("a: {event_type: [e], set: {author: ann}}\nb: {extends: a, set: {author: null}}", "f")
    )
    assert [record and record.author for record in (both[name].extract({"e": "x"}) for name in "ab")] == ["ann", None]


def test_a_format_keeps_the_first_value_and_a_shape_the_latest() -> None:
    yaml = (
        "keep: {room: [room]}, conversation: [<room>], correlation: ['{<turn>}/{<room>}'],"
        " shapes: [{when: {path: ask}, keep: {turn: [ask]}}]"
    )
    names: dict[str, str] = {}
    said = [
        extract(yaml, document, names)
        for document in ({}, {"room": "", "ask": 1}, {"room": "r1", "ask": 2}, {"room": "r2"}, {"ask": 3}, {"ask": []})
    ]
    assert [record.conversation for record in said] == [None, None, "r1", "r1", "r1", "r1"]
    assert [record.correlation for record in said] == [None, None, "2/r1", "2/r1", "3/r1", "3/r1"]
    assert names == {"room": "r1", "turn": "3"}


def test_a_line_that_is_no_record_leaves_what_is_kept_as_it_was() -> None:
    yaml = "mine: {event_type: [e], keep: {room: [room]}, shapes: [{when: {path: ask}, keep: {turn: [ask]}}]}"
    format = load_formats(parse_yaml(yaml, "config.yaml"))["mine"]
    names = {"turn": "1"}
    assert format.extract({"room": "r", "ask": "2"}, None, names) is None
    assert names == {"turn": "1"}


# ---- times without a zone


@pytest.mark.parametrize(
    ("zone", "hours"),
    [
        ("UTC", 0),
        ("+03:00", -3),
        ("-09:30", 9.5),
        ("Europe/Moscow", -3),
        ("Europe/Berlin", -1),
        ("America/New_York", 5),
    ],
)
def test_a_time_that_names_no_zone_is_in_that_of_the_format(zone: str, hours: float) -> None:
    yaml = f"timestamp: [t, 'l[].t'], time_zone: '{zone}'"
    assert extract(yaml, {"t": "2024-12-29T19:20:00"}).timestamp == 1735500000 + hours * 3600
    assert extract(yaml, {"l": [{"t": "2024-12-29T19:20:00"}]}).timestamp == 1735500000 + hours * 3600
    assert extract(yaml, {"t": "2024-12-29T19:20:00Z"}).timestamp == 1735500000
    assert extract(yaml, {"t": 1735500000}).timestamp == 1735500000


def test_a_local_time_that_comes_twice_is_the_first() -> None:
    yaml = "timestamp: [t], time_zone: Europe/Berlin"
    before, twice = (extract(yaml, {"t": f"2024-10-27T0{hour}:30:00"}).timestamp for hour in (1, 2))
    assert before is not None and twice == before + 3600


def test_a_time_zone_goes_to_those_that_extend_the_format_and_to_other_processes() -> None:
    both = load_formats(parse_yaml("a: {event_type: [e], timestamp: [t], time_zone: '+03:00'}\nb: {extends: a}", "f"))
    again = pickle.loads(pickle.dumps(both["b"]))
    record = again.extract({"e": "x", "t": "2024-12-29T19:20:00"})
    assert record is not None and record.timestamp == 1735500000 - 3 * 3600
    utc = load_formats(parse_yaml("a: {event_type: [e], timestamp: [t]}", "f"))["a"]
    assert utc.fingerprint != both["a"].fingerprint


# ---- what is refused


@pytest.mark.parametrize(
    ("yaml", "message"),
    [
        ('mine:\n  author: ["a[b"]', "config.yaml:2: mine.author[0]: expected a place: keys separated by dots"),
        *(
            (f'mine: {{author: ["{wrong}"]}}', f"mine.author[0]: expected a place{{}}, found `{wrong}`")
            for wrong in (
                *("a[b]", "a[=x]", "a[b=]", "[b=c].d", "a[]b", "a[].", "a.[]", "a]", "<Agent>", "<agent", "a.<agent>"),
                *("{a", "a}", "{{a}}", "{}", "{a}{", "{<Agent>}", "tool:{a[b]}", "<>"),
            )
        ),
        (f"mine: {{author: ['{'.'.join('a' * 51)}']}}", "mine.author[0]: expected a place"),
        (f"mine: {{author: ['a{'[]' * 50}']}}", "mine.author[0]: expected a place"),
        ("mine: {keep: [turn]}", "mine.keep: expected a mapping from names to lists of places, found a list"),
        ("mine: {keep: {turn: uuid}}", "mine.keep.turn: expected a list of places, found `uuid`"),
        ("mine: {keep: {Turn: [uuid]}}", "mine.keep.Turn: expected a name of lower-case letters, digits and `_`"),
        ("mine: {keep: {a: [b]}, shapes: [{when: {path: c}, keep: {a: [c]}}]}", "shapes: `a` is kept by the format"),
        ("mine: {shapes: [{when: []}]}", "mine.shapes[0].when: expected 1 to 20 conditions, found 0"),
        (f"mine: {{shapes: [{{when: [{'{path: a},' * 21}]}}]}}", "when: expected 1 to 20 conditions, found 21"),
        ("mine:\n shapes:\n - when:\n   - {path: a}\n   - {is: b}", "config.yaml:5: mine.shapes[0].when[1]: the key"),
        ("mine: {shapes: [{when: {path: a, is: b, begins: [c]}}]}", "when: expected one of `is`, `in` and `begins`"),
        ("mine: {shapes: [{when: {path: a, begins: b}}]}", "when.begins: expected a list of texts, found `b`"),
        ("mine: {shapes: [{when: {path: a, begins: [1]}}]}", "when.begins[0]: expected a string, found `1`"),
        ("mine: {shapes: [{when: {path: a, is: 1.5}}]}", "expected a string, a whole number, true, false or null"),
        ("mine: {shapes: [{when: {path: a, is: [b]}}]}", "expected a string, a whole number, true, false or null"),
        *(
            (f"mine: {{time_zone: {wrong}}}", "mine.time_zone: expected a time zone: a name such as `Europe/Berlin`")
            for wrong in ("Nowhere/City", "+2", "+25:00", "Europe", "../etc/passwd", "3", "/etc/localtime", "'x\\0y'")
        ),
        ("mine: {set: {agent: null}}", "mine.set.agent: unknown key `agent`"),
    ],
)  # fmt: skip
def test_a_wrong_word_is_refused_with_its_place_and_what_was_expected(yaml: str, message: str) -> None:
    with pytest.raises(ConfigError) as refused:
        load_formats(parse_yaml(yaml, "config.yaml"))
    for part in message.split("{}"):
        assert part in str(refused.value)


def own_settings(folder: Path, glob: str, format: str, layout: str = "session") -> Settings:
    source = f'{{name: own, glob: "{glob}", layout: {layout}, format: mine}}'
    config = f"root: logs\npreset: none\nsources:\n  - {source}\nformats:\n  mine: {{event_type: [e], {format}}}\n"
    (folder / "config.yaml").write_text(config)
    return load_settings(folder / "config.yaml")


@pytest.mark.parametrize("glob", ["<Agent>.jsonl", "<agent.jsonl", "<a><b>", "<a>*", "*<a>", "<a>/<a>", "<>/x", "a<-b"])
def test_a_glob_with_a_wrong_name_is_refused(tmp_path: Path, glob: str) -> None:
    with pytest.raises(
        ConfigError, match=r"config.yaml:4: sources\[0\].glob: expected named parts of the path such as"
    ):
        own_settings(tmp_path, glob, "author: [<agent>]")


@pytest.mark.parametrize(
    ("glob", "format", "message"),
    [
        (
            "<team>/*",
            "author: [<teem>]",
            "sources[0].glob: the format `mine` looks at `<teem>`, expected `keep",
        ),
        ("<turn>/*", "keep: {turn: [id]}", "sources[0].glob: `<turn>` is kept by the format `mine`, expected another"),
    ],
)
def test_a_name_is_either_kept_or_a_part_of_the_path(tmp_path: Path, glob: str, format: str, message: str) -> None:
    with pytest.raises(ConfigError) as refused:
        own_settings(tmp_path, glob, format)
    assert message in str(refused.value) and "config.yaml:4" in str(refused.value)


# ---- through the index


def entries(settings: Settings) -> list[Entry]:
    run_once(settings, lambda _: None)
    with Index(settings.root) as index:
        return sorted(index.timeline(), key=lambda entry: (entry.file_path, entry.byte_offset))


@pytest.mark.parametrize(
    ("glob", "path", "parts"),
    [
        ("*/*/subagents/**/agent-<agent>.jsonl", "p/s/subagents/a/b/agent-7.jsonl", {"agent": "7"}),
        ("*/*/subagents/**/agent-<agent>.jsonl", "p/s/subagents/agent-agent-7.jsonl", {"agent": "agent-7"}),
        ("<a>/**/<b>-<c>.log", "x/y/z/1-2-3.log", {"a": "x", "b": "1", "c": "2-3"}),
        ("rollout-????-<session>.jsonl", "rollout-2025-019a.jsonl", {"session": "019a"}),
        ("<a>.jsonl", ".jsonl", {}),
        ("[<]<a>[>].jsonl", "<x>.jsonl", {"a": "x"}),
    ],
)
def test_a_named_part_of_a_glob_is_what_a_star_would_match(glob: str, path: str, parts: dict[str, str]) -> None:
    source = Source("own", glob, "session", load_formats()["reference"])
    assert source.matches(path)
    assert source.parts_of(path) == parts


def test_parts_of_the_path_stand_for_agents_and_sessions(tmp_path: Path) -> None:
    settings = own_settings(
        tmp_path, "<team>/<session>/agent-<agent>.jsonl", "author: [<agent>], conversation: [<team>]", layout="session"
    )
    write_lines(settings.root / "red/s1/agent-ann.jsonl", {"e": "x"})
    write_lines(settings.root / "red/s2/agent-ann.jsonl", {"e": "x"})
    write_lines(settings.root / "red/s2/agent-.jsonl", {"e": "x"})
    found = [(one.session_id, one.participating_agents, one.conversation_id) for one in entries(settings)]
    assert found == [("s1", ("ann",), "red"), ("s2", (), "red"), ("s2", ("ann",), "red")]


@pytest.mark.parametrize(("layout", "name"), [("session", "s1"), ("stream", "s1"), ("file", "events")])
def test_ids_begin_with_the_session_that_the_path_names(tmp_path: Path, layout: str, name: str) -> None:
    settings = own_settings(tmp_path, "<session>/events.json", "author: [by]", layout=layout)
    for session in ("s1", "s2"):
        write_lines(settings.root / session / "events.json", {"e": "x", "timestamp": 5})
    run_once(settings, lambda _: None)
    # appended to an index that is there, and to a source that it knows
    write_lines(settings.root / "s1/events.json", *([] if layout == "file" else [{"e": "y"}]))
    write_lines(settings.root / "s3/events.json", {"e": "x"})
    found = entries(settings)
    assert found[0].id == f"{name}:0"
    with Index(settings.root) as index:
        for entry in found:
            assert index.get(f"{entry.file_path}:{entry.byte_offset}") == entry
            assert index.read(entry)["e"] == entry.event_type
            if layout != "file":
                assert index.get(entry.id) == entry
                assert entry.id == f"{entry.session_id}:{entry.byte_offset}"
        if layout != "file":
            assert find_entry(index, "s2").id == "s2:0"
    assert everything(settings.index_folder) == rebuilt(settings) == rebuilt(settings, workers=2)


def test_an_answer_after_a_restart_has_the_conversation_of_its_request(tmp_path: Path) -> None:
    format = "requests: [ask], answers: [reply], shapes: [{when: {path: e, is: ask}, conversation: [<session>]}]"
    settings = own_settings(tmp_path, "<session>/events.jsonl", format, layout="stream")
    write_lines(settings.root / "s1/events.jsonl", {"e": "ask"})
    entries(settings)
    write_lines(settings.root / "s1/events.jsonl", {"e": "reply"})
    assert [one.conversation_id for one in entries(settings)] == ["s1", "s1"]
    assert everything(settings.index_folder) == rebuilt(settings)


def test_the_file_name_of_a_log_is_no_id_where_ids_begin_with_the_session(tmp_path: Path) -> None:
    settings = own_settings(tmp_path, "<session>/events.jsonl", "author: [by]")
    write_lines(settings.root / "s1/events.jsonl", {"e": "x"})
    entries(settings)
    with Index(settings.root) as index, pytest.raises(EntryNotFound):
        index.get("events:0")


@pytest.mark.parametrize("layout", ["stream", "file"])
def test_a_session_that_the_path_names_is_that_of_every_record(tmp_path: Path, layout: str) -> None:
    settings = own_settings(tmp_path, "<session>/*.json", "session_id: [s]", layout=layout)
    write_lines(settings.root / "s1/log.json", {"e": "x", "s": "other"})
    assert [one.session_id for one in entries(settings)] == ["s1"]


def test_a_part_of_a_path_that_is_not_utf_8_is_kept_as_text(tmp_path: Path) -> None:
    settings = own_settings(tmp_path, "agent-<agent>.jsonl", "author: [<agent>]")
    settings.root.mkdir()
    (settings.root / "agent-\udcff.jsonl").write_text('{"e": "x"}\n')
    assert [one.participating_agents for one in entries(settings)] == [("bytes://%FF",)]


TURNS = """
keep: {room: [room]}, conversation: [<room>], author: [by], correlation: [<turn>], requests: [ask], answers: [reply],
skip: [setting], shapes: [{when: {path: e, is: ask}, correlation: [id], keep: {turn: [id]}}]
""".replace("\n", " ")


def talk(number: int) -> list[dict[str, Any]]:
    """An exchange whose reply names nothing: which request it answers is what was kept."""
    at = 1735500000 + 10.0 * number
    return [
        {"e": "ask", "by": "ann", "id": f"q{number}", "timestamp": at},
        {"e": "reply", "by": "bob", "timestamp": at + 1},
        {"e": "note", "by": "bob", "timestamp": at + 2},
    ]


def test_what_a_skipped_record_says_is_kept_too(tmp_path: Path) -> None:
    settings = own_settings(tmp_path, "*.jsonl", TURNS)
    write_lines(settings.root / "a.jsonl", {"e": "setting", "room": "r1"}, *talk(0), {"room": "no record"})
    assert {one.conversation_id for one in entries(settings)} == {"r1"}


def test_kept_values_hold_across_restarts(tmp_path: Path) -> None:
    settings = own_settings(tmp_path, "*.jsonl", TURNS)
    records = [{"e": "note", "room": "r1"}, *talk(0), {"e": "note", "room": "r2"}, *talk(1)]
    for record in records:
        write_lines(settings.root / "a.jsonl", record)
        found = entries(settings)
    assert {one.conversation_id for one in found} == {"r1"}
    replies = [one.correlation_id for one in found if one.event_type == "reply"]
    assert replies == ["q0", "q1"]
    assert [one.has_response for one in found if one.is_request] == [True, True]
    assert compare(settings).holds


def test_kept_values_of_a_log_that_is_written_anew_are_gone(tmp_path: Path) -> None:
    settings = own_settings(tmp_path, "*.jsonl", TURNS)
    log = settings.root / "a.jsonl"
    write_lines(log, {"e": "note", "room": "r1"}, *talk(0))
    entries(settings)
    log.unlink()
    write_lines(log, *talk(1)[1:])
    assert [(one.conversation_id, one.correlation_id) for one in entries(settings)] == [("a", None)] * 2


def test_kept_values_survive_a_kill_at_any_step(tmp_path: Path) -> None:
    """A child indexes what is appended between its turns, and dies at a step; its successor ends with the rows of a
    rebuild."""
    config = own_settings(tmp_path, "*.jsonl", TURNS)
    chance = random.Random(7)
    number = 0

    def say() -> None:
        nonlocal number
        for name in "ab":
            parts = [{"e": "note", "room": f"r{number}"}, *talk(number)]
            write_lines(config.root / f"{name}.jsonl", *parts[: chance.randint(1, 4)])
            number += 1

    def live() -> None:
        with root_locked(config, "run"), open_sidecar(config, lambda _: None) as (sidecar, _):
            now = time.time()
            for _ in range(3):
                say()
                now += 60
                while sidecar.step(now):
                    pass
            sidecar.close()

    say()
    run_once(config, lambda _: None)
    killed = 0
    for _ in range(25):
        step = chance.randint(1, 150)

        def doomed(step: int = step) -> None:
            death = Death(step)
            of_files(config.index_folder, death.at)
            of_stages(death.at)
            live()

        killed += died(in_a_child(doomed))
        for _ in range(6):  # what the child said is random too
            chance.randint(1, 4)
        number += 6
    assert killed > 10
    with Stepped(config) as stepped:
        stepped.turn()
    assert everything(config.index_folder) == rebuilt(config)
    assert compare(config).holds
