"""One sidecar a root, which leaves in good order and has touched nothing but its own folder."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import time
from pathlib import Path

import orjson
import pytest

from helpers.corpora import write_tree
from helpers.support import (
    HANG,
    command,
    eventually,
    everything,
    indexed,
    modelled,
    rebuilt,
    reference,
    running,
    write_lines,
)
from sidecar.errors import RootLocked, RootMissing
from sidecar.service import lock
from sidecar.service.lock import RootLock
from sidecar.service.supervisor import rebuild, run_once

LINE = {"event": "agent:say", "timestamp": 1_735_500_000}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "logs"
    write_tree(folder, 1, sessions=5, lines=40, events=10)
    return folder


# ---- who holds it


def test_a_second_sidecar_is_refused_and_told_who_is_first(root: Path) -> None:
    with running(root) as first:
        for job in (run_once, lambda settings, report: rebuild(settings, 1, report)):
            with pytest.raises(RootLocked, match=rf"`sidecar run`, process {first.pid}$"):
                job(reference(root), lambda _: None)
        assert lock.lock_holder(root / "index") == (first.pid, "run")
    assert lock.lock_holder(root / "index") is None


def test_the_command_of_a_second_sidecar_ends_with_status_3(root: Path) -> None:
    with running(root) as first:
        second = subprocess.run(command("--root", root, "run", "--once"), capture_output=True, check=False)
        assert second.returncode == 3
        assert str(first.pid) in second.stderr.decode()
        assert first.poll() is None


def test_death_releases_the_lock(root: Path) -> None:
    with running(root) as first:
        first.kill()
        first.wait()
        assert lock.lock_holder(root / "index") is None
        run_once(reference(root), lambda _: None)
    assert indexed(root) == modelled(root)


def test_the_name_of_a_dead_holder_is_given_to_nobody(tmp_path: Path) -> None:
    (tmp_path / lock.LOCK_FILE).write_bytes(b'{"pid": 1, "job": "run", "since": 0}\n')
    assert lock.lock_holder(tmp_path) is None


def test_who_never_ran_holds_nothing(tmp_path: Path) -> None:
    assert lock.lock_holder(tmp_path / "index") is None
    assert not (tmp_path / "index").exists()


def test_a_lock_file_that_says_nothing_is_still_a_lock(tmp_path: Path) -> None:
    held = RootLock(tmp_path)
    held.acquire("run")
    (tmp_path / lock.LOCK_FILE).write_bytes(b"")
    try:
        assert lock.lock_holder(tmp_path) == (os.getpid(), "?")
        with pytest.raises(RootLocked):
            RootLock(tmp_path).acquire("run")
    finally:
        held.release()


def test_the_lock_file_outlives_its_holder(tmp_path: Path) -> None:
    held = RootLock(tmp_path)
    held.acquire("run")
    inode = (tmp_path / lock.LOCK_FILE).stat().st_ino
    held.release()
    assert (tmp_path / lock.LOCK_FILE).stat().st_ino == inode


def test_where_there_is_no_root_nothing_is_made(tmp_path: Path) -> None:
    with pytest.raises(RootMissing, match="does not exist"):
        run_once(reference(tmp_path / "nowhere"), lambda _: None)
    assert not (tmp_path / "nowhere").exists()


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b'{"pid": 999999999, "job": "run", "since": 0}', "`sidecar run`, process 999999999, which does not run here"),
        (b"", "another process, which has not written its name into the lock"),
    ],
)
def test_a_holder_that_the_kernel_does_not_list_is_told_as_the_lock_says(
    tmp_path: Path, content: bytes, told: str
) -> None:
    """As in another container, whose process ids mean nothing here."""
    (tmp_path / lock.LOCK_FILE).write_bytes(content)
    assert lock._described(tmp_path / lock.LOCK_FILE).startswith(told)


# ---- how it leaves


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_with_everything_indexed(root: Path, number: int) -> None:
    log = root / "responses/sessions/new.jsonl"
    with running(root) as process:
        write_lines(log, *[LINE] * 500)
        process.send_signal(number)
        _, said = process.communicate(timeout=HANG)
    assert process.returncode == 0, said.decode()
    assert indexed(root) == modelled(root)
    assert [path.name for path in (root / "index").rglob("*") if path.name.endswith(("-wal", "-shm", "-journal"))] == []
    assert not (root / "index/running.json").exists()


def test_it_ends_while_lines_keep_coming(root: Path) -> None:
    log = root / "responses/sessions/new.jsonl"
    with running(root) as process:
        write_lines(log, LINE)
        process.terminate()
        began = time.monotonic()
        while process.poll() is None:
            write_lines(log, *[LINE] * 20)
            assert time.monotonic() - began < HANG
    run_once(reference(root), lambda _: None)
    assert indexed(root) == modelled(root)


# ---- what it touches

# -y tells the file behind a descriptor, as `3</path>`.
_CALLS = (
    "openat,open,creat,rename,renameat,renameat2,unlink,unlinkat,mkdir,mkdirat,rmdir,link,linkat,symlink,symlinkat,"
    "chmod,fchmod,fchmodat,chown,fchown,fchownat,truncate,ftruncate,flock,fcntl,utimensat,fallocate,setxattr,fsetxattr"
)
_READS = re.compile(
    r"\bopen(?:at)?\([^\n]*O_RDONLY(?![^\n]*(?:O_CREAT|O_TRUNC))|^\S*\s*fcntl\((?![^\n]*F_(?:OFD_)?SETLK)"
)


@pytest.mark.skipif(shutil.which("strace") is None, reason="needs strace")
def test_nothing_outside_the_index_is_written_created_renamed_deleted_or_locked(root: Path, tmp_path: Path) -> None:
    run_once(reference(root), lambda _: None)
    write_lines(root / "responses/sessions/new.jsonl", *[LINE] * 50)
    (root / "responses/sessions" / "link.jsonl").symlink_to("new.jsonl")
    trace = tmp_path / "trace"
    strace = ["strace", "-f", "-y", "-s", "4096", "-o", str(trace), "-e", f"trace={_CALLS}"]
    environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1"}
    subprocess.run([*strace, *command("--root", root, "run", "--once")], check=True, env=environment)
    lines = trace.read_text().splitlines()
    touching = [line for line in lines if "(" in line and not _READS.search(line)]
    touching = [line for line in touching if " ENOENT " not in line and f"{root}/index" not in line]
    # Elsewhere it may open the terminal's devices and pipes, as any program does.
    touching = [line for line in touching if not re.search(r'"/dev/|"/proc/', line)]
    assert touching == []
    assert sum("new.jsonl" in line for line in lines) > 0
    assert sum(f"{root}/index" in line and "O_RDWR" in line for line in lines) > 0
    (root / "responses/sessions/link.jsonl").unlink()  # for the model, which follows it
    assert indexed(root) == modelled(root)


def test_no_log_changes_in_any_way(root: Path) -> None:
    def seen() -> dict[Path, tuple[int, ...]]:
        files = [path for path in root.rglob("*") if root / "index" not in (path, *path.parents)]
        statuses = {path: path.stat() for path in files}
        return {path: (one.st_ino, one.st_size, one.st_mtime_ns, one.st_ctime_ns) for path, one in statuses.items()}

    before = seen()
    with running(root):
        eventually(lambda: len(everything(root / "index").sources) == 15)
    rebuild(reference(root), 1, lambda _: None)
    assert seen() == before


def test_what_runs_is_told_beside_the_index(root: Path) -> None:
    with running(root):
        said = orjson.loads((root / "index/running.json").read_bytes())
        assert said["watching"] == "inotify"
        eventually(lambda: len(everything(root / "index").sources) == 15)
    assert everything(root / "index").rows == rebuilt(reference(root)).rows
