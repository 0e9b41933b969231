"""`sidecar doctor --suggest`: the draft for a log of unknown shape is accepted as it is, and reads the log sensibly."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st

from helpers.support import write_lines
from sidecar import Entry, Index, SidecarError
from sidecar.cli.app import cli
from sidecar.config.settings import Settings, load_settings
from sidecar.health.suggest import suggest
from sidecar.service.supervisor import run_once

SAMPLES = Path(__file__).parent.parent / "samples" / "home"


def drafted(log: Path, folder: Path) -> Settings:
    config = folder / "config.yaml"
    config.write_text(suggest(log))
    return load_settings(config, index=folder / "index")


def entries(log: Path, folder: Path) -> list[Entry]:
    chosen = drafted(log, folder)
    run_once(chosen, lambda _: None)
    with Index(chosen.root, index=folder / "index") as index:
        assert not list(index.rejected())
        return list(index.timeline())


def waiting(found: list[Entry]) -> list[str]:
    return [entry.event_type for entry in found if entry.requests_response and not entry.has_response]


def bus(kind: str, sender: str, to: str | None, stage: str, text: str) -> dict[str, Any]:
    """A line of a log that writes each message when it is sent and when it is delivered, without times and ids."""
    return {
        "payload": text,
        "sender": sender,
        "receiver": to,
        "kind": f"Kind.{kind}",
        "stage": stage,
        "type": "Message",
    }


def test_messages_without_ids_and_times_get_a_sender_a_receiver_and_what_asks(tmp_path: Path) -> None:
    said = [
        ("DIRECT", "lead", "scout", "Look at the hill"),
        ("RESPOND", "scout", "lead", "There is a tower"),
        ("DIRECT", "lead", "smith", "Make a ladder"),
        ("PUBLISH", "lead", "all", "We have seen a tower"),
    ]
    both = [bus(*one[:3], stage, one[3]) for one in said for stage in ("SEND", "DELIVER")]
    write_lines(tmp_path / "logs" / "talk.jsonl", *both)
    found = entries(tmp_path / "logs" / "talk.jsonl", tmp_path)
    assert [(one.event_type, one.author, one.addressees) for one in found] == [
        ("Kind.DIRECT", "lead", ("scout",)),
        ("Kind.RESPOND", "scout", ("lead",)),
        ("Kind.DIRECT", "lead", ("smith",)),
        ("Kind.PUBLISH", "lead", ("all",)),
    ], "each message once"
    assert waiting(found) == ["Kind.DIRECT"]


def test_ids_that_stand_in_records_of_two_kinds_link_them(tmp_path: Path) -> None:
    records: list[dict[str, Any]] = []
    for n in range(6):
        at = 1_790_000_000 + 10 * n
        head = {"session": {"id": f"s{n % 2}"}, "who": {"agent": "ann"}}
        records.append({**head, "what": {"kind": "fetch"}, "kind": "fetch", "ticket": f"t-{n}", "time": at})
        if n < 5:
            records.append({**head, "kind": "fetched", "ticket": f"t-{n}", "time": at + 3.5})
    write_lines(tmp_path / "logs" / "work.ndjson", *records)
    found = entries(tmp_path / "logs" / "work.ndjson", tmp_path)
    assert {one.session_id for one in found} == {"s0", "s1"}
    assert {one.author for one in found} == {"ann"}
    assert found[0].timestamp == 1_790_000_000
    assert waiting(found) == ["fetch"] and len(found) == 11


def test_records_of_one_file_each_are_looked_at_together(tmp_path: Path) -> None:
    folder = SAMPLES / ".openhands" / "conversations" / "4a3b2c1d000040008000000000000001" / "events"
    log = sorted(folder.iterdir())[4]
    draft = suggest(log)
    assert "layout: file" in draft and "the preset `openhands`" in draft.lower()
    found = entries(log, tmp_path)
    assert len(found) == 13
    assert ("agent", ("tool:terminal",)) in {(one.author, one.addressees) for one in found}


@pytest.mark.parametrize(
    "log", [p for p in sorted(SAMPLES.rglob("*.json*")) if p.name != "base_state.json"], ids=lambda p: p.name[:24]
)
def test_the_draft_for_any_sample_is_accepted_and_takes_every_record(log: Path, tmp_path: Path) -> None:
    chosen = drafted(log, tmp_path)
    assert chosen.source_for(log.name) is not None


def test_each_line_says_what_it_is_guessed_from(tmp_path: Path) -> None:
    log = tmp_path / "a.jsonl"
    write_lines(log, *({"type": "ask", "from": f"agent{n % 2}", "text": "Is it done?"} for n in range(4)))
    draft = suggest(log)
    assert "event_type: [type]" in draft and "# in 4 of 4 records: ask" in draft
    assert "author: [from]" in draft and "No times were found" in draft
    assert "requests: [ask]" in draft and "# by its name" in draft


def test_the_command_prints_the_draft_alone(tmp_path: Path) -> None:
    log = tmp_path / "a.jsonl"
    write_lines(log, {"event": "x"})
    done = CliRunner().invoke(cli, ["doctor", "--suggest", str(log)])
    assert (done.exit_code, done.stdout) == (0, suggest(log))
    as_json = CliRunner().invoke(cli, ["doctor", "--suggest", str(log), "--json"])
    assert json.loads(as_json.stdout) == {"schema_version": 1, "config": suggest(log)}
    assert CliRunner().invoke(cli, ["doctor", "--suggest", str(tmp_path / "nowhere")]).exit_code == 2


@pytest.mark.parametrize("content", [b"", b"hello\n", b"[1]\n", b"\xff\xfe{\x00"])
def test_a_file_without_records_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.jsonl").write_bytes(content)
    with pytest.raises(SidecarError, match="contains no JSON object"):
        suggest(tmp_path / "a.jsonl")


KEYS = st.sampled_from(
    ["type", "from", "to", "id", "ts", "a.b", "x[y]", "{z}", "text", "\n", "é", ": #", "role", "'\""]
)
VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-5, 2**70)
    | st.floats()
    | st.sampled_from(["a", "user", "\x00", "# x\n- y", "2026-01-01"]),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(KEYS, inner, max_size=3),
    max_leaves=6,
)


@settings(max_examples=30, deadline=None)
@given(st.lists(st.dictionaries(KEYS, VALUES, max_size=5), min_size=1, max_size=8))
def test_whatever_the_records_hold_the_draft_is_accepted(
    tmp_path_factory: pytest.TempPathFactory, records: Any
) -> None:
    folder = tmp_path_factory.mktemp("any")
    (folder / "logs").mkdir()
    (folder / "logs" / "x.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    try:
        config = suggest(folder / "logs" / "x.jsonl")
    except SidecarError:
        return  # nothing but numbers that JSON does not have
    (folder / "config.yaml").write_text(config)
    source = load_settings(folder / "config.yaml").source_for("x.jsonl")
    assert source is not None
    for record in records:
        assert source.format.extract(record) is not None
