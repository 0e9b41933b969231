"""What is archived gets small and stays findable: same entries, same bytes, same index when it is made anew."""

from __future__ import annotations

import os
import shutil
import signal
import sqlite3
import subprocess
import tarfile
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import orjson
import pytest

from helpers.archives import (
    COMPLETED,
    SAMPLES,
    aged,
    archived,
    event,
    files,
    known,
    ksi,
    logs,
    mixed,
    same,
    session,
    take_in,
    where,
)
from helpers.corpora import BASE
from helpers.support import Stepped, command, eventually, everything, rebuilt, reference, running, scratch, write_lines
from sidecar import Index, SidecarError
from sidecar.archive import remove as removal
from sidecar.archive.job import ArchiveOptions, archive, preview
from sidecar.bulk.rebuild import reindex
from sidecar.config.settings import Settings, load_settings
from sidecar.errors import ArchiveDamaged, ArchiveMissing, ConfigError, IndexMissing, RootLocked, SourceMissing
from sidecar.fs import FileStat, fingerprint
from sidecar.health.status import status_of
from sidecar.health.verify import compare
from sidecar.logs.archive_file import Archive
from sidecar.logs.archive_format import write
from sidecar.query.filters import Filter
from sidecar.query.follow import Follower
from sidecar.records import Extent, Move, Report
from sidecar.service.lock import RootLock
from sidecar.writer import SessionWriter

LOG = "responses/sessions/s.jsonl"
ENTRY = {"event": "agent:say", "data": {"agent_id": "agent_9"}, "timestamp": BASE + 100}


@pytest.fixture
def tmp_path() -> Iterator[Path]:
    """Somewhere quick: every archive is synced."""
    with scratch() as folder:
        yield folder


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "var" / "logs"


def reasons(done: Any) -> dict[str, str]:
    return {Path(path).name: why for path, why in done.kept}


# ---- nothing that was findable stops being so


def everything_stays(settings: Settings) -> None:
    """Archive, and compare what can be asked before, after, rebuilt, and rebuilt without the old index."""
    before = known(settings)
    sums = status_of(settings)
    sizes = {path: (settings.root / path).stat().st_size for path in logs(settings.root)}
    done = archived(settings)
    assert done.archived and not done.deleted
    gone = sizes.keys() - set(logs(settings.root))
    assert len(gone) == sum(one.logs for one in done.archived)
    assert sum(one.log_bytes for one in done.archived) == sum(sizes[path] for path in gone)
    assert same(known(settings), before)
    assert where(rebuilt(settings)) == where(before.index)
    found = compare(settings)
    assert found.holds and found.pointers == len(before.records) and not found.missing_sources
    said = status_of(settings, sources=True)
    assert (said.bytes, said.sources, said.entries) == (sums.bytes, sums.sources, sums.entries)
    assert {one.path for one in said.source_list if one.status == "archived"} == gone
    assert not said.missing and not said.behind_bytes
    reindex(settings, 2)
    assert same(known(settings), before)
    take_in(settings)
    assert same(known(settings), before)
    assert not archived(settings).archived


def test_after_archiving_a_mixed_tree_every_entry_is_there_as_before(root: Path) -> None:
    settings = mixed(root)
    everything_stays(settings)
    assert {Path(file).parts[0] for file in files(settings)} == {"sessions", "events"}


@pytest.mark.skipif(not SAMPLES.is_dir(), reason="the samples of the real daemon are not here")
def test_so_it_is_with_the_logs_of_the_real_daemon(root: Path) -> None:
    ksi(root)
    settings = load_settings(root=root, preset="ksi-daemon")
    take_in(settings)
    everything_stays(settings)
    assert "events/events_2024-11-23.tar.zst" in files(settings)


def test_an_index_that_is_lost_is_made_again_from_logs_and_archives(root: Path) -> None:
    session(root)
    write_lines(root / "responses/sessions/timeless.jsonl", {"event": "agent:say"}, {**COMPLETED, "timestamp": None})
    event(root, 1)
    aged(root, 5)
    settings = reference(root)
    take_in(settings)
    before = known(settings)
    archived(settings)
    assert logs(root) == []
    shutil.rmtree(settings.index_folder)
    take_in(settings)
    assert same(known(settings), before)  # with the time that the file had when it was first seen


def test_other_programs_open_what_is_archived(root: Path) -> None:
    log, one, other = session(root, lines=2_000), event(root, 1), event(root, 2, text="ü" * 900)
    content = {path.relative_to(root).as_posix(): path.read_bytes() for path in (log, one, other)}
    settings = reference(root)
    take_in(settings)
    archived(settings)
    packed = settings.archive / "sessions/2024-12-29/s.jsonl.zst"
    with Archive(settings.archive) as folder:
        assert folder.read("sessions/2024-12-29/s.jsonl.zst", 0, 1 << 30) == content[LOG]
    if shutil.which("zstd") is None:
        pytest.skip("no zstd here")
    unpacked = subprocess.run(["zstd", "-dc", packed], capture_output=True, check=True)
    assert unpacked.stdout == content[LOG]
    tar = settings.archive / "events/events_2024-12-29.tar.zst"
    out = settings.archive / "out"
    out.mkdir()
    subprocess.run(["tar", "--zstd", "-xf", tar, "-C", out], check=True)
    assert {path: (out / path).read_bytes() for path in logs(out)} == {
        path: data for path, data in content.items() if path != LOG
    }
    assert (out / one.relative_to(root)).stat().st_mtime < time.time() - 9 * 86_400


def test_names_that_no_text_can_hold_are_archived_and_found(root: Path) -> None:
    (root / "events/2024-12-29").mkdir(parents=True)
    folder = os.fsencode(root / "events/2024-12-29")
    for name in (b"evt_1735500000.5_n\xff.json", b"evt_1735500001.5_" + b"n" * 220 + b".json"):
        with open(os.path.join(folder, name), "wb") as file:
            file.write(orjson.dumps({"event": "note"}))
    log = session(root)
    log.rename(os.fsdecode(os.fsencode(log.parent) + b"/s\xfe.jsonl"))
    aged(root)
    settings = reference(root)
    take_in(settings)
    before = known(settings)
    assert len(before.records) == 36
    archived(settings)
    assert logs(root) == []
    assert same(known(settings), before) and where(rebuilt(settings)) == where(before.index)
    with closing(Archive(settings.archive)) as folder_:
        data = folder_.read("events/events_2024-12-29.tar.zst", 0, 1 << 20)
    (settings.archive / "t.tar").write_bytes(data)
    with tarfile.open(settings.archive / "t.tar", errors="surrogateescape") as tar:
        assert len(tar.getnames()) == 2


def test_sessions_of_one_name_from_two_folders_lie_side_by_side(root: Path) -> None:
    config = root.parent / "config.yaml"
    root.mkdir(parents=True)
    config.write_text(
        "root: logs\npreset: none\nsources:\n  - {name: all, glob: '**/*.jsonl', layout: session, format: reference}\n"
    )
    for folder in "abc":
        write_lines(root / folder / "s.jsonl", {**ENTRY, "folder": folder}, COMPLETED)
    aged(root)
    settings = load_settings(config)
    take_in(settings)
    before = known(settings)
    archived(settings)
    assert logs(root) == [] and len(files(settings)) == 3
    assert same(known(settings), before) and where(rebuilt(settings)) == where(before.index)


def test_a_folder_of_a_day_that_gets_late_files_gets_another_archive(root: Path) -> None:
    event(root, 1)
    settings = reference(root)
    take_in(settings)
    archived(settings)
    assert not (root / "events/2024-12-29").exists()
    event(root, 2)
    take_in(settings)
    before = known(settings)
    archived(settings)
    assert files(settings) == ["events/events_2024-12-29.2.tar.zst", "events/events_2024-12-29.tar.zst"]
    assert logs(root) == [] and same(known(settings), before)
    assert where(rebuilt(settings)) == where(before.index)


def test_long_lines_lie_in_the_archive_as_in_the_log(root: Path) -> None:
    settings = reference(root, max_line_bytes=1_300_000)
    long = {**ENTRY, "text": "x" * 1_200_000}
    too_long = {**ENTRY, "text": "y" * 2_500_000}
    write_lines(root / LOG, ENTRY, long, ENTRY, too_long, ENTRY, b"no json\n", b"\n", COMPLETED)
    event(root, 1, text="z" * 1_500_000)
    event(root, 2, text="z" * 1_100_000)
    aged(root)
    take_in(settings)
    before = known(settings)
    assert [one.reason for one in before.index.rejected] == ["too-long", "too-long", "not-json"]
    archived(settings)
    assert logs(root) == [] and same(known(settings), before)
    assert where(rebuilt(settings)) == where(before.index)


# ---- what stays, and why


def test_what_cannot_go_stays_and_the_reason_is_told(root: Path) -> None:
    session(root, "goes")
    session(root, "active", completed=False)
    aged(session(root, "young"), 0.1)
    waiting = session(root, "waiting")
    write_lines(waiting, b'{"event": "half')
    aged(waiting)
    session(root, "held")
    (root / "responses/sessions/empty.jsonl").touch()
    event(root, 1)
    aged(event(root, 2, "2024-12-30"), 0.1)
    event(root, 3, "2024-12-30")
    event(root, 4, time.strftime("%Y-%m-%d", time.gmtime()))
    settings = reference(root)
    with SessionWriter(root, "held", "agent_h"):
        aged(root / "responses/sessions/held.jsonl")
        take_in(settings)
        session(root, "later")
        grown = session(root, "grown")
        take_in(settings)
        write_lines(grown, ENTRY)
        aged(grown)
        session(root, "new")
        everywhere = [preview(settings, ArchiveOptions()), archive(settings, ArchiveOptions())]
    for done in everywhere:
        told = reasons(done)
        assert "agent_h" in told.pop("held.jsonl")
        assert told == {
            "active.jsonl": "not completed",
            "young.jsonl": "changed a short time ago",
            "waiting.jsonl": "its last line is incomplete",
            "empty.jsonl": "not completed",
            "grown.jsonl": "not indexed to its end",
            "new.jsonl": "not indexed yet",
            f"evt_{BASE + 2}.000_note.json": "changed a short time ago",
            f"evt_{BASE + 3}.000_note.json": "changed a short time ago",
            f"evt_{BASE + 4}.000_note.json": "its day is not over",
        }
        assert sum(one.logs for one in done.archived) == 3
    assert all((root / "responses/sessions" / name).exists() for name in told if name.endswith("l"))


def test_a_log_that_disappears_while_it_is_archived_stops_none_of_the_others(root: Path) -> None:
    gone, stays = session(root, "a", lines=4_000), session(root, "b")
    settings = reference(root)
    take_in(settings)

    def delete(_: Report) -> None:  # once the first piece of an archive has been written
        gone.unlink(missing_ok=True)

    done = archive(settings, ArchiveOptions(age=0.0), delete)
    assert reasons(done) == {"a.jsonl": "cannot be read: No such file or directory"}
    assert [one.file for one in done.archived] == ["sessions/2024-12-29/b.jsonl.zst"] == files(settings)
    assert not stays.exists()
    assert not list(settings.archive.rglob("*.part"))


def test_a_log_that_somebody_has_open_for_writing_stays(root: Path) -> None:
    log = session(root)
    settings = reference(root)
    take_in(settings)
    with log.open("ab", buffering=0) as daemon:
        assert reasons(archived(settings)) == {"s.jsonl": "somebody has it open for writing"}
        daemon.write(orjson.dumps(ENTRY) + b"\n")
    assert files(settings) == []
    aged(log)
    take_in(settings)
    assert not archived(settings).kept


def test_a_stream_goes_with_the_folder_of_its_day_and_stays_elsewhere(root: Path) -> None:
    settings = load_settings(root=root, preset="ksi-daemon")
    record = {"timestamp": BASE, "event_name": "agent:spawn", "data": {"agent_id": "a"}}
    for path in ("events/2024-12-29/events.jsonl", "events/2024-12-30/events.jsonl"):
        write_lines(root / path, *[{**record, "timestamp": BASE + number} for number in range(500)])
    write_lines(root / "responses/message_bus.jsonl", {"type": "m", "from": "a", "to": "b", "timestamp": "2024-12-29"})
    aged(root)
    take_in(settings)
    before = known(settings)
    assert reasons(archived(settings)) == {"message_bus.jsonl": "not in a folder named after a day"}
    assert files(settings) == ["events/events_2024-12-29.tar.zst", "events/events_2024-12-30.tar.zst"]
    assert same(known(settings), before) and where(rebuilt(settings)) == where(before.index)


def test_a_dry_run_changes_nothing(root: Path) -> None:
    settings = mixed(root, lines=30)

    def everywhere() -> dict[str, tuple[int, int]]:
        return {
            str(one): (one.stat().st_size, one.stat().st_mtime_ns)
            for one in root.parent.rglob("*")
            if one.is_file() and not one.name.endswith(("-shm", "-wal"))
        }

    before = everywhere()
    done = preview(settings, ArchiveOptions(age=0, keep=0.0, keep_size=0))
    assert done.archived and done.kept and not settings.archive.exists()
    assert everywhere() == before


# ---- a session that goes on


def continued(root: Path, settings: Settings, *more: Any) -> None:
    """A session, archived, that its writer opens again and goes on with."""
    session(root)
    take_in(settings)
    archived(settings)
    assert logs(root) == []
    write_lines(root / LOG, *more)


GOES_ON = (
    {"event": "completion:result", "correlation_id": "s-3", "data": {"agent_id": "agent_1"}, "timestamp": BASE + 200},
    {"event": "agent:say", "data": {"agent_id": "agent_0", "to_agent": "agent_1"}, "timestamp": BASE + 201},
    {"event": "completion:request", "data": {"agent_id": "agent_2"}, "timestamp": BASE + 202},
)


def test_a_session_that_goes_on_is_one_session(root: Path, tmp_path: Path) -> None:
    settings = reference(root)
    continued(root, settings, *GOES_ON)
    take_in(settings)
    found = known(settings)
    assert len(found.records) == 34 + 3
    # The very rows of a log that was never archived.
    whole = tmp_path / "whole/logs"
    session(whole)
    write_lines(whole / LOG, *GOES_ON)
    take_in(reference(whole))
    assert same(found, known(reference(whole)))
    with Index(root) as index:
        assert [one.lives_in for one in index.sessions()] == ["log, archive"]
    # So when it is rebuilt, and with nothing but logs and archives left, and when it was archived again.
    assert where(rebuilt(settings)) == where(found.index)
    shutil.rmtree(settings.index_folder)
    take_in(settings)
    assert same(known(settings), found)
    assert compare(settings).holds and status_of(settings).bytes.total == (whole / LOG).stat().st_size
    aged(root / LOG)
    take_in(settings)
    archived(settings)
    assert logs(root) == []
    assert files(settings) == ["sessions/2024-12-29/s.2.jsonl.zst", "sessions/2024-12-29/s.jsonl.zst"]
    assert same(known(settings), found) and where(rebuilt(settings)) == where(found.index)
    assert compare(settings).holds


def test_a_writer_opens_an_archived_session_again_through_its_lock(root: Path) -> None:
    settings = reference(root)
    with SessionWriter(root, "s", "agent_w") as writer:
        writer.append(ENTRY)
        writer.append(COMPLETED)
    aged(root / LOG)
    take_in(settings)
    archived(settings)
    assert logs(root) == []  # nor its lock
    with SessionWriter(root, "s", "agent_w") as writer:
        place = writer.append({**ENTRY, "n": 2})
        assert (place.line_number, place.byte_offset) == (1, 0)
    take_in(settings)
    with Index(root) as index:
        entries = list(index.timeline(session="s"))
        assert [index.read(one).get("n") for one in entries] == [None, None, 2] or len(entries) == 3
        assert len({one.id for one in entries}) == 3


def test_a_file_that_is_put_back_is_the_log_itself(root: Path) -> None:
    log = session(root)
    content = log.read_bytes()
    settings = reference(root)
    take_in(settings)
    before = known(settings)
    archived(settings)
    with Stepped(settings) as stepped:
        log.write_bytes(content[:300])  # as a copy that is under way
        stepped.turn()
        stepped.turn()
        log.write_bytes(content)
        stepped.turn()
        stepped.turn()
        stepped.turn()
    assert same(known(settings), before)
    assert where(rebuilt(settings)) == where(before.index)
    write_lines(log, *GOES_ON)
    aged(log)
    take_in(settings)
    longer = known(settings)
    assert len(longer.records) == len(before.records) + 3
    archived(settings)
    assert files(settings) == ["sessions/2024-12-29/s.2.jsonl.zst"]  # the first holds nothing that this does not
    assert same(known(settings), longer) and where(rebuilt(settings)) == where(longer.index)


def test_a_session_that_goes_on_may_be_rewritten_and_lost(root: Path) -> None:
    settings = reference(root)
    continued(root, settings, *GOES_ON)
    take_in(settings)
    with Stepped(settings) as stepped:
        (root / LOG).write_bytes(b"")
        write_lines(root / LOG, {**ENTRY, "n": "other"})
        stepped.turn()
        stepped.turn()
        assert len(stepped.rows) == 34 + 1
        (root / LOG).unlink()
        stepped.turn()
    with Index(root) as index:
        entries = list(index.timeline(session="s"))
        assert len(entries) == 35
        for one in entries[:-1]:
            index.read_bytes(one)
        with pytest.raises(SourceMissing):
            index.read_bytes(entries[-1])
    found = compare(settings)
    assert found.holds and found.missing_sources == 1


def test_a_session_that_goes_on_is_read_to_its_end_whatever_the_sizes(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = session(root)
    settings = reference(root)
    take_in(settings)
    archived_bytes = log.stat().st_size
    archived(settings)
    # Once the first line is read, the offset in the log is the size of the file, and the other lines are still to come.
    rest = [1_000] * (archived_bytes // 1_000 - 1)
    lines = [padded(length) for length in (1_500, *rest, archived_bytes - sum(rest))]
    monkeypatch.setattr("sidecar.logs.tail.CHUNK_BYTES", 2_000)
    with Stepped(settings) as stepped:
        log.write_bytes(b"".join(lines))
        os.utime(log, ns=(BASE * 1_000_000_000, BASE * 1_000_000_000 + 1))
        stepped.turn()
        assert len(stepped.rows) == 34 + len(lines)


def padded(length: int) -> bytes:
    """An entry as a line of so many bytes."""
    empty = orjson.dumps({**ENTRY, "text": ""}) + b"\n"
    return empty.replace(b'""', b'"%s"' % (b"x" * (length - len(empty))))


def test_an_event_file_of_the_name_of_an_archived_one_is_a_record_of_its_own(root: Path) -> None:
    path = event(root, 1)
    settings = reference(root)
    take_in(settings)
    archived(settings)
    event(root, 1, other=True)
    take_in(settings)
    with Index(root) as index:
        old, new = index.timeline()
        assert old.file_path == new.file_path and old.id != new.id
        assert "other" not in index.read(old)["data"] and index.read(new)["data"]["other"]
    before = known(settings)
    assert where(rebuilt(settings)) == where(before.index)
    aged(path)
    take_in(settings)
    archived(settings)
    assert logs(root) == [] and same(known(settings), before)
    assert where(rebuilt(settings)) == where(before.index)


# ---- beside others


def test_it_archives_beside_a_running_sidecar(root: Path) -> None:
    settings = mixed(root, sessions=6, lines=40, events=300)
    before = known(settings)
    with running(root, "--preset", "reference"):
        done = subprocess.run(
            command("--root", root, "--preset", "reference", "archive", "--older-than", "0s", "--json"),
            capture_output=True,
            check=True,
        )
        said = orjson.loads(done.stdout)
        assert sum(one["logs"] for one in said["archived"]) > 250 and said["compacted"]
        assert same(known(settings), before)
        write_lines(root / "responses/sessions/fresh.jsonl", {**ENTRY, "timestamp": BASE})
        goes_on = next(one for one in said["archived"] if one["file"].startswith("sessions/"))
        write_lines(root / "responses/sessions" / Path(goes_on["file"]).stem, {**ENTRY, "timestamp": BASE + 1})

        def count() -> int:
            with Index(root) as index:
                return sum(1 for _ in index.timeline())

        eventually(lambda: count() == len(before.records) + 2)
        assert not (root / "index/requests").exists() or not list((root / "index/requests").iterdir())
    said_after = everything(settings.index_folder)
    assert where(rebuilt(settings)) == where(said_after)
    assert not (root / "index/compact").exists()


def test_it_waits_for_nobody_who_holds_the_root_for_another_job(root: Path) -> None:
    session(root)
    settings = reference(root)
    take_in(settings)
    for name, job in (("sidecar.lock", "reindex"), ("archive.lock", "archive")):
        lock = RootLock(settings.index_folder, name)
        lock.acquire(job)
        with pytest.raises(RootLocked, match=job):
            archived(settings)
        lock.release()
    assert archived(settings).archived


def test_the_owner_of_the_index_notes_only_what_is_still_so(root: Path) -> None:
    log = session(root)
    settings = reference(root)
    take_in(settings)
    looks = FileStat.of(log.stat())
    size = looks.size
    part = Extent("sessions/2024-12-29/s.jsonl.zst", 0, size, 35, 1)
    folder = os.fspath(settings.archive)
    with Stepped(settings) as stepped:
        stepped.turn()
        ledger = stepped.sidecar._open_writer()
        for wrong in (
            Move(LOG, (*looks[:3], looks[3] + 1), part),
            Move(LOG, looks, part._replace(size=size - 1)),
            Move("no/source", looks, part),
        ):
            assert list(ledger.archive([wrong], folder)) == [wrong.path]
        assert list(ledger.archive([Move(LOG, looks, part)], "/another/archive")) == [LOG]
        write_lines(log, ENTRY)
        stepped.turn()
        assert list(ledger.archive([Move(LOG, looks, part)], folder)) == [LOG]
    assert status_of(settings).archive.logs == 0


def test_who_follows_hears_nothing_twice_and_everything_new(root: Path) -> None:
    settings = reference(root)
    session(root)
    event(root, 1)
    take_in(settings)
    with closing(Follower(settings.index_folder)) as follower:
        assert archived(settings).compacted
        assert list(follower.news(Filter())) == []
        write_lines(root / LOG, *GOES_ON)
        take_in(settings)
        assert [entry.timestamp for entry in follower.news(Filter())] == [BASE + 200, BASE + 201, BASE + 202]


def test_without_an_index_there_is_nothing_to_archive(root: Path) -> None:
    session(root)
    with pytest.raises(IndexMissing):
        archived(reference(root))
    assert not (root.parent / "archive").exists()


# ---- where the archive is


def test_a_reader_finds_an_archive_elsewhere_and_believes_no_index_that_leads_astray(
    root: Path, tmp_path: Path
) -> None:
    session(root)
    settings = replace(reference(root), archive=tmp_path / "elsewhere/cold")
    take_in(settings)
    archived(settings)
    with Index(root) as index:
        entries = list(index.timeline())
        assert all(index.read(one) for one in entries)
    # The same archive under another roof, which an index that was tampered with names: nobody says that it is ours.
    stolen = tmp_path / "stolen"
    shutil.copytree(settings.archive, stolen)
    (stolen / "archive.json").unlink()
    with closing(sqlite3.connect(root / "index/catalog.db")) as catalog:
        catalog.execute("UPDATE meta SET value = ? WHERE key = 'archive'", (str(stolen),))
        catalog.commit()
    with Index(root) as index, pytest.raises(ArchiveMissing):
        index.read(entries[0])
    with Index(root, archive=stolen) as index:  # by the reader's own word
        assert index.read(entries[0])


@pytest.mark.parametrize("name", ["../outside.zst", "/etc/passwd", "sessions/../../outside.zst"])
def test_a_pointer_that_leaves_the_archive_is_an_error(root: Path, name: str) -> None:
    session(root)
    settings = reference(root)
    take_in(settings)
    archived(settings)
    packed = settings.archive / files(settings)[0]
    shutil.copy(packed, settings.archive.parent / "outside.zst")
    with closing(sqlite3.connect(root / "index/catalog.db")) as catalog:
        catalog.execute("UPDATE archive_file SET name = ?", (name,))
        catalog.commit()
    with Index(root) as index, pytest.raises(SidecarError, match="leaves"):
        index.read(next(index.timeline()))


def test_an_archive_belongs_to_one_root(root: Path, tmp_path: Path) -> None:
    session(root)
    settings = reference(root)
    take_in(settings)
    archived(settings)
    other = tmp_path / "other/logs"
    session(other)
    strange = replace(reference(other), archive=settings.archive)
    take_in(strange)
    assert len(known(strange).records) == 34
    with pytest.raises(ConfigError, match="is the archive of"):
        archived(strange)
    for folder in (other, other / "index/archive"):
        with pytest.raises(ConfigError, match="cannot be"):
            archived(replace(strange, archive=folder))


@pytest.mark.parametrize(
    "sql",
    [
        "UPDATE archived SET size = 'x'",
        "UPDATE archived SET start = -1",
        "UPDATE source SET path = x'ff'",
        "UPDATE source SET first_mtime = 9e999",
        "UPDATE archive_file SET name = x'00'",
    ],
)
def test_a_rebuild_believes_nothing_impossible_of_an_archive_that_is_damaged(root: Path, sql: str) -> None:
    """The old index is asked what a damaged archive holds; here it is damaged as well."""
    session(root)
    settings = reference(root)
    take_in(settings)
    archived(settings)
    packed = settings.archive / files(settings)[0]
    whole = packed.read_bytes()
    packed.write_bytes(b"noise")
    with closing(sqlite3.connect(root / "index/catalog.db")) as catalog:
        catalog.execute("PRAGMA ignore_check_constraints = 1")
        catalog.execute(sql)
        catalog.commit()
    with pytest.raises(ArchiveDamaged, match=packed.name):
        reindex(settings, 1)
    packed.write_bytes(whole)
    reindex(settings, 1)
    assert len(known(settings).records) == 34


def test_a_root_whose_name_is_no_text_is_indexed_and_cannot_be_archived(tmp_path: Path) -> None:
    root = Path(os.fsdecode(os.fsencode(tmp_path) + b"/l\xff?#%41gs"))
    session(root)
    settings = reference(root)
    take_in(settings)
    before = known(settings)
    reindex(settings, 1)
    assert same(known(settings), before) and len(before.records) == 34
    for job in (archive, preview):
        with pytest.raises(ConfigError, match="is not UTF-8"):
            job(settings)
    assert not settings.archive.exists() and logs(root) == [LOG]


def test_a_root_that_moves_with_its_archive_keeps_it(root: Path, tmp_path: Path) -> None:
    session(root)
    settings = reference(root)
    take_in(settings)
    before = known(settings)
    archived(settings)
    (tmp_path / "var").rename(tmp_path / "srv")
    moved = reference(tmp_path / "srv/logs")
    assert same(known(moved), before)
    reindex(moved, 1)
    assert same(known(moved), before)


# ---- the command


def run_command(*arguments: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command(*arguments), capture_output=True, text=True, check=False)


def test_the_command_tells_what_went_where_and_what_stays(root: Path) -> None:
    session(root, lines=200)
    session(root, "t", completed=False)
    event(root, 1)
    take_in(reference(root))
    options = ("--root", root, "--preset", "reference", "archive")
    foretold = run_command(*options, "--dry-run")
    assert foretold.returncode == 0
    assert "2 logs would be archived" in foretold.stdout and "not completed" in foretold.stdout
    assert "sessions/2024-12-29/s.jsonl.zst" in foretold.stdout
    done = run_command(*options)
    assert done.returncode == 0 and "2 logs archived" in done.stdout
    again = run_command(*options, "--json")
    said = orjson.loads(again.stdout)
    assert (said["schema_version"], said["archived"], said["dry_run"]) == (1, [], False)
    assert said["kept"] == [{"path": "responses/sessions/t.jsonl", "why": "not completed"}]
    sessions = run_command("--root", root, "query", "sessions")
    assert "lives in" in sessions.stdout and "archive" in sessions.stdout
    listed = run_command("--root", root, "query", "sessions", "--json")
    assert [orjson.loads(line)["lives_in"] for line in listed.stdout.splitlines()] == ["archive", "log"]
    shown = run_command("--root", root, "show", "s:0", "--json")
    assert orjson.loads(shown.stdout)["record"]["data"]["n"] == 0
    stated = orjson.loads(run_command("--root", root, "--preset", "reference", "status", "--json").stdout)
    assert stated["healthy"] and stated["archive"]["logs"] == 2
    assert run_command(*options, "--older-than", "soon").returncode == 2


def test_a_hash_of_the_archive_is_that_of_the_log(root: Path) -> None:
    content = session(root).read_bytes()
    settings = reference(root)
    take_in(settings)
    archived(settings)
    with Archive(settings.archive) as folder:
        (member,) = folder.members(files(settings)[0])
        assert (member.path, member.start, member.size, member.sign) == (LOG, 0, len(content), fingerprint(content))
        assert folder.sign(files(settings)[0], 0, len(content)) == member.sign


def left_by_a_kill(root: Path) -> tuple[Settings, bytes]:
    """A session that is archived, noted, and still there: the run before was killed when it was about to delete it."""
    log = session(root)
    content = log.read_bytes()
    settings = reference(root)
    take_in(settings)
    child = os.fork()
    if child == 0:
        removal.remove_log = lambda *_, **__: os.kill(os.getpid(), signal.SIGKILL)  # type: ignore[assignment]
        archived(settings)
        os._exit(0)
    assert os.waitpid(child, 0)[1] == signal.SIGKILL
    assert log.read_bytes() == content and len(files(settings)) == 1
    return settings, content


def test_a_log_that_is_left_by_a_kill_counts_once_and_goes_with_the_next_run(root: Path) -> None:
    settings, content = left_by_a_kill(root)
    assert status_of(settings).bytes.total == len(content) and status_of(settings).healthy
    with Stepped(settings) as stepped:
        stepped.turn()
        stepped.turn()
        assert len(stepped.rows) == 34
    assert status_of(settings).archive.logs == 1  # the sidecar does not take it for one that was put back
    before = known(settings)
    assert compare(settings).holds and where(rebuilt(settings)) == where(before.index)
    assert archived(settings).cleared == 1
    assert logs(root) == [] and same(known(settings), before)


def test_a_log_that_is_left_by_a_kill_stays_where_its_archive_is_damaged_meanwhile(root: Path) -> None:
    settings, content = left_by_a_kill(root)
    packed = settings.archive / files(settings)[0]
    with Archive(settings.archive) as folder:
        (member,) = folder.members(files(settings)[0])
    packed.unlink()
    with packed.open("wb") as file:
        write(file, [member], [content.replace(b"agent_0", b"agent_X")])  # whole, and of other bytes
    assert reasons(archived(settings)) == {"s.jsonl": "its archive contains other bytes"}
    assert (root / LOG).read_bytes() == content
    packed.write_bytes(b"noise")
    assert "cannot be read" in reasons(archived(settings))["s.jsonl"]
    assert (root / LOG).read_bytes() == content and len(known(settings).records) == 34
