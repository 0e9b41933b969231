"""P3: nothing is lost in silence. Every byte of every file is in the sum, and where it is not, status says so."""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import astuple, replace
from pathlib import Path
from typing import Any

import pytest

from helpers.corpora import BASE, write_tree
from helpers.support import HANG, Stepped, eventually, once, reference, running, write_lines
from sidecar.config.settings import Settings, load_settings
from sidecar.health.status import SourceStatus, Status, status_of
from sidecar.service.lock import RootLock
from sidecar.service.supervisor import rebuild, run_once

SESSION = "responses/sessions/s.jsonl"
RECORD = b'{"event":"agent:spawn","timestamp":1735500000}\n'


def index_tree(settings: Settings) -> None:
    """Index what is there, as `sidecar run --once` does."""
    run_once(settings, lambda _: None)


def total_of(root: Path, *patterns: str) -> int:
    return sum(path.stat().st_size for pattern in patterns for path in root.glob(pattern))


def adds_up(found: Status) -> bool:
    """P3, and the same of every file."""
    files = (file for file in found.source_list if file.status != "missing")
    each = all(
        file.size == file.indexed + file.blank + file.rejected + file.skipped + file.waiting + file.behind
        for file in files
    )
    total, *parts = astuple(found.bytes)
    return each and total == sum(parts) + found.behind_bytes


def only_file(root: Path) -> SourceStatus:
    (file,) = status_of(reference(root), sources=True).source_list
    return file


# ---- the sum


def test_the_sum_of_a_tree_with_every_oddity_adds_up(tmp_path: Path) -> None:
    write_tree(tmp_path, 10, sessions=8, lines=150, events=40)
    settings = reference(tmp_path)
    before = status_of(settings, sources=True)
    assert not before.healthy
    assert before.behind_bytes > 0
    index_tree(settings)
    found = status_of(settings, sources=True)
    assert adds_up(found)
    assert found.bytes.total == total_of(tmp_path, "responses/sessions/*", "events/*/*")
    assert all((found.bytes.indexed, found.bytes.blank, found.bytes.rejected, found.bytes.waiting))
    assert (found.sources, found.behind_bytes, found.missing) == (48, 0, 0)
    assert (found.healthy, found.reasons) == (True, ())
    assert found.entries > 800
    assert found.rejected > 20
    assert found.days == len(list((tmp_path / "index" / "daily").glob("*.db")))


def test_the_files_are_listed_only_when_they_are_asked_for(tmp_path: Path) -> None:
    write_lines(tmp_path / SESSION, RECORD)
    index_tree(reference(tmp_path))
    assert status_of(reference(tmp_path)).source_list == ()
    assert [file.path for file in status_of(reference(tmp_path), sources=True).source_list] == [SESSION]


def test_bytes_of_a_line_are_counted_where_they_went_and_its_end_with_them(tmp_path: Path) -> None:
    write_lines(tmp_path / SESSION, RECORD, b"\r\n", b"not json\n", b"   \n", b'{"event":"torn')
    index_tree(reference(tmp_path))
    file = only_file(tmp_path)
    assert (file.indexed, file.blank, file.rejected, file.skipped) == (len(RECORD), 6, 9, 0)
    assert (file.waiting, file.behind, file.entries, file.status) == (14, 0, 1, "ok")


def test_bytes_that_a_format_skips_are_counted_as_skipped(tmp_path: Path) -> None:
    root = tmp_path / "logs"
    repeated = b'{"event_name":"monitor:broadcast_event","timestamp":1735500000,"data":{}}\n'
    write_lines(root / "events/2024-12-29/events.jsonl", repeated, b'{"event_name":"system:startup","timestamp":1}\n')
    settings = load_settings(root=root, preset="ksi-daemon")
    index_tree(settings)
    found = status_of(settings, sources=True)
    assert (found.bytes.skipped, found.entries, found.healthy) == (len(repeated), 1, True)
    assert adds_up(found)


def test_an_unfinished_last_line_waits_and_is_no_illness(tmp_path: Path) -> None:
    write_lines(tmp_path / SESSION, RECORD, RECORD[:-1])
    index_tree(reference(tmp_path))
    found = status_of(reference(tmp_path))
    assert (found.bytes.waiting, found.behind_bytes, found.healthy) == (len(RECORD) - 1, 0, True)


def test_lines_that_are_not_indexed_are_behind_and_a_reason_where_nobody_indexes_them(tmp_path: Path) -> None:
    write_lines(tmp_path / SESSION, RECORD)
    index_tree(reference(tmp_path))
    write_lines(tmp_path / SESSION, RECORD, b'{"torn')
    long_ago = time.time() - 100
    os.utime(tmp_path / SESSION, (long_ago, long_ago))
    found = status_of(reference(tmp_path), sources=True)
    assert found.behind_bytes == len(RECORD) + 6
    assert (found.healthy, found.source_list[0].status) == (False, "behind")
    assert "no sidecar is running" in found.reasons[0]
    assert 100 <= found.lag_seconds < 130
    assert adds_up(found)


def test_a_file_never_seen_is_behind_with_all_its_whole_lines(tmp_path: Path) -> None:
    write_lines(tmp_path / SESSION, RECORD)
    index_tree(reference(tmp_path))
    write_lines(tmp_path / "responses/sessions/new.jsonl", RECORD)
    write_lines(tmp_path / "responses/sessions/torn.jsonl", RECORD[:-1])
    write_lines(tmp_path / "responses/sessions/empty.jsonl", b"")
    files = {file.path.rpartition("/")[2]: file for file in status_of(reference(tmp_path), sources=True).source_list}
    assert (files["new.jsonl"].status, files["new.jsonl"].behind) == ("behind", len(RECORD))
    assert (files["torn.jsonl"].status, files["torn.jsonl"].waiting) == ("ok", len(RECORD) - 1)
    assert (files["empty.jsonl"].status, files["empty.jsonl"].size) == ("ok", 0)


def test_a_file_that_is_gone_is_missing_and_its_bytes_are_in_no_sum(tmp_path: Path) -> None:
    write_lines(tmp_path / SESSION, RECORD)
    write_lines(tmp_path / "responses/sessions/gone.jsonl", RECORD)
    index_tree(reference(tmp_path))
    (tmp_path / "responses/sessions/gone.jsonl").unlink()
    for _ in range(2):  # before a sidecar has noticed, and after
        found = status_of(reference(tmp_path), sources=True)
        assert (found.missing, found.sources, found.entries) == (1, 2, 2)
        assert found.bytes.total == found.bytes.indexed == len(RECORD)
        assert (found.source_list[0].status, found.source_list[0].size) == ("missing", 0)
        assert adds_up(found)
        index_tree(reference(tmp_path))


def test_a_truncated_file_is_behind_until_it_is_looked_at(tmp_path: Path) -> None:
    write_lines(tmp_path / SESSION, RECORD, RECORD)
    index_tree(reference(tmp_path))
    os.truncate(tmp_path / SESSION, len(RECORD))
    assert only_file(tmp_path).status == "behind"
    assert not status_of(reference(tmp_path)).healthy
    index_tree(reference(tmp_path))
    assert (only_file(tmp_path).indexed, status_of(reference(tmp_path)).healthy) == (len(RECORD), True)


# ---- event files

EVENT = "events/2024-12-29/evt_1735500000_spawn.json"


def test_an_event_file_that_does_not_parse_waits_and_then_is_rejected(tmp_path: Path) -> None:
    write_lines(tmp_path / EVENT, b'{"event":')
    with Stepped(reference(tmp_path)) as sidecar:
        sidecar.turn(0)
        file = only_file(tmp_path)
        assert (file.waiting, file.rejected, file.status) == (9, 0, "ok")
        sidecar.turn(10)
        file = only_file(tmp_path)
        assert (file.waiting, file.rejected, file.status) == (0, 9, "ok")
    assert status_of(reference(tmp_path)).rejected == 1


def test_a_waiting_event_file_that_was_finished_since_is_behind(tmp_path: Path) -> None:
    write_lines(tmp_path / EVENT, b'{"event":')
    with Stepped(reference(tmp_path)) as sidecar:
        sidecar.turn(0)
    write_lines(tmp_path / EVENT, b'"agent:spawn"}')
    file = only_file(tmp_path)
    assert (file.waiting, file.behind, file.status) == (0, 23, "behind")
    once(reference(tmp_path))
    assert (only_file(tmp_path).indexed, only_file(tmp_path).status) == (23, "ok")


@pytest.mark.parametrize("content", [b"", b" ", b"{}", b"[]", b'{"event":"x"}', b'{"event":"x"}\n'])
def test_an_event_file_never_seen_is_behind_and_then_accounted_for_whole(tmp_path: Path, content: bytes) -> None:
    write_lines(tmp_path / EVENT, content)
    assert (only_file(tmp_path).behind, only_file(tmp_path).waiting) == (len(content), 0)
    with Stepped(reference(tmp_path)) as sidecar:
        sidecar.turn()
    found = status_of(reference(tmp_path), sources=True)
    assert (found.behind_bytes, found.healthy) == (0, found.entries == 1)
    assert found.bytes.total == found.bytes.indexed + found.bytes.rejected == len(content)
    assert adds_up(found)


# ---- health


def test_a_root_without_an_index_is_not_healthy(tmp_path: Path) -> None:
    found = status_of(reference(tmp_path))
    assert (found.healthy, found.reasons[-1], found.sources) == (False, "there is no index yet", 0)
    assert "empty" in found.reasons[0]
    assert list(tmp_path.iterdir()) == []


def test_a_root_that_is_no_folder_is_a_reason(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for name, why in (("nowhere", "it does not exist"), ("file", "it is not a directory")):
        found = status_of(reference(tmp_path / name))
        assert not found.healthy
        assert any(reason == f"cannot read {tmp_path / name}: {why}" for reason in found.reasons)


TAMPERINGS: list[tuple[str, str]] = [
    ("UPDATE source SET indexed = indexed - 1", "does not add up"),
    ("UPDATE source SET blank = 5", "does not add up"),
    ("UPDATE source SET offset = offset + 40", "does not add up"),
]


@pytest.mark.parametrize(("sql", "reason"), TAMPERINGS)
def test_a_catalog_whose_counts_do_not_add_up_is_not_healthy(tmp_path: Path, sql: str, reason: str) -> None:
    write_lines(tmp_path / SESSION, RECORD)
    index_tree(reference(tmp_path))
    with closing(sqlite3.connect(tmp_path / "index" / "catalog.db")) as catalog, catalog:
        catalog.execute(sql)
    found = status_of(reference(tmp_path), sources=True)
    assert not found.healthy
    assert reason in found.reasons[0]
    assert SESSION in found.reasons[0]
    assert found.source_list[0].status == "wrong"


def spoiled(path: Path) -> None:
    path.write_bytes(b"no database at all" * 1_000)


@pytest.mark.parametrize(
    ("name", "harm", "reason"),
    [
        ("catalog.db", Path.unlink, "no index yet"),
        ("catalog.db", spoiled, "catalog.db"),
        ("daily/2024-12-29.db", Path.unlink, "2024-12-29 is missing"),
    ],
)
def test_an_index_with_a_file_missing_or_damaged_is_not_healthy(
    tmp_path: Path, name: str, harm: Callable[[Path], Any], reason: str
) -> None:
    write_lines(tmp_path / SESSION, RECORD)
    index_tree(reference(tmp_path))
    assert status_of(reference(tmp_path)).healthy
    harm(tmp_path / "index" / name)
    found = status_of(reference(tmp_path))
    assert not found.healthy
    assert any(reason in one for one in found.reasons)


@pytest.mark.skipif(os.getuid() == 0, reason="root may read everything")
def test_a_folder_that_cannot_be_read_is_a_reason(tmp_path: Path) -> None:
    write_lines(tmp_path / SESSION, RECORD)
    index_tree(reference(tmp_path))
    folder = tmp_path / "responses/sessions"
    folder.chmod(0)
    found = status_of(reference(tmp_path))
    folder.chmod(0o755)
    assert any("cannot read" in reason for reason in found.reasons)


# ---- sources that nothing comes of


def test_a_root_in_which_no_source_finds_a_file_is_not_healthy(tmp_path: Path) -> None:
    write_lines(tmp_path / "other/s.jsonl", RECORD)
    index_tree(reference(tmp_path))
    (reason,) = status_of(reference(tmp_path)).reasons
    assert reason.startswith(f"no file below {tmp_path} belongs to a source")
    assert "responses/sessions/*.jsonl, events/*/evt_*.json" in reason


def test_a_source_of_rejected_lines_alone_is_a_reason_and_one_of_some_is_none(tmp_path: Path) -> None:
    write_lines(tmp_path / SESSION, b"no json\n", b"nor this\n")
    index_tree(reference(tmp_path))
    assert status_of(reference(tmp_path)).reasons == ("every line of the source sessions is rejected, in 1 file",)
    write_lines(tmp_path / EVENT, b'{"event":"x"}')
    index_tree(reference(tmp_path))
    assert status_of(reference(tmp_path)).reasons == ("every line of the source sessions is rejected, in 1 file",)
    write_lines(tmp_path / SESSION, RECORD)
    index_tree(reference(tmp_path))
    assert status_of(reference(tmp_path)).healthy


def test_logs_without_any_record_are_not_healthy_and_those_that_are_not_indexed_yet_say_only_that(
    tmp_path: Path,
) -> None:
    write_lines(tmp_path / SESSION, b'{"event":"tor')
    index_tree(reference(tmp_path))
    assert status_of(reference(tmp_path)).reasons == (f"there is no record in the logs below {tmp_path} yet",)
    write_lines(tmp_path / SESSION, b'n"}\n')
    (reason,) = status_of(reference(tmp_path)).reasons
    assert "bytes are not indexed" in reason


# ---- who runs


def test_a_running_sidecar_is_named_and_says_how_it_watches(tmp_path: Path) -> None:
    write_lines(tmp_path / SESSION, RECORD)
    with running(tmp_path) as process:
        eventually(lambda: status_of(reference(tmp_path)).healthy)
        found = status_of(reference(tmp_path))
        assert (found.running, found.watching) == (process.pid, "inotify")
    assert status_of(reference(tmp_path)).running is None


def test_a_polling_sidecar_says_so(tmp_path: Path) -> None:
    config = tmp_path / "config.yaml"
    config.write_text("root: logs\npolling: true\n")
    write_lines(tmp_path / "logs" / SESSION, RECORD)
    settings = load_settings(config)
    assert status_of(settings).watching == "polling"
    with running(tmp_path / "logs", "--config", str(config)):
        eventually(lambda: status_of(settings).healthy)
        assert status_of(replace(settings, polling=False)).watching == "polling"


def test_the_lag_is_of_what_readers_see_and_not_of_what_is_saved(root: Path) -> None:
    event = root / "events/2024-12-29/evt_1735500000.0_agent_spawn.json"
    with Stepped(replace(reference(root), checkpoint_interval=30.0)) as stepped:
        write_lines(root / SESSION, RECORD)
        stepped.turn()  # ends in a checkpoint, and the next one is far away
        write_lines(root / SESSION, RECORD, b'{"torn')
        write_lines(event, RECORD)
        stepped.turn(seconds=10.0)
        for log in (root / SESSION, event):
            os.utime(log, (BASE, BASE))
        seen = status_of(stepped.settings)
        assert seen.behind_bytes > 0  # not saved
        assert seen.lag_seconds == 0.0
        write_lines(root / SESSION, b'"}', RECORD)
        os.utime(root / SESSION, (BASE, BASE))
        assert status_of(stepped.settings).lag_seconds > 1e6


def test_lines_that_a_running_sidecar_leaves_too_long_are_a_reason_and_fresh_ones_are_none(tmp_path: Path) -> None:
    write_lines(tmp_path / SESSION, RECORD)
    settings = reference(tmp_path)
    index_tree(settings)
    write_lines(tmp_path / SESSION, RECORD)
    lock = RootLock(settings.index_folder)
    lock.acquire("run")  # one that does nothing
    try:
        # However long this process has to wait for a processor, the line is fresh.
        os.utime(tmp_path / SESSION, (time.time() + HANG,) * 2)
        fresh = status_of(settings)
        assert (fresh.running, fresh.healthy, fresh.behind_bytes) == (os.getpid(), True, len(RECORD))
        assert fresh.lag_seconds == 0.0
        os.utime(tmp_path / SESSION, (BASE, BASE))
        late = status_of(settings)
        assert not late.healthy
        assert "the oldest wait for" in late.reasons[0]
    finally:
        lock.release()


def test_a_rebuild_is_no_running_sidecar(tmp_path: Path) -> None:
    write_lines(tmp_path / SESSION, RECORD)
    settings = reference(tmp_path)
    lock = RootLock(settings.index_folder)
    lock.acquire("reindex")
    try:
        assert status_of(settings).running is None
    finally:
        lock.release()
    rebuild(settings, 1, lambda _: None)
    assert status_of(settings).healthy
