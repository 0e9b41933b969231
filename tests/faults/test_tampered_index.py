"""An index folder from somebody else's hands: nothing outside of the root is read, written, moved or waited for.

Whoever may write to the index folder may put links, pipes and lies in it. Readers answer or name what is wrong; the
next run makes the index good. What is opened is told by Python itself, through an audit hook.
"""

from __future__ import annotations

import os
import shutil
import sqlite3
import sys
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from threading import Timer, current_thread, main_thread
from typing import Any

import orjson
import pytest
from click.testing import CliRunner

from helpers.archives import session
from helpers.corpora import BASE, DAY
from helpers.support import HANG, eventually, everything, indexed, modelled, reference, running, scratch, write_lines
from helpers.tally import Tally
from sidecar.cli import cli
from sidecar.errors import SidecarError
from sidecar.service.supervisor import run_once
from sidecar.store import layout as swap

LOG = "responses/sessions/s.jsonl"
DAY_FILE = "daily/2024-12-29.db"
SECRET = "secret_agent"

FAULT = "index tampered with: links, pipes, paths that lead out, rows that cannot be"


def record(number: int, agent: str) -> dict[str, Any]:
    at = BASE + DAY * (number % 2)
    data = {"agent_id": agent, "to_agent": "other", "role": "lead"}
    return {"event": "completion:request", "correlation_id": f"c{number}", "timestamp": at, "data": data}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A root with an index, and outside of it another one, with the same log name and a secret in it."""
    folder = tmp_path_factory.mktemp("made")
    for name, agent in (("logs", "ours"), ("outside", SECRET)):
        write_lines(folder / name / LOG, *(record(number, agent) for number in range(40)))
        write_lines(folder / name / LOG, b"no record\n")
        run_once(reference(folder / name), lambda _: None)
    return folder


@pytest.fixture
def root(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A copy of both; the root of the two."""
    monkeypatch.chdir(tmp_path)  # where there is no config.yaml
    with scratch() as folder:
        shutil.copytree(made, folder / "all", copy_function=shutil.copy2)
        root = folder / "all/logs"
        run_once(reference(root), lambda _: None)  # a copied log is another file
        yield root


# ---- what is touched

_watched: list[str] = []
"""The folder in which nothing may be touched, while somebody looks."""
_touched: list[str] = []
_OPENING = {"open", "sqlite3.connect", "os.scandir", "os.listdir", "os.rename", "os.remove", "os.mkdir", "os.rmdir"}


def _note(event: str, arguments: tuple[object, ...]) -> None:
    if not _watched or event not in _OPENING or current_thread() is not main_thread():
        return  # no thread but this one asks; the one that frees a pipe looks for it
    for one in arguments:
        if isinstance(one, str | bytes | os.PathLike):
            name = os.fsdecode(one).removeprefix("file:").partition("?")[0]
            # What is renamed or removed is the link itself; what is opened is what it leads to.
            itself = event in ("os.rename", "os.remove") or (event == "open" and _not_followed(arguments))
            folder, _, last = name.rpartition("/")
            path = f"{os.path.realpath(folder)}/{last}" if itself else os.path.realpath(name)
            if path.startswith(_watched[0]):
                _touched.append(f"{event} {path}")


def _not_followed(arguments: tuple[object, ...]) -> bool:
    flags = arguments[2]
    return isinstance(flags, int) and bool(flags & os.O_NOFOLLOW)


sys.addaudithook(_note)


@contextmanager
def untouched(outside: Path, *, folders: bool = True) -> Iterator[None]:
    """Fail if anything in a folder is opened or changed, or if the block takes forever.

    Without `folders` a name may come and go there: SQLite closes a file by the name under which it was opened.
    """

    def looks() -> list[tuple[str, int, int, int]]:
        seen = [path for path in outside.rglob("*") if folders or not path.is_dir()]
        return [(str(path), (it := path.lstat()).st_size, it.st_mtime_ns, it.st_ino) for path in seen]

    hung: list[Path] = []

    def free() -> None:
        """SQLite goes on waiting in a pipe whatever signal comes; its other end lets go of it."""
        for pipe in (path for path in outside.parent.rglob("*") if path.is_fifo()):
            hung.append(pipe)
            os.close(os.open(pipe, os.O_RDWR | os.O_NONBLOCK))

    before = sorted(looks())
    timer = Timer(HANG, free)
    timer.start()
    _watched[:], _touched[:] = [os.fspath(outside) + os.sep], []
    try:
        yield
    finally:
        _watched.clear()
        timer.cancel()
        timer.join()
    assert not hung, f"no answer within {HANG} s, waiting for one of {hung}"
    assert not _touched, f"touched: {_touched}"
    assert sorted(looks()) == before


# ---- what is asked

READING = ("status", "query timeline", "query sessions", "query pending --json", "query rejected", "query agents")


def asked(root: Path, words: str) -> str:
    """A command's answer; an error has to be one of ours, in words."""
    done = CliRunner().invoke(cli, ["--root", str(root), *words.split()], prog_name="sidecar")
    assert done.exception is None or isinstance(done.exception, SystemExit), f"{words}: {done.exception!r}"
    said = done.output
    if done.exit_code:
        assert words in ("doctor", "verify", "status") or "error: " in said, f"{words}: {said}"
    assert SECRET not in said
    return said


def survives(root: Path, tally: Tally, reading: tuple[str, ...] = READING) -> None:
    """Nobody is led out; and after the next run all is as it should be."""
    with untouched(root.parent / "outside"):
        for words in reading:
            asked(root, words)
        run_once(reference(root), lambda _: None)
        tally.tried += 1
        tally.compare(everything(root / "index").rows, modelled(root))
        for words in READING:
            assert "error: " not in asked(root, words)


# ---- links, pipes and paths


def outside(index: Path) -> Path:
    return index.parent.parent / "outside/index"


def link_to(name: str, target: str) -> Callable[[Path], None]:
    def tamper(index: Path) -> None:
        path = index / name
        link = index.parent / "link"
        link.symlink_to(outside(index) / target)
        while True:  # a sidecar that runs may make the folder again
            with suppress(IsADirectoryError, FileExistsError):
                link.replace(path)
                return
            path.replace(index.parent / "old")
            shutil.rmtree(index.parent / "old")

    tamper.__name__ = f"link_{name}"
    return tamper


def pipe_at(name: str) -> Callable[[Path], None]:
    def tamper(index: Path) -> None:
        (index / name).unlink(missing_ok=True)
        os.mkfifo(index / name)

    tamper.__name__ = f"pipe_{name}"
    return tamper


def manifest(content: Any, name: str = "") -> Callable[[Path], None]:
    def tamper(index: Path) -> None:
        (index / swap.MANIFEST).write_bytes(content if isinstance(content, bytes) else orjson.dumps(content))

    tamper.__name__ = f"manifest_{name}"
    return tamper


def manifest_through_a_link(index: Path) -> None:
    """What would be moved into the index is another's."""
    (index / "ready-evil").symlink_to(outside(index))
    manifest({"folder": "ready-evil", "daily": ["2024-12-29.db", "2024-12-30.db"]})(index)


def manifest_that_climbs(index: Path) -> None:
    (index / "ready-evil/daily").mkdir(parents=True)
    climbing = "../../../../outside/index/daily/2024-12-29.db"
    manifest({"folder": "ready-evil", "daily": ["2024-12-30.db", climbing]})(index)


def manifest_with_an_absolute_name(index: Path) -> None:
    (index / "ready-evil/daily").mkdir(parents=True)
    manifest({"folder": "ready-evil", "daily": [str(outside(index) / DAY_FILE)]})(index)


def a_link_among_what_is_ready(index: Path) -> None:
    ready = index / "ready-evil/daily"
    ready.mkdir(parents=True)
    (ready / "2024-12-29.db").symlink_to(outside(index) / DAY_FILE)
    manifest({"folder": "ready-evil", "daily": ["2024-12-29.db"]})(index)


def a_foreign_file_among_the_days(index: Path) -> None:
    shutil.copy2(outside(index) / DAY_FILE, index / "daily/evil\x1b.db")
    shutil.copy2(outside(index) / DAY_FILE, index / "daily/0000-00-00.db")


LINKS = [
    link_to("catalog.db", "catalog.db"),
    link_to(DAY_FILE, DAY_FILE),
    link_to("daily", "daily"),
    link_to("daily", "nowhere"),
    link_to(f"{DAY_FILE}-wal", DAY_FILE),
    link_to(f"{DAY_FILE}-journal", DAY_FILE),
    link_to("catalog.db-shm", "catalog.db"),
    link_to("catalog.db.new", "catalog.db"),
    link_to("running.json", "catalog.db"),
    link_to("running.tmp", "catalog.db"),
    link_to("running.json.tmp", "catalog.db"),
    link_to("swap.json", "catalog.db"),
    link_to("swap.json.tmp", "catalog.db"),
    link_to("rebuild", "daily"),
    link_to("damaged", "daily"),
    link_to("ready-old", "daily"),
    manifest_through_a_link,
    manifest_that_climbs,
    manifest_with_an_absolute_name,
    a_link_among_what_is_ready,
    a_foreign_file_among_the_days,
    *map(pipe_at, ("catalog.db", DAY_FILE, f"{DAY_FILE}-journal", "catalog.db-wal", "catalog.db.new", "swap.json")),
    *map(pipe_at, ("running.json", "running.tmp", "daily/2024-12-31.db", "rebuild", "damaged/x-catalog.db")),
    manifest({"folder": "ready-\0", "daily": []}, "nul"),
    manifest({"folder": "ready-", "daily": {"a": 1}}, "object"),
    manifest({"folder": "ready-1", "daily": [["x"]]}, "nested"),
    manifest({"folder": "ready-1", "daily": [None, 1]}, "numbers"),
    manifest({"folder": ["ready-1"], "daily": []}, "list"),
    manifest(b"[" * 100_000, "deep"),
    manifest(b"{", "torn"),
    manifest(b" " * (40 << 20), "huge"),
]


@pytest.mark.parametrize("tamper", LINKS, ids=lambda tamper: tamper.__name__)
def test_nothing_in_an_index_folder_leads_out_of_it(
    root: Path, tamper: Callable[[Path], None], tally: Callable[[str], Tally]
) -> None:
    (root / "index/damaged").mkdir(exist_ok=True)
    tamper(root / "index")
    survives(root, tally(FAULT), READING[:3])


@pytest.mark.parametrize("replace", [link_to("sidecar.lock", "catalog.db"), pipe_at("sidecar.lock")])
def test_a_lock_file_that_is_not_a_file_is_named_and_never_written_through(
    root: Path, replace: Callable[[Path], None]
) -> None:
    replace(root / "index")
    with untouched(root.parent / "outside"):
        for words in ("status", "query timeline", "doctor", "run --once", "reindex"):
            asked(root, words)


LIES = [
    b"", b"{", b"[" * 100_000, b"[]", b"null", b"\xff\xfe",
    b'{"pid":"x","job":["run"],"watching":7,"why":null,"trouble":5}',
    b'{"pid":1e999,"job":"run","watching":"a","why":"b","trouble":null}',
    b'{"pid":9223372036854775808000,"job":"run\\u001b[2J","watching":"\\u001b[2J","why":"\\u202e","trouble":["\\u009b"]}',
    b" " * (40 << 20),
]  # fmt: skip


@pytest.mark.parametrize("name", ["running.json", "sidecar.lock"])
def test_what_a_running_sidecar_says_about_itself_may_be_a_lie(root: Path, name: str) -> None:
    """The lock is held, so that its file and the beacon are believed as far as they can be."""
    with running(root) as process, untouched(root.parent / "outside"):
        eventually(lambda: asked(root, "status").startswith("healthy"))
        for content in LIES:
            (root / "index" / name).write_bytes(content)
            for words in ("status", "doctor", "run --once"):
                said = asked(root, words)
                assert not {"\x1b", "\x9b", "\u202e"} & set(said)
        assert process.poll() is None


def test_a_link_put_in_place_under_a_running_sidecar_is_not_followed(
    root: Path, tmp_path: Path, tally: Callable[[str], Tally]
) -> None:
    (tmp_path / "config.yaml").write_text("scan_interval: 0.2\ncheckpoint_interval: 0.1\n")
    config = str(tmp_path / "config.yaml")
    with running(root, "--config", config) as process, untouched(root.parent / "outside", folders=False):
        for number, tamper in enumerate((LINKS[0], LINKS[1], LINKS[2], LINKS[9], LINKS[14])):
            tamper(root / "index")
            write_lines(root / LOG, record(100 + number, "ours"))
            eventually(lambda: is_whole(root))
            tally(FAULT).tried += 1
        assert process.poll() is None
    tally(FAULT).compare(everything(root / "index").rows, modelled(root))


def is_whole(root: Path) -> bool:
    try:  # and not in the midst of being moved into place, by names
        return everything(root / "index").rows == modelled(root) and not (root / "index" / swap.MANIFEST).exists()
    except SidecarError:
        return False


# ---- rows

DAILY_LIES = [
    "UPDATE party SET agents = 'no json'",
    "UPDATE party SET agents = '{}'",
    "UPDATE party SET agents = '5'",
    "UPDATE party SET agents = '[1, null]'",
    "UPDATE role_set SET roles = '[]'",
    "UPDATE role_set SET roles = '{\"a\": 5}'",
    "UPDATE role_set SET roles = x'fffe'",
    "UPDATE party SET agents = replace(hex(zeroblob(60000)), '0', '[')",
    "UPDATE entry SET timestamp = 'never'",
    "UPDATE entry SET timestamp = 9e999",
    "UPDATE entry SET timestamp = -1e300",
    "UPDATE entry SET timestamp = x'00'",
    "UPDATE entry SET byte_offset = 'x' || byte_offset",
    "UPDATE entry SET byte_offset = -byte_offset - 1",
    "UPDATE entry SET byte_offset = byte_offset + 9223372036854770000",
    "UPDATE entry SET byte_offset = byte_offset + 0.5",
    "UPDATE entry SET byte_length = 'long'",
    "UPDATE entry SET byte_length = 9223372036854775807",
    "UPDATE entry SET checksum = 'x'",
    "UPDATE entry SET line_number = x'01'",
    "UPDATE entry SET has_response = 'yes'",
    "UPDATE entry SET requests_response = x'01'",
    "UPDATE entry SET answered_after = 'soon'",
    "UPDATE entry SET answered_after = 9e999",
    "UPDATE entry SET kind = 'x'",
    "UPDATE kind SET is_request = 'x'",
    "UPDATE kind SET has_author = 7",
    "UPDATE party SET agents = '[]'",
    "UPDATE kind SET addressees = 99",
    "UPDATE kind SET addressees = -1",
    "UPDATE kind SET self_place = 99",
    "UPDATE kind SET self_place = x'00'",
    "UPDATE context SET session = 'x'",
    "UPDATE span SET first = 'x'",
    "UPDATE span SET first = -first",
    "UPDATE entry SET id = 9223372036854775807 - id",
    "UPDATE name SET text = x'ff00' || id",
    "UPDATE name SET text = CAST(x'ff' || id AS TEXT)",
    "UPDATE name SET id = 9223372036854775807 WHERE id = (SELECT MAX(id) FROM name)",
    "UPDATE source SET touched = 'x'",
    "UPDATE source SET touched = 9223372036854775807",
    "UPDATE source SET stem = x'00'",
    "UPDATE meta SET value = 'x'",
    "INSERT OR REPLACE INTO meta VALUES ('next_entry', '9223372036854775807')",
    "DROP VIEW ksi_index",
    "DROP TABLE party_agent",
    "ALTER TABLE entry RENAME COLUMN kind TO p",
]  # fmt: skip
_CURSOR = "device, inode, size, mtime_ns, offset, lines, head, tail"
CATALOG_LIES = [
    "UPDATE source SET path = '../outside/responses/sessions/s.jsonl'",
    "UPDATE source SET path = '/etc/passwd'",
    "UPDATE source SET path = 'bytes://%00'",
    "UPDATE source SET path = 'bytes://..%2f..%2foutside/' || path",
    "UPDATE source SET path = 'bytes://%2e%2e/outside/' || path",
    "UPDATE source SET path = 'bytes://' || path",
    "UPDATE source SET path = 'responses/sessions/' || replace(hex(zeroblob(9000)), '0', 'x') || '.jsonl'",
    "UPDATE source SET path = CAST(x'eda080' AS TEXT)",
    "UPDATE source SET path = char(0), status = 'resetting'",
    "UPDATE source SET path = x'00'",
    "UPDATE source SET path = ''",
    f"INSERT INTO part SELECT id, 0, 'bytes://%00', {_CURSOR}, 0 FROM source",
    f"INSERT INTO part SELECT id, 0, '../outside/' || path, {_CURSOR}, 0 FROM source",
    "UPDATE source SET state = x'00'",
    "UPDATE source SET state = 'text'",
    "UPDATE source SET state = zeroblob(100000)",
    "UPDATE source SET offset = 'x'",
    "UPDATE source SET offset = -5",
    "UPDATE source SET offset = -5, indexed = -5, blank = 0, rejected = 0, skipped = 0",
    "UPDATE source SET offset = 9223372036854775807",
    "UPDATE source SET size = 'x'",
    "UPDATE source SET id = 9223372036854775807",
    "UPDATE source SET id = -1",
    "UPDATE source SET first_mtime = 'x'",
    "UPDATE source SET first_mtime = 9e999",
    "UPDATE source SET lines = x'00', head = 'x', tail = 1.5",
    "UPDATE source SET status = 'resetting'",
    "UPDATE source SET status = x'00'",
    "UPDATE source SET entries = 'x'",
    "UPDATE open_request SET addressees = 'no json'",
    "UPDATE open_request SET addressees = '[[1]]'",
    "UPDATE open_request SET timestamp = 'x'",
    "UPDATE open_request SET timestamp = 9e999",
    "UPDATE open_request SET correlation = x'00', author = 1.5",
    "UPDATE session_part SET created_at = 'x'",
    "UPDATE session_part SET created_at = 9e999",
    "UPDATE session_part SET initiating_agent = x'ff'",
    "UPDATE rejected_line SET byte_length = 'x'",
    "UPDATE rejected_line SET reason = x'00'",
    "UPDATE day SET first_timestamp = 'x'",
    "UPDATE day SET entries = 'x'",
    "UPDATE day SET day = '../../outside/index/daily/' || day",
    "INSERT OR REPLACE INTO day VALUES ('9999-99-99', 0.0, 0.0, 1, 0)",
    "UPDATE meta SET value = 'x'",
    "UPDATE meta SET value = '-1' WHERE key = 'checkpoint'",
    "UPDATE meta SET value = '9223372036854775807' WHERE key = 'checkpoint'",
    "DELETE FROM meta",
    "DROP TABLE open_request",
    "DROP VIEW session_registry",
]  # fmt: skip


def lie(path: Path, sql: str) -> None:
    """Change a database as its owner can."""
    with closing(sqlite3.connect(path)) as database, database:
        database.execute("PRAGMA ignore_check_constraints = 1")
        database.execute(sql)


@pytest.mark.parametrize(
    ("file", "sql"), [(DAY_FILE, sql) for sql in DAILY_LIES] + [("catalog.db", sql) for sql in CATALOG_LIES]
)
def test_impossible_rows_are_an_error_in_words_and_no_way_out(root: Path, file: str, sql: str) -> None:
    """What is a lie and might be true is verify's to find; nothing crashes, and nobody is led out."""
    lie(root / "index" / file, sql)
    with untouched(root.parent / "outside"):
        for words in (*READING, "query participants s", "show s:0"):
            asked(root, words)
        write_lines(root / LOG, record(1, "ours"), {"event": "completion:result", "data": {"agent_id": "z"}})
        asked(root, "run --once")
        asked(root, "verify")
        asked(root, "reindex")
        assert indexed(root) == modelled(root)


ARCHIVE_LIES = [
    "UPDATE archived SET at = 'x'",
    "UPDATE archived SET at = -1",
    "UPDATE archived SET size = 'x'",
    "UPDATE archived SET size = -size",
    "UPDATE archived SET size = 9223372036854775807",
    "UPDATE archived SET lines = x'00'",
    "UPDATE archived SET sign = 'x'",
    "UPDATE archived SET file = 'x'",
    "UPDATE archive_file SET name = x'ff'",
    "UPDATE archive_file SET name = '../../outside/responses/sessions/s.jsonl'",
    "UPDATE archive_file SET name = '/etc/passwd'",
    "UPDATE archive_file SET name = char(0)",
    "UPDATE meta SET value = '/etc' WHERE key = 'archive'",
    "UPDATE meta SET value = x'ff' WHERE key = 'archive'",
    "UPDATE filtered_day SET blocks = 'x'",
    "UPDATE filtered_day SET blocks = 0",
    "UPDATE filtered_day SET blocks = -1",
    "UPDATE filtered_day SET is_compact = 'x'",
    "UPDATE filtered_day SET day = x'ff' || day",
    "UPDATE filtered_day SET day = 'never' || day",
    "UPDATE day_filter SET bits = x'00'",
    "UPDATE day_filter SET bits = 'text'",
    "UPDATE day_filter SET bits = 5",
    "DROP TABLE archived",
    "DROP TABLE day_filter",
    "DROP TABLE filtered_day",
]


@pytest.mark.parametrize("sql", ARCHIVE_LIES)
def test_impossible_rows_about_the_archive_are_an_error_in_words_and_no_way_out(root: Path, sql: str) -> None:
    session(root, "done")
    run_once(reference(root), lambda _: None)
    before = everything(root / "index").rows
    assert "1 log" in asked(root, "archive --older-than 0s --yes")
    lie(root / "index/catalog.db", sql)
    with untouched(root.parent / "outside"):
        for words in (*READING, "query timeline --agent ours", "query participants s", "show done:0", "doctor"):
            asked(root, words)
        asked(root, "archive --older-than 0s --dry-run")
        write_lines(root / "responses/sessions/t.jsonl", record(1, "ours"))
        for words in ("run --once", "archive --older-than 0s", "verify", "reindex"):
            asked(root, words)
    rows = everything(root / "index").rows
    assert [row for row in rows if row in before] == before
