"""What programs pass to the library: wrong kinds are named, and long or impossible ids do what they should."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from helpers.support import once, reference, write_lines
from sidecar import BadArgument, BadSearch, EntryNotFound, Index, SidecarError

LONG = "agent of a long name " * 100
HUGE = 1 << 70
LONE = "half \ud83d"


@pytest.fixture
def index(root: Path) -> Iterator[Index]:
    data = {"agent_id": LONG, "to_agent": "b", "role": LONG, "conversation_id": LONG}
    record = {"event": "a:request", "timestamp": 1735500000, "correlation_id": LONG, "data": data}
    write_lines(root / "responses/sessions/s.jsonl", record)
    once(reference(root))
    with Index(root) as index:
        yield index


WRONG: list[tuple[str, type[SidecarError], Callable[[Index], Any]]] = [
    ("id", BadArgument, lambda index: index.get(5)),  # type: ignore[arg-type]
    ("entry", BadArgument, lambda index: index.read("s:0")),  # type: ignore[arg-type]
    ("entry", BadArgument, lambda index: index.read_bytes(None)),  # type: ignore[arg-type]
    ("entry", BadArgument, lambda index: index.names_text({})),  # type: ignore[arg-type]
    ("entry", BadArgument, lambda index: index.text(b"s:0")),  # type: ignore[arg-type]
    ("agent", BadArgument, lambda index: index.timeline(agent=HUGE)),  # type: ignore[call-overload]
    ("session", BadArgument, lambda index: index.timeline(session=["s"])),  # type: ignore[call-overload]
    ("pattern", BadArgument, lambda index: index.follow(pattern=b"team")),  # type: ignore[arg-type]
    ("limit", BadArgument, lambda index: index.timeline(limit=-1)),
    ("limit", BadArgument, lambda index: index.waiting(limit="5")),  # type: ignore[arg-type]
    ("limit", BadArgument, lambda index: index.search("x", limit=HUGE)),
    ("id", BadArgument, lambda index: index.conversation(None)),  # type: ignore[arg-type]
    ("correlation_id", BadArgument, lambda index: index.exchange({})),  # type: ignore[arg-type]
    ("to", BadArgument, lambda index: index.waiting(to=1)),  # type: ignore[arg-type]
    ("by", BadArgument, lambda index: index.waiting(by=["b"])),  # type: ignore[arg-type]
    ("agent_id", BadArgument, lambda index: index.find_peer_interactions(None, 300)),  # type: ignore[arg-type]
    ("agent_id", BadArgument, lambda index: index.get_agent_role_history([], "s")),  # type: ignore[arg-type]
    ("session_id", BadArgument, lambda index: index.get_agent_role_history("b", HUGE)),  # type: ignore[arg-type]
    ("session_id", BadArgument, lambda index: index.get_session_participants(HUGE)),  # type: ignore[arg-type]
    ("status", BadArgument, lambda index: index.sessions("complete")),
    ("day", BadArgument, lambda index: index.day_stamp("2024-12-29\0")),
    ("day", BadArgument, lambda index: index.day_stamp("../2024-12-29")),
    ("context", BadArgument, lambda index: index.search("x", context=HUGE)),
    ("poll", BadArgument, lambda index: index.follow(poll=float("nan"))),
    ("text", BadSearch, lambda index: index.search(b"x")),  # type: ignore[arg-type]
    ("text", BadSearch, lambda index: index.search(LONE)),
]


@pytest.mark.parametrize(("argument", "error", "call"), WRONG)
def test_an_argument_of_the_wrong_kind_is_named_at_the_call(
    index: Index, argument: str, error: type[SidecarError], call: Callable[[Index], Any]
) -> None:
    with pytest.raises(error, match=rf"^`?{argument}\b") as wrong:
        call(index)
    assert wrong.value.exit_status == 2 and len(str(wrong.value)) < 300


def test_an_id_of_any_length_finds_what_it_names(index: Index) -> None:
    (entry,) = index.timeline()
    assert len(entry.initiating_agent) < 100 < len(LONG)
    for whole in (LONG, entry.initiating_agent):
        found = [
            *index.timeline(agent=whole),
            *index.conversation(whole),
            *index.exchange(whole),
            *index.waiting(by=whole),
        ]
        assert found == [entry] * 4
        assert [one["role"] for one in index.get_agent_role_history(whole, "s")] == [entry.agent_roles[entry.author]]
        assert len(index.find_peer_interactions(whole, "20000d")) == 1
        assert [*index.search("agent of a", agent=whole)] == [entry]


def test_an_id_that_no_record_can_have_finds_nothing(index: Index) -> None:
    assert [*index.timeline(agent=LONE), *index.conversation(LONE), *index.exchange(LONE)] == []
    assert [*index.waiting(to=LONE)] == []
    assert index.get_session_participants(LONE) == index.get_agent_role_history(LONE, LONE) == []
    with pytest.raises(EntryNotFound, match=re.escape(repr(LONE + ":0"))):
        index.get(LONE + ":0")


def test_an_id_with_half_of_a_character_is_found_as_the_index_has_it(root: Path) -> None:
    line = '{"event": "a:b", "timestamp": 1735500000, "data": {"agent_id": "half \\ud83d"}}\n'
    (root / "responses" / "sessions").mkdir(parents=True, exist_ok=True)
    (root / "responses" / "sessions" / "s.jsonl").write_text(line)
    once(reference(root))
    with Index(root) as index:
        assert [entry.author for entry in index.timeline(agent=LONE)] == ["half \ufffd"]
