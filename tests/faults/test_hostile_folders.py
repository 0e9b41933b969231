"""The index and archive folders as hostile ground: what others put there leads no write, delete, read or
wait elsewhere, and never stops the sidecar."""

from __future__ import annotations

import errno
import fcntl
import os
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import orjson
import pytest

from helpers.corpora import BASE
from helpers.support import HANG, Stepped, command, eventually, reference, running, scratch, write_lines
from sidecar.archive.remove import InUse, remove_log, writer_of
from sidecar.config.settings import Settings
from sidecar.errors import ConfigError, ForeignFile, SidecarError, UnsafePath
from sidecar.fs import FileStat
from sidecar.guarded import GuardedFolder, folder_inside
from sidecar.service.lock import LOCK_FILE, lock_holder, root_locked
from sidecar.service.supervisor import run_once
from sidecar.store.database_files import check_to_write

AS_ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="only root can act as another user")
NOBODY = 65534


@pytest.fixture
def logs(tmp_path: Path) -> Path:
    folder = tmp_path / "logs"
    say(folder, 1)
    return folder


@pytest.fixture
def outside(tmp_path: Path) -> Iterator[Path]:
    """A folder that nothing may touch."""
    folder = tmp_path / "outside"
    folder.mkdir()
    for name in ("victim", "x.json", "x.tmp", "photo.png"):
        (folder / name).write_text("precious")
    before = {path.name: (path.read_text(), path.stat().st_mtime_ns) for path in folder.iterdir()}
    yield folder
    assert {path.name: (path.read_text(), path.stat().st_mtime_ns) for path in folder.iterdir()} == before


def say(root: Path, number: int) -> None:
    write_lines(
        root / "responses/sessions/s.jsonl", {"event": "x", "timestamp": BASE + number, "data": {"agent_id": "a"}}
    )


def index_once(settings: Settings) -> None:
    run_once(settings, lambda _: None)


def entries(root: Path) -> int:
    found = subprocess.run(
        command("--root", root, "query", "timeline", "--json"),
        capture_output=True,
        check=True,
        stdin=subprocess.DEVNULL,
    )
    return found.stdout.count(b"\n")


# ---- requests to a running sidecar


def pipe(folder: Path, _: Path) -> None:
    os.mkfifo(folder / "x.json")


def sparse(folder: Path, _: Path) -> None:
    with (folder / "y").open("wb") as file:
        file.truncate(3 << 30)
    (folder / "y").rename(folder / "x.json")


def link(folder: Path, outside: Path) -> None:
    (folder / "x.json").symlink_to(outside / "x.json")


def answer_as_link(folder: Path, outside: Path) -> None:
    (folder / "x.tmp").symlink_to(outside / "victim")
    (folder / "x.done.tmp").symlink_to(outside / "victim")
    (folder / "x.done").symlink_to(outside / "victim")
    content(b'{"drop": []}')(folder, outside)


def answer_as_folder(folder: Path, outside: Path) -> None:
    (folder / "x.done" / "full").mkdir(parents=True)
    content(b'{"drop": []}')(folder, outside)


def request_as_folder(folder: Path, _: Path) -> None:
    (folder / "x.json" / "full").mkdir(parents=True)


def content(data: bytes) -> Callable[[Path, Path], None]:
    def write(folder: Path, _: Path) -> None:
        (folder / "x.part").write_bytes(data)
        (folder / "x.part").rename(folder / "x.json")

    write.__name__ = data[:40].decode(errors="replace")
    return write


NONSENSE = [
    b"",
    b"\0" * 100,
    b"[]",
    b"null",
    b'{"what": 1}',
    b'{"moves": [["a", [1, 2, 3, 4], ["../x", -1, 2, 3, 4]]], "archive": "/"}',
    b'{"moves": [["../../etc/passwd", [1, 2, 3, 4], ["x", 1, 2, 3, 4]]]}',
    b'{"moves": {}}',
    b'{"drop": "everything"}',
    b'{"drop": [1, null, {}]}',
    b'{"drop": ["../../../etc/passwd"]}',
    b'{"days": [["x", "y", [1], []]]}',
    b'{"days": [["2024-12-30", "../catalog.db", [1], []]]}',
    b'{"days": [["2024-12-30", "compact/2024-12-30.db", [1], ["***"]]]}',
    b'{"days": [["2024-12-30", "compact/2024-12-30.db", [1, 2, 3, 4, 5, 6, 7, 8], []]]}',
    b'{"days": [["9999-99-99", "compact/9999-99-99.db", [], []]]}',
    b'{"days": [["2024-12-30", "compact/2024-12-30.db", [' + b"9" * 40 + b"], []]]}",
    b"[" * 100_000,
]


@pytest.mark.parametrize(
    "plant",
    [pipe, sparse, link, answer_as_link, answer_as_folder, request_as_folder, *map(content, NONSENSE)],
    ids=lambda plant: plant.__name__,
)
def test_whatever_is_in_the_place_of_the_requests_folder_the_sidecar_goes_on(
    logs: Path, outside: Path, plant: Callable[[Path, Path], None]
) -> None:
    with Stepped(reference(logs)) as stepped:
        stepped.turn()
        folder = logs / "index" / "requests"
        folder.mkdir()
        plant(folder, outside)
        say(logs, 2)
        stepped.turn()
        assert len(stepped.rows) == 2
        say(logs, 3)
        stepped.turn()
        assert len(stepped.rows) == 3


def test_a_pipe_for_a_request_stops_neither_indexing_nor_a_signal_to_end(logs: Path) -> None:
    with running(logs) as process:
        (logs / "index" / "requests").mkdir()
        os.mkfifo(logs / "index" / "requests" / "x.json")
        say(logs, 2)
        eventually(lambda: entries(logs) == 2)
        process.terminate()
        assert process.wait(HANG) == 0


def test_requests_behind_a_link_are_neither_taken_nor_deleted(logs: Path, outside: Path) -> None:
    with Stepped(reference(logs)) as stepped:
        stepped.turn()
        (logs / "index" / "requests").symlink_to(outside)
        say(logs, 2)
        stepped.turn()
        assert len(stepped.rows) == 2


# ---- `sidecar archive`


@pytest.mark.parametrize("name", ["going", "compact", "requests"])
@pytest.mark.parametrize("is_running", [False, True])
def test_archive_deletes_nothing_behind_a_link_in_the_index_folder(
    logs: Path, outside: Path, name: str, is_running: bool
) -> None:
    if is_running:
        with running(logs):
            (logs / "index" / name).symlink_to(outside)
            archive(logs)
    else:
        index_once(reference(logs))
        (logs / "index" / name).symlink_to(outside)
        archive(logs)


def archive(root: Path) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        command("--root", root, "archive", "--older-than", "0s"),
        capture_output=True,
        stdin=subprocess.DEVNULL,
        timeout=HANG,
        check=False,
    )


def test_the_name_of_an_archives_root_is_not_written_through_a_link(logs: Path, outside: Path) -> None:
    settings = reference(logs)
    index_once(settings)
    settings.archive.mkdir()
    for name in ("archive.json.part", "archive.json.tmp", "archive.json"):
        (settings.archive / name).symlink_to(outside / "victim")
    archive(logs)


def test_a_log_is_not_deleted_behind_a_link_that_takes_the_place_of_its_folder(logs: Path, tmp_path: Path) -> None:
    log = logs / "responses/sessions/s.jsonl"
    status = log.stat()
    looks = FileStat.of(status)
    (logs / "responses/sessions").rename(tmp_path / "elsewhere")
    (logs / "responses/sessions").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(UnsafePath):
        remove_log(logs, "responses/sessions/s.jsonl", looks, logs / "index")
    assert (tmp_path / "elsewhere" / "s.jsonl").exists()


def test_a_folder_that_is_swapped_while_it_is_opened_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root, elsewhere = tmp_path / "root", tmp_path / "elsewhere"
    (root / "a").mkdir(parents=True)
    elsewhere.mkdir()
    real_open = os.open

    def open_elsewhere(path: str | Path, *arguments: int, **options: int) -> int:
        return real_open(elsewhere if path == root / "a" else path, *arguments, **options)

    monkeypatch.setattr(os, "open", open_elsewhere)
    with pytest.raises(UnsafePath), folder_inside(root, root / "a"):
        pass


def test_a_lock_that_is_not_a_file_is_never_waited_for(logs: Path) -> None:
    lock = logs / "responses/sessions/s.jsonl.lock"
    os.mkfifo(lock)
    fd = os.open(lock, os.O_RDWR)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        assert writer_of(lock) == ""
        status = (logs / "responses/sessions/s.jsonl").stat()
        looks = FileStat.of(status)
        with pytest.raises(InUse, match="not a lock file"):
            remove_log(logs, "responses/sessions/s.jsonl", looks, logs / "index")
    finally:
        os.close(fd)


def test_the_owner_in_a_lock_file_is_read_up_to_a_limit_and_without_control_characters(logs: Path) -> None:
    lock = logs / "s.lock"
    with lock.open("wb") as file:
        file.write(b"evil\x1b[2J\xc2\x9b\n")
        file.truncate(3 << 30)
        fcntl.flock(file, fcntl.LOCK_EX)
        assert writer_of(lock) == "evil?[2J?"


# ---- permissions


@pytest.mark.parametrize("umask", [0o077, 0o022, 0o000])
@pytest.mark.parametrize(
    ("given", "folders", "files"), [(0o755, 0o755, 0o644), (0o750, 0o750, 0o640), (0o700, 0o700, 0o600)]
)
def test_an_index_can_be_read_by_those_who_can_read_the_logs_whatever_the_umask(
    logs: Path, umask: int, given: int, folders: int, files: int
) -> None:
    (logs / "responses").chmod(given)
    (logs / "responses/sessions").chmod(0o755)
    logs.chmod(0o777)
    for words in (["run", "--once"], ["archive", "--older-than", "0s"], ["reindex"]):
        subprocess.run(
            command("--root", logs, *words), check=True, capture_output=True, stdin=subprocess.DEVNULL, umask=umask
        )
        for parent, _, names in os.walk(logs / "index"):
            assert stat.S_IMODE(Path(parent).stat().st_mode) == folders
            for name in names:
                expected = 0o600 if name.endswith(".lock") else files
                assert (name, oct(stat.S_IMODE(Path(parent, name).stat().st_mode))) == (name, oct(expected))


def test_an_index_that_was_open_to_all_is_closed_when_the_logs_are(logs: Path) -> None:
    settings = reference(logs)
    index_once(settings)
    for path in (logs / "index", *(logs / "index").rglob("*")):
        path.chmod(0o777 if path.is_dir() else 0o666)
    logs.chmod(0o700)
    index_once(settings)
    assert not [path for path in (logs / "index", *(logs / "index").rglob("*")) if path.stat().st_mode & 0o077]


# ---- the root's lock


@pytest.fixture
def shared() -> Iterator[Path]:
    """A root that every user can reach and read."""
    with scratch() as folder:
        folder.chmod(0o755)
        (folder / "logs").mkdir(mode=0o755)
        say(folder / "logs", 1)
        yield folder / "logs"


@AS_ROOT
def test_a_user_who_may_only_read_the_index_cannot_keep_the_sidecar_out(shared: Path) -> None:
    index_once(reference(shared))
    others: dict[str, Any] = {"user": NOBODY, "group": NOBODY, "extra_groups": []}
    for name, status in (("catalog.db", 0), (LOCK_FILE, 1)):
        attempt = subprocess.run(["cat", shared / "index" / name], capture_output=True, check=False, **others)
        assert attempt.returncode == status, attempt.stderr
    index_once(reference(shared))


def test_a_lock_of_an_earlier_version_is_made_private(logs: Path) -> None:
    settings = reference(logs)
    index_once(settings)
    lock = logs / "index" / LOCK_FILE
    lock.chmod(0o644)
    inode = lock.stat().st_ino
    index_once(settings)
    assert (stat.S_IMODE(lock.stat().st_mode), lock.stat().st_ino) == (0o600, inode)


@AS_ROOT
def test_a_user_who_may_not_open_the_lock_still_learns_that_a_sidecar_runs(shared: Path) -> None:
    program = "import os, sys; from pathlib import Path; from sidecar.service.lock import lock_holder\n"
    program += f"os.setgroups([]); os.setgid({NOBODY}); os.setuid({NOBODY}); print(lock_holder(Path(sys.argv[1])))"
    index = shared / "index"
    with running(shared):
        held = lock_holder(index)
        found = subprocess.run([sys.executable, "-c", program, index], capture_output=True, text=True, check=True)
    assert held is not None
    assert found.stdout.strip() == str(held)


@pytest.mark.parametrize("plant", [os.mkfifo, lambda path: path.symlink_to("/etc/hostname"), Path.mkdir])
def test_whatever_is_in_the_place_of_the_lock_neither_leads_elsewhere_nor_blocks(
    logs: Path, plant: Callable[[Path], None]
) -> None:
    (logs / "index").mkdir()
    plant(logs / "index" / LOCK_FILE)
    index_once(reference(logs))
    assert stat.S_ISREG((logs / "index" / LOCK_FILE).lstat().st_mode)


def test_a_file_system_without_locks_is_refused_with_a_way_out(logs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_locks(*_: object) -> None:
        raise OSError(errno.ENOSYS, "Function not implemented")

    monkeypatch.setattr(fcntl, "flock", no_locks)
    with pytest.raises(ConfigError, match="has no locks") as found:
        index_once(reference(logs))
    assert "local disk" in found.value.hint
    monkeypatch.undo()
    index_once(reference(logs))  # and nothing is left behind that would keep a later one out


# ---- the folder itself


@pytest.fixture
def guarded(tmp_path: Path) -> Iterator[GuardedFolder]:
    (tmp_path / "guarded").mkdir()
    with GuardedFolder.open(tmp_path / "guarded") as folder:
        yield folder


def test_a_small_file_is_written_whole_and_read_again(guarded: GuardedFolder) -> None:
    guarded.write("a", b"one", durable=True)
    guarded.write("a", b"two")
    assert guarded.read("a") == b"two"
    assert guarded.names() == ["a"]


def test_nothing_but_a_regular_file_of_a_trusted_owner_is_opened(guarded: GuardedFolder, outside: Path) -> None:
    (guarded.path / "link").symlink_to(outside / "victim")
    os.mkfifo(guarded.path / "pipe")
    (guarded.path / "folder").mkdir()
    (guarded.path / "large").write_bytes(b"x" * 100)
    for name in ("link", "pipe", "folder"):
        with pytest.raises(ForeignFile, match=name):
            guarded.read(name)
        with pytest.raises(ForeignFile, match=name):
            check_to_write(guarded, name)
    with pytest.raises(ForeignFile, match="more than 99 bytes"):
        guarded.read("large", 99)
    with pytest.raises(FileNotFoundError):
        guarded.read("none")


def test_a_file_with_a_second_name_is_not_written_in_place(guarded: GuardedFolder, outside: Path) -> None:
    os.link(outside / "victim", guarded.path / "a")
    with pytest.raises(ForeignFile, match="second name"):
        guarded.open_file("a", os.O_RDWR)
    with pytest.raises(ForeignFile, match="second name"):
        check_to_write(guarded, "a")
    guarded.write("a", b"mine")  # a new file takes its place


@AS_ROOT
def test_a_file_of_another_user_is_not_taken_for_ours(guarded: GuardedFolder) -> None:
    guarded.write("a", b"x")
    os.chown(guarded.path / "a", NOBODY, NOBODY)
    with pytest.raises(ForeignFile, match=f"belongs to user {NOBODY}"):
        guarded.read("a")
    with pytest.raises(ForeignFile, match=f"belongs to user {NOBODY}"):
        check_to_write(guarded, "a")


def test_deleting_a_link_or_a_folder_with_links_leaves_what_they_point_to(
    guarded: GuardedFolder, outside: Path
) -> None:
    (guarded.path / "link").symlink_to(outside)
    (guarded.path / "tree" / "deep").mkdir(parents=True)
    (guarded.path / "tree" / "deep" / "link").symlink_to(outside)
    assert guarded.delete("link")
    assert guarded.delete("tree")
    assert not guarded.delete("none")
    assert guarded.names() == []


def test_a_link_in_the_place_of_a_folder_is_refused_by_name(guarded: GuardedFolder, outside: Path) -> None:
    (guarded.path / "daily").symlink_to(outside)
    with pytest.raises(ForeignFile, match="daily is a link, not a directory"):
        guarded.folder("daily", create=True)


def test_an_answer_that_is_not_ours_is_an_error_and_not_a_crash(logs: Path) -> None:
    from sidecar.service.requests import RemoteIndexOwner

    (logs / "index" / "requests").mkdir(parents=True)

    def answered(_: float) -> None:
        for asked in (logs / "index" / "requests").glob("*.json"):
            asked.with_suffix(".done").write_bytes(orjson.dumps(["nonsense"]))

    with root_locked(reference(logs), "run"), pytest.raises(SidecarError, match="not an answer"):
        RemoteIndexOwner(logs / "index", answered).drop(["x"])


def test_the_longest_paths_of_very_many_logs_fit_into_requests_and_answers(logs: Path) -> None:
    from sidecar.records import Extent, Move
    from sidecar.service.requests import RemoteIndexOwner

    settings = reference(logs)
    paths = [f"responses/sessions/{number}{chr(1) * 3_900}" for number in range(3_000)]  # 23 KB each in JSON
    moves = [Move(path, (1, 2, 3, 4), Extent("sessions/x.zst", 0, 1, 1, 1)) for path in paths]
    with Stepped(settings) as stepped:
        stepped.turn()
        owner = RemoteIndexOwner(logs / "index", lambda _: stepped.turn(0))
        refused = owner.archive(moves, os.fspath(settings.archive))
        assert refused.keys() == set(paths)
        assert owner.drop(paths).keys() == set(paths)
