"""What is not read, what is dropped, and which logs would be one session: none of it without a word."""

from __future__ import annotations

import mmap
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import orjson
import pytest

from helpers.corpora import BASE
from helpers.support import HANG, Stepped, command, everything, indexed, once, rebuilt, reference, write_lines
from sidecar.config.settings import load_settings
from sidecar.health.doctor import run_checks
from sidecar.health.status import status_of

SESSIONS = "responses/sessions"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "logs" / SESSIONS).mkdir(parents=True)
    return tmp_path / "logs"


def said(at: float = BASE, **more: Any) -> dict[str, Any]:
    return {"event": "agent:say", "timestamp": at, **more}


def of_doctor(root: Path) -> str:
    return "\n".join(result.message for result in run_checks(reference(root)) if result.status != "ok")


def run_once(root: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command(*words, "--root", root, "run", "--once"), capture_output=True, text=True, timeout=HANG
    )


def test_links_compressed_logs_and_globs_that_fit_nothing_are_counted_and_named(root: Path, tmp_path: Path) -> None:
    write_lines(root / SESSIONS / "s.jsonl", said())
    (root / SESSIONS / "link.jsonl").symlink_to("s.jsonl")
    (root / SESSIONS / "old.jsonl.gz").write_bytes(b"")
    (tmp_path / "disk").mkdir()
    (root / "events").mkdir()
    (root / "events/2024-12-29").symlink_to(tmp_path / "disk")
    (root / SESSIONS / "unrelated").symlink_to(tmp_path / "disk")
    done = run_once(root)
    assert "4 paths and globs passed over" in done.stderr
    assert status_of(reference(root)).skipped_paths == 4
    told = of_doctor(root)
    for name in ("link.jsonl (link)", "old.jsonl.gz (compressed log, .gz)", "events/2024-12-29 (linked folder)"):
        assert name in told
    assert "no file matches events/" in told
    assert "unrelated" not in told


def test_what_is_dropped_is_counted_with_its_reason_and_a_rebuild_keeps_the_count(root: Path) -> None:
    log = root / SESSIONS / "s.jsonl"
    write_lines(log, said(), said())
    once(reference(root))
    write_lines(root / "new", said(n=1))
    (root / "new").replace(log)
    done = run_once(root)
    assert f"2 entries dropped ({SESSIONS}/s.jsonl: another file has its name)" in done.stderr
    os.truncate(log, 0)
    write_lines(log, {"event": "b:c"})
    once(reference(root))
    for _ in range(2):
        found = status_of(reference(root))
        assert found.dropped == 3
        assert [(one.reason, one.entries) for one in found.dropped_list] == [
            ("another file has its name", 2),
            ("it was truncated", 1),
        ]
        subprocess.run(command("--root", root, "reindex"), check=True, capture_output=True, timeout=HANG)
    assert len(indexed(root)) == 1


def test_a_log_that_is_copied_over_with_more_at_its_end_goes_on_where_it_was(root: Path) -> None:
    log = root / SESSIONS / "s.jsonl"
    write_lines(log, {"event": "agent:say"}, said())
    os.utime(log, (BASE - 5, BASE - 5))
    once(reference(root))
    first = indexed(root)
    (root / "copy").write_bytes(log.read_bytes() + orjson.dumps(said()) + b"\n")
    (root / "copy").replace(log)
    once(reference(root))
    assert indexed(root)[:2] == first and len(indexed(root)) == 3
    assert status_of(reference(root)).dropped == 0
    assert everything(root / "index") == rebuilt(reference(root))


@pytest.mark.parametrize("size", [1 << 12, 3 << 20])
def test_lines_that_a_writer_puts_into_a_mapped_file_are_found_by_the_scan(root: Path, size: int) -> None:
    log = root / SESSIONS / "s.jsonl"
    log.write_bytes(b"\0" * size)
    with Stepped(reference(root)) as stepped, open(log, "r+b") as file, mmap.mmap(file.fileno(), size) as memory:
        stepped.turn()
        at, stat = 0, log.stat()
        for count in range(1, 4):
            line = orjson.dumps(said(BASE + count)) + b"\n"
            memory[at : at + len(line)] = line
            at += len(line)
            # As if the kernel had not got round to the times: it sets them at the first touch of a page.
            os.utime(log, ns=(stat.st_atime_ns, stat.st_mtime_ns))
            stepped.turn()
            assert len(stepped.rows) == count


def test_logs_that_share_a_session_are_told(root: Path, tmp_path: Path) -> None:
    for folder in ("a", "b"):
        write_lines(root / folder / "s.jsonl", said())
    config = tmp_path / "config.yaml"
    source = "{name: mine, glob: '*/s*.jsonl', layout: session, format: reference}"
    config.write_text(f"root: logs\npreset: none\nsources: [{source}]\n")
    (result,) = [one for one in run_checks(load_settings(config)) if one.check == "sessions"]
    assert result.status == "warning"
    assert "two logs or more share one session: s (a/s.jsonl and b/s.jsonl)" in result.message
    config.write_text(config.read_text().replace("*/s*", "<session>/s*"))
    assert not [one for one in run_checks(load_settings(config)) if one.check == "sessions"]


def test_where_all_logs_have_one_name_their_folder_is_the_session(root: Path, tmp_path: Path) -> None:
    for folder in ("a", "b"):
        write_lines(root / "state" / folder / "log" / "events.jsonl", said(data={"agent_id": folder}))
    config = tmp_path / "config.yaml"
    source = "{name: mine, glob: 'state/*/log/events.jsonl', layout: session, format: reference}"
    config.write_text(f"root: logs\npreset: none\nsources: [{source}]\n")
    once(load_settings(config))
    assert [(row[0], row[3], row[7]) for row in indexed(root)] == [("a:0", "a", "a"), ("b:0", "b", "b")]
    assert everything(root / "index") == rebuilt(load_settings(config))


NAMED = """
import sys
from pathlib import Path
sys.path[:0] = {paths!r}
from helpers.support import indexed, once, reference
from sidecar.fs import to_text
root = Path({root!r})
once(reference(root))
print(ascii([(row[0], row[3], row[4]) for row in indexed(root)]))
"""


def test_the_locale_does_not_show_in_names(root: Path) -> None:
    write_lines(root / SESSIONS / "café.jsonl", said())
    Path(os.fsdecode(os.fsencode(root / SESSIONS) + b"/caf\xe9.jsonl")).write_bytes(orjson.dumps(said()) + b"\n")
    script = NAMED.format(paths=sys.path, root=os.fspath(root))
    found = set()
    for more in ({}, {"LC_ALL": "C"}, {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}):
        done = subprocess.run(
            [sys.executable, "-c", script], env={**os.environ, **more}, capture_output=True, text=True, timeout=HANG
        )
        assert done.returncode == 0, done.stderr
        found.add(done.stdout)
    (rows,) = found
    assert "'caf\\xe9'" in rows and "bytes://" in rows
