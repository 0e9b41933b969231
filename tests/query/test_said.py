"""What was said in a record, by the places of a format or by the usual ones."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Any

import orjson
import pytest

from helpers.support import command, eventually, running, write_lines
from sidecar import Index
from sidecar.bulk.rebuild import reindex
from sidecar.config.formats import load_formats
from sidecar.config.settings import Settings, load_settings
from sidecar.config.yaml_nodes import parse_yaml
from sidecar.errors import ConfigError
from sidecar.said import note_of, places_in, said
from sidecar.service.lock import root_locked
from sidecar.service.supervisor import run_once


@pytest.mark.parametrize(
    ("record", "text"),
    [
        ({"event": "completion:request", "data": {"prompt": "Is it done?", "agent_id": "a"}}, "Is it done?"),
        ({"event": "completion:result", "data": {"response": "Yes."}}, "Yes."),
        ({"ksi": {}, "response": {"type": "result", "result": "Ack"}}, "Ack"),
        ({"data": {"result": {"ksi": {}, "response": {"result": "Ack"}}}}, "Ack"),
        ({"type": "DIRECT_MESSAGE", "content": "dm 9"}, "dm 9"),
        ({"data": {"agent_id": "a", "message": {"role": "user", "content": "hi"}}}, "hi"),
        ({"kind": "ask", "sender": {"id": "planner"}, "body": "Is it done?"}, "Is it done?"),
        ({"event": "agent:spawn", "data": {"agent_id": "a"}}, ""),
        ({"data": {"prompt": "  ", "text": 5, "response": {"response": {"response": {"response": {}}}}}}, ""),
    ],
)
def test_without_places_the_words_of_a_record_are_looked_for_where_they_usually_stand(
    record: dict[str, Any], text: str
) -> None:
    assert said(record, None) == text


TEXT = """["message.content", "message.content[type=text].text", [a.b, c], "{tool}: {input.command}"]"""
CONFIG = """
root: logs
preset: none
sources:
  - {name: own, glob: "*.jsonl", layout: stream, format: mine}
  - {name: rest, glob: "*/*", layout: stream, format: it}
formats:
  mine: {event_type: [e], conversation: [in], timestamp: [t], text: PLACES}
  it: {extends: mine, author: [by]}
"""
PARTS = [{"type": "text", "text": "one"}, {"type": "image"}, {"type": "text", "text": "two\nthree"}]
RECORDS: list[tuple[dict[str, Any], str]] = [
    ({"message": {"content": "plain"}, "prompt": "elsewhere"}, "plain"),
    ({"message": {"content": PARTS}}, "one\ntwo\nthree"),
    ({"message": {"content": "same"}, "a.b": {"c": "same"}}, "same"),
    ({"tool": "Bash", "input": {"command": "ls"}, "message": {"content": " "}}, "Bash: ls"),
    ({"prompt": "elsewhere", "tool": "Bash"}, ""),
]


def own(folder: Path, places: str = TEXT) -> Settings:
    (folder / "config.yaml").write_text(CONFIG.replace("PLACES", places))
    return load_settings(folder / "config.yaml")


@pytest.fixture
def talk(tmp_path: Path) -> Settings:
    settings = own(tmp_path)
    for number, (record, _) in enumerate(RECORDS):
        write_lines(settings.root / "a.jsonl", {"e": "note", "in": "c1", "t": 1735500000 + number, **record})
    run_once(settings, lambda _: None)
    return settings


def texts(settings: Settings) -> list[str]:
    with Index(settings.root) as index:
        return [index.text(entry) for entry in index.timeline()]


def test_an_index_finds_what_was_said_by_the_formats_places_without_the_settings(talk: Settings) -> None:
    assert texts(talk) == [text for _, text in RECORDS]


def test_a_rebuilt_index_and_a_format_that_extends_another_know_the_places_too(talk: Settings) -> None:
    write_lines(talk.root / "sub/b.log", {"e": "note", "t": 1735500100, "message": {"content": "below"}})
    with root_locked(talk, "reindex"):
        reindex(talk, 1)
    assert texts(talk) == [*(text for _, text in RECORDS), "below"]


def test_places_that_change_need_no_rebuild(talk: Settings, tmp_path: Path) -> None:
    before = (talk.index_folder / "daily/2024-12-29.db").stat().st_ino
    other = own(tmp_path, "[prompt]")
    assert other.fingerprint == talk.fingerprint
    run_once(other, lambda _: None)
    assert texts(other) == ["elsewhere", "", "", "", "elsewhere"]
    assert (talk.index_folder / "daily/2024-12-29.db").stat().st_ino == before


@pytest.mark.usefixtures("talk")
def test_a_conversation_prints_what_was_said_and_no_more(tmp_path: Path) -> None:
    ask = command("--config", tmp_path / "config.yaml", "query", "conversation", "c1")
    out = subprocess.run(ask, capture_output=True, check=True, text=True).stdout
    said_lines = [line.strip() for line in out.splitlines() if line.startswith(" " * 10)]
    assert said_lines[:5] == ["plain", "one", "two", "three", "same"]
    assert "elsewhere" not in out.replace('"prompt": "elsewhere"', "")
    as_json = subprocess.run([*ask, "--json"], capture_output=True, check=True, text=True).stdout
    assert [orjson.loads(line)["text"] for line in as_json.splitlines()] == [text for _, text in RECORDS]


@pytest.mark.parametrize("as_json", [True, False])
def test_followed_entries_come_with_their_text(talk: Settings, tmp_path: Path, as_json: bool) -> None:
    config = ("--config", tmp_path / "config.yaml")
    with (
        running(talk.root, *map(str, config)),
        subprocess.Popen(
            command(*config, "follow", "--text", *(["--json"] if as_json else [])),
            stdout=subprocess.PIPE,
            env={**os.environ, "PYTHONUNBUFFERED": "1"},
        ) as follow,
    ):
        try:
            assert follow.stdout is not None
            os.set_blocking(follow.stdout.fileno(), False)
            seen = b""

            def has_come() -> bool:
                nonlocal seen
                write_lines(talk.root / "a.jsonl", {"e": "note", "in": "c1", "message": {"content": "just now"}})
                seen += follow.stdout.read() or b""
                return b"just now" in seen

            eventually(has_come)
        finally:
            follow.kill()
    if as_json:
        assert orjson.loads(seen.splitlines()[0])["text"] == "just now"
    else:
        assert seen.splitlines()[1].strip() == b"just now"


@pytest.mark.parametrize(
    ("places", "message"),
    [
        ("[<agent>]", "formats.mine.text[0]: expected a place in the record itself, found `<agent>`"),
        ('[a, "{<turn>}: {b}"]', "formats.mine.text[1]: expected a place in the record itself, found `<turn>`"),
        ("[a.]", "formats.mine.text[0]: expected a place"),
        ("a", "formats.mine.text: expected a list of places, found `a`"),
    ],
)
def test_wrong_places_of_the_text_are_refused(tmp_path: Path, places: str, message: str) -> None:
    with pytest.raises(ConfigError) as refused:
        own(tmp_path, places)
    assert message in str(refused.value)


@pytest.mark.parametrize(
    "note", ["", "5", "[5]", "{}", '[["a"]]', '[[5, ["a"]]]', '[["../a", ["b"]]]', '[["*", ["a..b"]]]', '[["*", [[]]]]']
)
def test_a_note_that_nobody_wrote_counts_as_none(note: str) -> None:
    assert places_in(note, "a") is None


def test_the_first_source_that_matches_a_path_has_its_text() -> None:
    note = note_of([("a/*", ("x",)), ("a/<b>.log", ("y",)), ("**/*", None)])
    assert [places_in(note, path) for path in ("a/c.log", "b/c.log", "d")] == [(("x",),), None, None]


def test_text_is_no_part_of_the_fingerprint() -> None:
    one, other = (load_formats(parse_yaml(f"a: {{event_type: [e]{more}}}", "f"))["a"] for more in ("", ", text: [a]"))
    assert one.fingerprint == other.fingerprint
