"""Days that have nothing of what is asked for are not opened, and none that has something is passed over."""

from __future__ import annotations

import random
import sqlite3
import subprocess
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from helpers.archives import aged, archived, event, session, take_in
from helpers.corpora import BASE, DAY
from helpers.support import Stepped, command, indexed, reference, running, scratch, write_lines
from sidecar import Index
from sidecar.archive.compact import compact_copy
from sidecar.archive.job import ArchiveOptions
from sidecar.config.settings import Settings
from sidecar.query.catalog_reader import CatalogReader
from sidecar.query.day_reader import DayReader
from sidecar.service.request_values import ArchiveRequest, to_json
from sidecar.store.bloom import BLOCK_BYTES, KEYS_PER_BLOCK, build_filter, probe

DAYS = 20
"""More than a ledger keeps open."""
LOG = "responses/sessions/s{}.jsonl"


@given(st.lists(st.text(max_size=20), max_size=300))
def test_a_filter_never_denies_what_is_there(texts: list[str]) -> None:
    blocks = build_filter(texts)
    for text in texts:
        asked = probe(text)
        assert asked.hits(blocks[asked.number % len(blocks)])


def test_a_filter_is_small_and_seldom_wrong() -> None:
    names = [f"req_{number:08x}" for number in random.Random(1).sample(range(1 << 32), 20_000)]
    blocks = build_filter(names)
    assert sum(map(len, blocks)) == -(-len(names) // KEYS_PER_BLOCK) * BLOCK_BYTES
    others = [probe(f"agent_{number}") for number in range(20_000)]
    wrong = sum(one.hits(blocks[one.number % len(blocks)]) for one in others)
    assert wrong / len(others) < 0.002


# ---- through the library


@pytest.fixture
def settings() -> Iterator[Settings]:
    """An agent, a session, a conversation and a request a day; archived, so that all but today has a filter."""
    with scratch() as folder:
        yield made(folder / "logs")


def made(root: Path) -> Settings:
    for number in range(DAYS):
        data = {"agent_id": f"agent_{number}", "to_agent": "everybody", "conversation_id": f"conv_{number}"}
        record = {"event": "completion:request", "timestamp": BASE + DAY * number, "correlation_id": f"c{number}"}
        answer = {"event": "completion:result", "timestamp": BASE + DAY * number, "correlation_id": f"c{number}"}
        write_lines(root / LOG.format(number), {**record, "data": data})
        if number != 2:
            write_lines(root / LOG.format(number), answer)
    event(root, 0, agent_id="agent_0")
    aged(root)
    settings = reference(root)
    take_in(settings)
    archived(settings)
    with closing(CatalogReader(settings.index_folder / "catalog.db")) as catalog:
        assert len(catalog.filtered()) == DAYS
    return settings


@contextmanager
def opened_days(monkeypatch: pytest.MonkeyPatch) -> Iterator[set[str]]:
    """The daily files that are opened meanwhile."""
    seen: set[str] = set()
    making = DayReader.__init__

    def noted(self: DayReader, path: Path) -> None:
        seen.add(path.stem)
        making(self, path)

    with monkeypatch.context() as patched:
        patched.setattr(DayReader, "__init__", noted)
        yield seen


QUESTIONS: list[tuple[Any, int]] = [
    (lambda index: index.timeline(agent="nobody"), 0),
    (lambda index: index.timeline(agent="agent_3"), 1),
    (lambda index: index.timeline(agent="agent_3", session="s4"), 0),
    (lambda index: index.timeline(agent="everybody"), DAYS),
    (lambda index: index.timeline(event_type="no:such"), 0),
    (lambda index: index.timeline(pattern="no such"), 0),
    (lambda index: index.conversation("nowhere"), 0),
    (lambda index: index.conversation("conv_1"), 1),
    (lambda index: index.exchange("nothing"), 0),
    (lambda index: index.exchange("c5"), 1),
    (lambda index: index.find_peer_interactions("nobody", "99999d"), 0),
    (lambda index: index.get_agent_role_history("agent_1", "nowhere"), 0),
    (lambda index: index.find_pending_requests(None), 1),
    (lambda index: index.get_session_participants("nowhere"), 0),
    (lambda index: index.get_session_participants("s2"), 1),
    (lambda index: [index.get("s4:0")], 1),
    (lambda index: [index.get(f"evt_{BASE}.000_note:0")], 1),
    (lambda index: [index.get(f"{LOG.format(4)}:0")], 1),
]


def test_only_days_that_have_it_are_opened(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    found = []
    for ask, days in QUESTIONS:
        with Index(settings.root) as index, opened_days(monkeypatch) as seen:
            found.append(list(ask(index)))
        assert len(seen) == days
    with closing(sqlite3.connect(settings.index_folder / "catalog.db")) as catalog:
        catalog.execute("DELETE FROM filtered_day")
        catalog.commit()
    with Index(settings.root) as index:
        assert [list(ask(index)) for ask, _ in QUESTIONS] == found


def test_what_comes_late_to_a_day_is_found_at_once(settings: Settings) -> None:
    late = {"event": "agent:say", "data": {"agent_id": "latecomer"}, "timestamp": BASE + DAY * 3}
    with Stepped(settings) as stepped, Index(settings.root) as index:
        assert not list(index.timeline(agent="latecomer"))
        write_lines(settings.root / LOG.format("late"), late)
        stepped.turn(0.0)
        stepped.turn(6.0)
        assert len(list(index.timeline(agent="latecomer"))) == 1
    take_in(settings)
    archived(settings)
    with Index(settings.root) as index:
        assert len(list(index.timeline(agent="latecomer"))) == 1


def test_a_late_answer_counts_as_written_on_the_day_of_its_request(settings: Settings) -> None:
    """The request is of a day that has a filter; its answer, of another day, changes what that day holds."""
    data = {"data": {"agent_id": "agent_2"}, "timestamp": BASE + DAY * 5, "correlation_id": "named late"}
    request = {"event": "completion:request", "data": {"agent_id": "agent_9"}, "timestamp": BASE + DAY * 4}
    write_lines(settings.root / LOG.format("open"), request)
    take_in(settings)
    archived(settings)
    write_lines(settings.root / LOG.format("open"), {"event": "completion:result", **data})
    take_in(settings)
    with Index(settings.root) as index:
        assert len(list(index.exchange("named late"))) == 2


def test_a_crash_behind_late_rows_leaves_no_filter_that_denies_them(settings: Settings) -> None:
    late = {"event": "agent:say", "data": {"agent_id": "latecomer"}, "timestamp": BASE + DAY * 3}
    write_lines(settings.root / LOG.format("late"), late)
    stepped = Stepped(settings)
    stepped.sidecar.open()
    stepped.sidecar.step(stepped.now)
    stepped.sidecar.abandon()  # rows committed, and no checkpoint
    take_in(settings)
    with Index(settings.root) as index:
        assert len(list(index.timeline(agent="latecomer"))) == 1


# ---- old days made small


def test_a_day_that_was_made_small_is_one_that_nobody_needs_to_write_to_for_reading(settings: Settings) -> None:
    for path in (settings.index_folder / "daily").iterdir():
        assert path.suffix == ".db"
        with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as day:
            assert day.execute("PRAGMA journal_mode").fetchone() == ("delete",)
            assert day.execute("PRAGMA freelist_count").fetchone() == (0,)
            assert day.execute("SELECT COUNT(*) FROM ksi_index").fetchone()[0] >= 1


def test_a_day_is_made_small_once_and_again_when_it_was_written_to(settings: Settings) -> None:
    path = settings.index_folder / "daily/2024-12-29.db"
    assert archived(settings).compacted == []
    inode = path.stat().st_ino
    write_lines(settings.root / LOG.format("late"), {"event": "agent:say", "timestamp": BASE})
    take_in(settings)
    assert [one.day for one in archived(settings).compacted] == ["2024-12-29"]
    assert path.stat().st_ino != inode


def test_a_copy_of_a_day_that_was_written_to_since_is_not_taken(settings: Settings) -> None:
    """Rows that come or go between the copy and the taking of it: neither may be undone."""
    day = settings.index_folder / "daily/2024-12-29.db"
    more, less = LOG.format("more"), LOG.format(0)
    write_lines(settings.root / more, {"event": "agent:say", "timestamp": BASE})
    take_in(settings)
    for change in (lambda: write_lines(settings.root / more, {"event": "agent:say", "timestamp": BASE}), None):
        with Stepped(settings) as stepped:
            stepped.turn()
            ledger = stepped.sidecar._open_writer()
            made = compact_copy(settings.index_folder, day, 10**6)
            assert made is not None
            if change is not None:
                change()
                stepped.turn()
            else:
                ledger.drop([less])
            rows = stepped.rows
            assert ledger.compact([made]) == {"2024-12-29": "it has changed"}
            assert stepped.rows == rows
    assert indexed(settings.root) == rows


def test_a_day_that_somebody_reads_is_left_until_the_next_run(settings: Settings) -> None:
    """The old file's write-ahead log cannot go while it is open, and would be taken for the new file's."""
    path = settings.index_folder / "daily/2024-12-29.db"
    write_lines(settings.root / LOG.format("more"), {"event": "agent:say", "timestamp": BASE})
    with Stepped(settings) as stepped:
        stepped.turn()
        inode, rows = path.stat().st_ino, stepped.rows
        made = compact_copy(settings.index_folder, path, 10**6)
        assert made is not None
        with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as reader:
            assert reader.execute("SELECT COUNT(*) FROM entry").fetchone()[0] > 1
            assert stepped.sidecar._open_writer().compact([made]) == {"2024-12-29": "somebody reads it"}
        assert (path.stat().st_ino, stepped.rows) == (inode, rows)
    assert [one.day for one in archived(settings).compacted] == ["2024-12-29"]
    assert path.stat().st_ino != inode and indexed(settings.root) == rows


def test_a_day_of_which_not_all_is_saved_is_not_copied(settings: Settings) -> None:
    with Stepped(settings) as stepped:
        write_lines(settings.root / LOG.format("more"), {"event": "agent:say", "timestamp": BASE})
        stepped.turn()
        saved = stepped.sidecar._open_writer()._catalog.checkpoint
        day = settings.index_folder / "daily/2024-12-29.db"
        assert compact_copy(settings.index_folder, day, saved - 1) is None
        assert compact_copy(settings.index_folder, day, saved) is not None


def test_a_request_that_leads_out_of_the_index_folder_moves_nothing(settings: Settings) -> None:
    day = settings.index_folder / "daily/2024-12-29.db"
    with Stepped(settings) as stepped:
        stepped.turn()
        made = compact_copy(settings.index_folder, day, 10**6)
        assert made is not None
        (settings.index_folder / made.copy).rename(settings.root.parent / "elsewhere.db")
        refused = stepped.sidecar._open_writer().compact([made._replace(copy="../../elsewhere.db")])
        assert "leaves" in refused["2024-12-29"]
    assert (settings.root.parent / "elsewhere.db").exists()


@pytest.mark.parametrize("put", [Path.unlink, lambda copy: (copy.unlink(), copy.mkdir())], ids=["gone", "folder"])
def test_a_request_whose_copy_cannot_be_used_is_refused_and_the_sidecar_goes_on(
    settings: Settings, put: Callable[[Path], object]
) -> None:
    with Stepped(settings) as stepped:
        stepped.turn()
        made = compact_copy(settings.index_folder, settings.index_folder / "daily/2024-12-29.db", 10**6)
        assert made is not None
        put(settings.index_folder / made.copy)
        requests = settings.index_folder / "requests"
        requests.mkdir()
        (requests / "x.json").write_bytes(to_json(ArchiveRequest(days=(made,))))
        stepped.turn()
        assert "cannot be used" in (requests / "x.done").read_text()
        before = len(stepped.rows)
        write_lines(settings.root / LOG.format("more"), {"event": "agent:say", "timestamp": BASE})
        stepped.turn()
        assert len(stepped.rows) == before + 1 and not stepped.sidecar.faults.current


def test_days_that_are_not_old_keep_their_files(tmp_path: Path) -> None:
    root = tmp_path / "logs"
    session(root)
    take_in(reference(root))
    assert archived(reference(root), ArchiveOptions(age=99_999 * 86_400.0)).compacted == []


def test_a_reader_that_has_a_day_open_goes_on_and_a_running_sidecar_writes_on(settings: Settings) -> None:
    root = settings.root
    session(root, "more", lines=400)
    take_in(settings)
    with Index(root) as index, running(root, "--preset", "reference"):
        entries = index.timeline()
        first = next(entries)
        arguments = ("--root", root, "--preset", "reference", "archive", "--older-than", "0")
        subprocess.run(command(*arguments), check=True, capture_output=True)
        assert len([first, *entries]) == 400 + 266 + 1 + 2 * DAYS - 1 + 1
        assert all(index.read(one) for one in index.timeline(limit=20))
