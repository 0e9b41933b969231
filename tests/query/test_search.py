"""Search in the logs: compared with a plain model that decodes every record, and what becomes of files that changed."""

from __future__ import annotations

import json
import os
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from helpers.archives import AT_ONCE, aged, session
from helpers.corpora import BASE, write_tree
from helpers.support import reference, write_lines
from sidecar import BadSearch, Index, SourceChanged, SourceMissing
from sidecar.archive.job import archive
from sidecar.query import search as search_module
from sidecar.search.folding import find_folded
from sidecar.search.wanted import Words
from sidecar.service.supervisor import rebuild, run_once

SESSION = "responses/sessions/s.jsonl"
PIECES = [*"aAeEsSkKiIzZ09 ", "ß", "ẞ", "ſ", "K", "ﬁ", "ﬃ", "İ", "ı", "ŉ", "ǰ", "é", "É", "e\u0301", "Σ", "ς", "σ"]
PIECES += [
    "Ж",
    "ж",
    "人",
    "😀",
    "𐐀",
    "𐐨",
    '"',
    "\\",
    "/",
    "\n",
    "\t",
    "\x1b",
    "\x7f",
    "<",
    "\ufffd",
    "ΐ",
    "ss",
    "fi",
    "the ",
]
TEXTS = st.lists(st.sampled_from(PIECES), max_size=12).map("".join)
NEEDLES = st.lists(st.sampled_from(PIECES), min_size=1, max_size=4).map("".join)


def indexed(root: Path) -> Path:
    run_once(reference(root), lambda _: None)
    return root


def said(n: int, text: Any, moment: float | None = None, **more: Any) -> dict[str, Any]:
    data = {"agent_id": f"agent_{n % 3}", "prompt": text, **more}
    return {"event": "note", "timestamp": BASE + n if moment is None else moment, "data": data}


def texts_of(value: Any) -> Iterator[str]:
    """Every string value in a record."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list):
        for one in value.values() if isinstance(value, dict) else value:
            yield from texts_of(one)


class Model:
    """What a search finds, by decoding every record."""

    def __init__(self, index: Index) -> None:
        self._index = index
        self._texts = {one.id: [text.casefold() for text in texts_of(index.read(one))] for one in index.timeline()}

    def search(self, needle: str, **asked: Any) -> list[str]:
        """The ids of the hits, latest first."""
        wanted = needle.casefold()
        entries = self._index.timeline(**asked, reverse=True)
        return [one.id for one in entries if any(wanted in text for text in self._texts[one.id])]


def found(root: Path, needle: str, **asked: Any) -> list[str]:
    with Index(root) as index:
        return [hit.id for hit in index.search(needle, **asked)]


def as_json(record: Any, style: int) -> bytes:
    """A record as different writers write it: in UTF-8, in ASCII, with `\\/`, with every letter escaped."""
    if style == 0:
        return orjson.dumps(record)
    text = json.dumps(record)
    if style == 2:
        text = text.replace("/", "\\/")
    if style == 3:
        strings = json.dumps(record, ensure_ascii=False)
        units = "".join(
            one if one in '{}[]:," \\' or (ord(one) < 128 and not one.isalpha()) else _escaped(one) for one in strings
        )
        try:
            json.loads(units)
        except ValueError:
            return text.encode()
        text = units
    return text.encode()


def _escaped(character: str) -> str:
    data = character.encode("utf-16-be")
    return "".join(f"\\u{data[at : at + 2].hex().upper()}" for at in range(0, len(data), 2))


# ---- what is found


@given(TEXTS, NEEDLES)
def test_bytes_never_rule_out_a_record_that_has_the_text(text: str, needle: str) -> None:
    wanted = Words(needle)
    has_it = needle.casefold() in text.casefold()
    assert (wanted.find(text) is not None) == has_it
    for style in range(4):
        claimed: list[int] = []

        def claim(at: int, claimed: list[int] = claimed) -> int:
            claimed.append(at)
            return at + 1

        if wanted.can_rule_out:
            wanted.sweep(as_json({"x": text}, style), claim)
            assert claimed or not has_it, (style, as_json({"x": text}, style))


@given(TEXTS, NEEDLES)
def test_a_match_is_the_shortest_part_of_the_text_that_folds_into_it(text: str, needle: str) -> None:
    span = find_folded(text, needle.casefold())
    if span is not None:
        begin, end = span
        assert needle.casefold() in text[begin:end].casefold()
        assert needle.casefold() not in text[begin + 1 : end].casefold()
        assert needle.casefold() not in text[begin : end - 1].casefold()


def test_a_search_finds_what_decoding_every_record_finds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(search_module, "FIRST_SLICE", 16)
    monkeypatch.setattr(search_module, "LARGEST_SLICE", 64)
    chance = random.Random(4)
    write_tree(tmp_path, 3, sessions=4, lines=20, events=5)
    for number in range(8):
        path = tmp_path / f"responses/sessions/words_{number}.jsonl"
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("ab") as log:
            for n in range(40):
                text = "".join(chance.choices(PIECES, k=chance.randrange(30)))
                record = said(
                    n, text, BASE + chance.randrange(3) * 40_000 + n // 4, more=[{"deep": [text[::-1], 7, None]}]
                )
                log.write(as_json(record, chance.randrange(4)) + chance.choice([b"\n", b"\r\n", b" \n"]))
    write_lines(tmp_path / "responses/sessions/words_x.jsonl", *[b'{"event":"x","data":{"a":"caf\xff the K"}}'])
    indexed(tmp_path)
    needles = [
        "the",
        "s",
        "ss",
        "ﬁ",
        "k",
        "é",
        '"',
        "\\",
        "\n",
        "/",
        "人",
        "ж",
        "the Z",
        "\ufffd",
        "agent_a",
        "σς",
        "e\u0301",
    ]
    needles += ["".join(chance.choices(PIECES, k=2)) for _ in range(20)] + ["nowhere at all"]
    hits = 0
    with Index(tmp_path) as index:
        model = Model(index)
        for needle in needles:
            expected = model.search(needle)
            assert [hit.id for hit in index.search(needle)] == expected, needle
            hits += len(expected)
        for asked in (
            {"agent": "agent_1"},
            {"session": "words_3", "since": BASE + 5},
            {"since": BASE + 3, "until": BASE + 40_010},
            {"until": BASE + 80_007},
            {"conversation": "words_4"},
            {"event_type": "note", "since": BASE + 79_999},
        ):
            expected = model.search("s", **asked)
            assert [hit.id for hit in index.search("s", **asked)] == expected and expected, asked
    assert hits > 500


def test_a_hit_is_the_entry_and_tells_where_the_text_is(tmp_path: Path) -> None:
    record = said(0, "Der Fluß steigt.", also=[{"x": "fluss"}])
    indexed_root = indexed(_with(tmp_path, record))
    with Index(indexed_root) as index:
        (hit,) = index.search("FLUSS", context=4)
        assert hit == index.get(hit.id) and index.get(hit.id) == hit
        assert (hit.place, hit.before, hit.match, hit.after) == ("data.prompt", "Der ", "Fluß", " ste")
        assert index.read(hit) == record


def test_what_was_said_comes_before_other_places_that_match(tmp_path: Path) -> None:
    record = {"event": "note", "timestamp": BASE, "kind": "echo", "data": {"list": ["", "echo"], "prompt": "an Echo"}}
    with Index(indexed(_with(tmp_path, record))) as index:
        (hit,) = index.search("echo")
        assert (hit.place, hit.match) == ("data.prompt", "Echo")
        (hit,) = index.search("^echo$", regex=True)
        assert hit.place == "kind"


def test_keys_and_numbers_are_not_texts(tmp_path: Path) -> None:
    root = indexed(_with(tmp_path, said(0, "x", secret_key=12345)))
    assert found(root, "secret_key") == [] and found(root, "12345") == []


def test_a_regular_expression_ignores_case_and_finds_what_the_words_find(tmp_path: Path) -> None:
    root = indexed(_with(tmp_path, said(0, "Error 404\nnot found"), said(1, "error 5"), said(2, "none")))
    assert found(root, r"ERROR \d+", regex=True) == found(root, "ERROR ")
    assert len(found(root, r"error \d{3}", regex=True)) == 1
    assert len(found(root, r"404\nNOT", regex=True)) == 1


def test_a_record_as_deep_as_a_record_may_be_is_searched(tmp_path: Path) -> None:
    line = b'{"event":"note","deep":%s"at the bottom"%s}\n' % (b"[" * 1_000, b"]" * 1_000)
    assert found(indexed(_with(tmp_path, line)), "the bottom") == ["s:0"]


@pytest.mark.parametrize(("text", "regex"), [("", False), ("x" * 10_001, False), ("(", True), ("[z-a]", True)])
def test_what_cannot_be_looked_for_is_refused(tmp_path: Path, text: str, regex: bool) -> None:
    root = indexed(_with(tmp_path, said(0, "x")))
    with Index(root) as index, pytest.raises(BadSearch, match=r"^text: "):
        index.search(text, regex=regex)


# ---- the latest first, as much as is asked for


def test_hits_come_the_latest_first_and_no_more_than_asked_for(tmp_path: Path) -> None:
    root = indexed(_with(tmp_path, *(said(n, "word", BASE + n * 3_000) for n in range(40))))
    with Index(root) as index:
        times = [hit.timestamp for hit in index.search("word")]
        assert times == sorted(times, reverse=True) and len(times) == 40
        assert [hit.timestamp for hit in index.search("word", limit=3)] == times[:3]


# ---- where the bytes are now


def test_an_archived_log_is_searched_and_so_is_what_was_appended_behind_it(tmp_path: Path) -> None:
    root = tmp_path / "logs"
    path = session(root, lines=400)
    settings = reference(root)
    indexed(root)
    before = found(root, "xxxx")
    assert archive(settings, AT_ONCE).archived and not path.exists()
    with Index(root) as index:
        assert [hit.id for hit in index.search("xxxx")] == before == Model(index).search("xxxx")
        write_lines(path, said(999, "XXXX again", BASE + 999))
        indexed(root)
        assert len(list(index.search("xxxx"))) == len(before) + 1
        assert [hit.id for hit in index.search("xx", regex=True)] == Model(index).search("xx")


def test_a_log_that_grew_since_it_was_indexed_is_searched_as_far_as_it_was(tmp_path: Path) -> None:
    root = indexed(_with(tmp_path, said(0, "one word")))
    write_lines(root / SESSION, said(1, "another word"))
    assert len(found(root, "word")) == 1


def test_bytes_that_changed_are_an_error_and_never_a_hit_or_a_silent_miss(tmp_path: Path) -> None:
    root = indexed(_with(tmp_path, said(0, "one word"), said(1, "more text")))
    path = root / SESSION
    path.write_bytes(path.read_bytes().replace(b"one word", b"one WORK").replace(b"more text", b"one word!"))
    with pytest.raises(SourceChanged):
        found(root, "word")
    with pytest.raises(SourceChanged):
        found(root, "nothing of it")


def test_a_log_that_is_gone_is_an_error_or_told_once_and_the_rest_is_searched(tmp_path: Path) -> None:
    write_lines(tmp_path / "responses/sessions/gone.jsonl", said(5, "word"), said(6, "word"), said(7, "other"))
    root = indexed(_with(tmp_path, said(0, "word")))
    (root / "responses/sessions/gone.jsonl").unlink()
    with pytest.raises(SourceMissing, match=r"gone\.jsonl"):
        found(root, "word")
    told: list[Exception] = []
    assert found(root, "word", unreadable=told.append) == ["s:0"]
    assert [type(one) for one in told] == [SourceMissing]


def test_a_search_goes_on_in_an_index_that_is_swapped_in_meanwhile(tmp_path: Path) -> None:
    for number in range(4):
        path = tmp_path / f"responses/sessions/s{number}.jsonl"
        write_lines(path, *(said(n, f"word {number}", BASE + n * 600 + number) for n in range(150)))
    indexed(tmp_path)
    with Index(tmp_path) as index:
        expected = [hit.id for hit in index.search("word")]
        hits = index.search("word")
        first = [next(hits).id for _ in range(10)]
        os.utime(tmp_path / "responses/sessions/s2.jsonl", (1, 1))
        rebuild(reference(tmp_path), 1, lambda _: None)
        assert first + [hit.id for hit in hits] == expected


def test_nothing_is_left_behind(tmp_path: Path) -> None:
    root = indexed(_with(tmp_path, said(0, "word")))
    before = sorted((path, path.stat().st_mtime_ns) for path in root.rglob("*") if "-shm" not in path.name)
    assert found(root, "word")
    assert sorted((path, path.stat().st_mtime_ns) for path in root.rglob("*") if "-shm" not in path.name) == before


def _with(root: Path, *records: Any) -> Path:
    write_lines(root / SESSION, *records)
    aged(root / SESSION, 1.0)
    return root
