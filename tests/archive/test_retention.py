"""Retention: archives go by age or by size when that is asked for, whole logs with their entries, and nothing else."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import orjson
import pytest

from helpers.archives import aged, archived, event, files, known, logs, session, take_in, where
from helpers.corpora import BASE
from helpers.support import command, on_a_terminal, rebuilt, reference, running, scratch, write_lines
from sidecar import Index
from sidecar.archive.job import ArchiveOptions, archive, preview
from sidecar.bulk.rebuild import reindex
from sidecar.config.settings import Settings
from sidecar.health.status import status_of
from sidecar.health.verify import compare
from sidecar.indexer.index_writer import IndexWriter

YEAR = 365 * 86_400.0
OLD, NEW = "2001-09-09", "2024-12-29"


@pytest.fixture
def settings() -> Iterator[Settings]:
    """Archives of 2001 and of 2024: a session and a folder of events of each."""
    with scratch() as folder:
        yield made(folder / "logs")


def made(root: Path) -> Settings:
    session(root, "new", lines=50)
    write_lines(
        root / "responses/sessions/old.jsonl",
        *[{"event": "agent:say", "timestamp": 1_000_000_000 + number, "data": {"n": number}} for number in range(50)],
        {"event": "session:completed", "status": "completed", "timestamp": 1_000_000_100},
    )
    for day, seconds in ((OLD, 1_000_000_000), (NEW, BASE)):
        for number in range(5):
            event(root, number, day, at=seconds).rename(root / f"events/{day}/evt_{seconds + number}.000_note.json")
    aged(root)
    settings = reference(root)
    take_in(settings)
    assert {one.logs for one in archived(settings).archived} == {1, 5}
    assert len(files(settings)) == 4
    return settings


def whole(settings: Settings) -> None:
    """Nothing is left of what went, and the rest is as a rebuild has it."""
    status = status_of(settings)
    # A root of which everything went is told to be one without logs.
    assert [why for why in status.reasons if status.entries or "belongs to a source" not in why] == []
    assert compare(settings).holds
    assert where(rebuilt(settings)) == where(known(settings).index)


def test_nothing_is_deleted_that_was_not_asked_for(settings: Settings) -> None:
    before = files(settings)
    assert archived(settings).deleted == []
    assert archived(settings, ArchiveOptions(age=0.0, keep=100 * YEAR, keep_size=10**12)).deleted == []
    assert files(settings) == before


def test_archives_older_than_an_age_go_with_their_entries(settings: Settings) -> None:
    options = ArchiveOptions(age=0.0, keep=10 * YEAR)
    foretold = preview(settings, options)
    assert len(files(settings)) == 4
    done = archive(settings, options)
    assert [one.file for one in done.deleted] == [one.file for one in foretold.deleted]
    assert [one.file for one in done.deleted] == [f"events/events_{OLD}.tar.zst", f"sessions/{OLD}/old.jsonl.zst"]
    assert files(settings) == [f"events/events_{NEW}.tar.zst", f"sessions/{NEW}/new.jsonl.zst"]
    with Index(settings.root) as index:
        assert {one.session_id for one in index.timeline()} == {"new", ""}
        assert [one.session_id for one in index.sessions()] == ["new"]
    assert not (settings.index_folder / f"daily/{OLD}.db").exists()
    whole(settings)
    reindex(settings, 1)
    whole(settings)


def test_the_oldest_archives_go_beyond_a_total_size(settings: Settings) -> None:
    sizes = {file: (settings.archive / file).stat().st_size for file in files(settings)}
    new = sum(size for file, size in sizes.items() if NEW in file)
    done = archive(settings, ArchiveOptions(age=0.0, keep_size=new))
    assert {one.file for one in done.deleted} == {file for file in sizes if OLD in file}
    whole(settings)
    assert len(archive(settings, ArchiveOptions(age=0.0, keep_size=0)).deleted) == 2
    assert files(settings) == []
    with Index(settings.root) as index:
        assert list(index.timeline()) == []
    whole(settings)


@pytest.mark.parametrize("name", ["plan_for_2001-01-01", "2001-01-01", "chat-2001-01-01-2999-01-01"])
def test_a_session_is_as_old_as_its_last_record_whatever_day_is_in_its_name(settings: Settings, name: str) -> None:
    session(settings.root, name)
    take_in(settings)
    archived(settings)
    file = f"sessions/{NEW}/{name}.jsonl.zst"
    assert file in files(settings)
    assert archive(settings, ArchiveOptions(age=0.0, keep=20 * YEAR)).deleted
    assert file in files(settings)
    archive(settings, ArchiveOptions(age=0.0, keep=0.0))
    assert files(settings) == []
    whole(settings)


def test_a_log_goes_as_a_whole_or_stays(settings: Settings) -> None:
    log = settings.root / "responses/sessions/old.jsonl"
    write_lines(log, {"event": "agent:say", "timestamp": BASE})
    take_in(settings)
    assert [one.logs for one in archive(settings, ArchiveOptions(age=9 * YEAR, keep=10 * YEAR)).deleted] != []
    assert f"sessions/{OLD}/old.jsonl.zst" in files(settings)
    aged(log)
    take_in(settings)
    archived(settings)
    assert archive(settings, ArchiveOptions(age=0.0, keep=10 * YEAR)).deleted == []
    assert len([file for file in files(settings) if "/old." in file]) == 2
    assert len(archive(settings, ArchiveOptions(age=0.0, keep=0.0)).deleted) == 4
    assert files(settings) == []
    whole(settings)


def test_it_asks_first_and_a_no_deletes_nothing(settings: Settings) -> None:
    asked = []
    archive(settings, ArchiveOptions(age=0.0, keep=0.0), agreed=lambda going: bool(asked.append(going)))
    assert len(asked[0]) == 4 and len(files(settings)) == 4


def test_the_command_tells_what_it_deletes_beside_a_running_sidecar(settings: Settings) -> None:
    options = ("--root", settings.root, "--preset", "reference", "archive", "--keep", "3650d", "--yes")
    with running(settings.root, "--preset", "reference"):
        done = subprocess.run(command(*options, "--json"), capture_output=True, text=True, check=True)
        said = orjson.loads(done.stdout)
        assert [one["file"] for one in said["deleted"]] == [
            f"events/events_{OLD}.tar.zst",
            f"sessions/{OLD}/old.jsonl.zst",
        ]
        assert f"sessions/{OLD}/old.jsonl.zst" in done.stderr
    whole(settings)


def retention(settings: Settings, *options: str) -> tuple[str | Path, ...]:
    return ("--root", settings.root, "--preset", "reference", "archive", *options)


@pytest.mark.parametrize("option", [("--keep", "3650d"), ("--keep-size", "1B")], ids=str)
def test_without_a_terminal_nothing_is_deleted_unless_yes_was_said_on_the_command_line(
    settings: Settings, option: tuple[str, str]
) -> None:
    before = files(settings)
    for answer in ("y\n", "n\n", ""):
        words = command(*retention(settings, *option))
        done = subprocess.run(words, input=answer, capture_output=True, text=True, check=False)
        assert done.returncode == 2 and files(settings) == before
        assert f"error: {option[0]} deletes for good" in done.stderr and "--yes" in done.stderr
    words = command(*retention(settings, *option, "--dry-run", "--json"))
    previewed = subprocess.run(words, stdin=subprocess.DEVNULL, capture_output=True, check=True)
    would_go = [one["file"] for one in orjson.loads(previewed.stdout)["deleted"]]
    assert would_go and files(settings) == before
    words = command(*retention(settings, *option, "--yes"))
    subprocess.run(words, stdin=subprocess.DEVNULL, capture_output=True, check=True)
    assert sorted({*before} - {*files(settings)}) == sorted(would_go)


def test_on_a_terminal_a_no_keeps_what_a_yes_deletes(settings: Settings) -> None:
    options = retention(settings, "--keep", "3650d")
    status, seen = on_a_terminal(*options, typed="n\n")
    assert (status, len(files(settings))) == (0, 4)
    assert f"sessions/{OLD}/old.jsonl.zst" in seen and "Delete them? [y/N]" in seen
    assert "nothing was deleted" in seen
    status, _ = on_a_terminal(*options, typed="y\n")
    assert (status, len(files(settings))) == (0, 2)
    whole(settings)


@pytest.mark.parametrize(
    ("option", "value", "told"),
    [
        ("--keep", "800", "give 800s, 800h or 800d"),
        ("--keep", "soon", "give 12h, 30d or 52w"),
        ("--keep-size", "20", "give 20B, 20M or 20G"),
        ("--keep-size", "much", "give 500M, 20G or 1T"),
        ("--keep-size", "20 Gibi", "give 500M, 20G or 1T"),
    ],
)
def test_what_deletes_is_refused_without_a_unit_and_told_with_one(
    settings: Settings, option: str, value: str, told: str
) -> None:
    words = command(*retention(settings, option, value, "--yes"))
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 2 and told in " ".join(done.stderr.split())
    assert len(files(settings)) == 4


@pytest.mark.parametrize("step", ["begin_drop", "delete_rows_of", "finish_drop"])
def test_killed_while_rows_go_the_next_run_ends_it(settings: Settings, step: str) -> None:
    child = os.fork()
    if child == 0:
        from sidecar.indexer.catalog_writer import CatalogWriter
        from sidecar.indexer.day_files import DayFiles

        kind = DayFiles if step == "delete_rows_of" else CatalogWriter
        whole_step = getattr(kind, step)

        def dying(*arguments: object) -> None:
            whole_step(*arguments)
            os.kill(os.getpid(), signal.SIGKILL)

        ledger = IndexWriter(settings)
        setattr(kind, step, dying)
        ledger.drop(["responses/sessions/old.jsonl"])
        os._exit(0)
    assert os.waitpid(child, 0)[1] == signal.SIGKILL
    take_in(settings)
    with Index(settings.root) as index:  # what was begun has been ended by now, and nothing brings it back
        assert "old" not in {one.session_id for one in index.timeline()}
    archive(settings, ArchiveOptions(age=0.0, keep=10 * YEAR))
    assert [file for file in files(settings) if OLD in file] == []
    with Index(settings.root) as index:
        assert {one.session_id for one in index.timeline()} == {"new", ""}
    assert compare(settings).holds


def test_an_archive_that_the_index_does_not_know_goes_by_its_age(settings: Settings) -> None:
    stray = settings.archive / f"sessions/{OLD}/old.jsonl.zst"
    copy = settings.archive.parent / "copy"
    shutil.copy(stray, copy)
    archive(settings, ArchiveOptions(age=0.0, keep=10 * YEAR))
    stray.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(copy, stray)
    assert [one.logs for one in archive(settings, ArchiveOptions(age=0.0, keep=10 * YEAR)).deleted] == [()]
    assert not stray.exists() and logs(settings.root) == []
