"""What doctor finds, and what it tells to do about it."""

from __future__ import annotations

import json
import os
import re
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace

import pytest

from helpers.support import unprivileged
from sidecar import fs as mounts
from sidecar.config.settings import Settings, load_settings
from sidecar.health import doctor as machine
from sidecar.health.doctor import CheckResult, run_checks
from sidecar.service.lock import RootLock
from sidecar.service.supervisor import run_once

RECORD = json.dumps({"event": "completion:request", "timestamp": 1705314600.0, "data": {"agent_id": "a"}}) + "\n"


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """A root with a session and an event file, in a working folder without config.yaml."""
    monkeypatch.chdir(tmp_path)
    root = tmp_path / "logs"
    (root / "responses/sessions").mkdir(parents=True)
    (root / "responses/sessions/sess_1.jsonl").write_text(RECORD * 3)
    (root / "events/2024-01-15").mkdir(parents=True)
    (root / "events/2024-01-15/evt_1705314600.1_agent_spawn.json").write_text('{\n  "data": {"agent_id": "a"}\n}\n')
    return load_settings(root=root)


def found(settings: Settings, check: str) -> CheckResult:
    (finding,) = [one for one in run_checks(settings) if one.check == check]
    return finding


def sessions(settings: Settings) -> Path:
    return settings.root / "responses/sessions"


def test_where_all_is_well_nothing_has_advice(settings: Settings) -> None:
    run_once(settings, lambda _: None)
    findings = run_checks(settings)
    assert [(one.check, one.advice) for one in findings if one.status != "ok"] == []
    assert [one.check for one in findings] == [
        *("python", "sqlite", "configuration", "root", "source sessions", "source events"),
        *("index folder", "disk", "watching", "sidecar", "index"),
    ]


def test_it_changes_nothing(settings: Settings) -> None:
    def everything() -> list[tuple[str, int]]:
        return sorted((str(path), path.stat().st_mtime_ns) for path in settings.root.rglob("*"))

    before = everything()
    run_checks(settings)
    assert everything() == before


# --- the root and its sources -----------------------------------------------------------------------------------------


def test_a_root_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    finding = found(load_settings(root=tmp_path / "nowhere"), "root")
    assert (finding.status, "--root" in finding.advice) == ("error", True)


def test_what_cannot_be_read_is_named(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    for i in range(10):
        (sessions(settings) / f"shut_{i}.jsonl").write_text(RECORD)
    access: Callable[..., bool] = os.access
    monkeypatch.setattr(os, "access", lambda path, mode: "shut_" not in str(path) and access(path, mode))
    finding = found(settings, "root")
    assert finding.status == "error"
    assert "responses/sessions/shut_" in finding.message and "and 5 more" in finding.message
    assert "setfacl" in finding.advice


def test_a_folder_that_cannot_be_read_is_named(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    scandir = os.scandir

    def shut(path: str) -> object:
        if str(path).endswith("sessions"):
            raise PermissionError(13, "Permission denied", path)
        return scandir(path)

    monkeypatch.setattr(os, "scandir", shut)
    finding = found(settings, "root")
    assert finding.status == "error" and "responses/sessions (Permission denied)" in finding.message


def test_links_and_pipes_are_named(settings: Settings) -> None:
    (sessions(settings) / "link.jsonl").symlink_to(sessions(settings) / "sess_1.jsonl")
    os.mkfifo(sessions(settings) / "pipe.jsonl")
    finding = found(settings, "links")
    assert finding.status == "warning"
    assert "responses/sessions/link.jsonl (link), responses/sessions/pipe.jsonl (pipe)" in finding.message


def test_a_glob_without_files_is_a_warning(settings: Settings) -> None:
    (sessions(settings) / "sess_1.jsonl").unlink()
    finding = found(settings, "source sessions")
    assert (finding.status, finding.message) == ("warning", "no file matches responses/sessions/*.jsonl")


def test_where_no_source_matches_the_preset_that_would_is_named(tmp_path: Path) -> None:
    folder = tmp_path / "logs/events/2024-01-15"
    folder.mkdir(parents=True)
    (folder / "events.jsonl").write_text('{"event_name": "x", "timestamp": 1.0, "data": {}}\n')
    finding = found(load_settings(root=tmp_path / "logs"), "sources")
    assert finding.status == "error"
    assert "the preset `ksi-daemon` matches 1 file" in finding.advice


def test_where_no_source_matches_the_files_that_look_like_logs_are_named(tmp_path: Path) -> None:
    bus = tmp_path / "logs/bus/2024.jsonl"
    bus.parent.mkdir(parents=True)
    bus.write_text(RECORD)
    finding = found(load_settings(root=tmp_path / "logs"), "sources")
    assert finding.status == "error"
    assert "bus/2024.jsonl" in finding.advice and "`sources` in config.yaml" in finding.advice


def test_files_that_look_like_logs_and_have_no_source_are_told_beside_those_that_have_one(settings: Settings) -> None:
    run_once(settings, lambda _: None)  # no file of the index is one of them
    (settings.root / "notes.jsonl").write_text(RECORD)
    (settings.root / "picture.png").write_text("")
    finding = found(settings, "other files")
    assert (finding.status, finding.advice) == ("ok", "")
    assert finding.message == "1 file named like a log belongs to no source: notes.jsonl"


def test_an_index_that_cannot_be_read_is_an_error_and_no_end(settings: Settings) -> None:
    run_once(settings, lambda _: None)
    code = "import sys; from sidecar.cli import main; main()"
    settings.index_folder.chmod(0)
    words = unprivileged(sys.executable, "-c", code, "--root", settings.root, "doctor", "--json")
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    settings.index_folder.chmod(0o755)
    findings = {one["check"]: one for one in map(json.loads, done.stdout.splitlines())}
    assert (done.returncode, findings["index"]["status"]) == (1, "error")
    assert str(settings.index_folder) in findings["index"]["message"] and "ermission" in findings["index"]["message"]


def test_a_configuration_without_sources_is_an_error(settings: Settings) -> None:
    none = load_settings(root=settings.root, preset="none")
    assert found(none, "configuration").status == "error"


# --- do the formats fit -----------------------------------------------------------------------------------------------


def test_lines_that_are_no_records_are_told_with_share_reason_and_place(settings: Settings) -> None:
    (sessions(settings) / "sess_2.jsonl").write_text(RECORD + "\n" + '{"kind": "x"}\n' * 5 + "[1]\n")
    finding = found(settings, "source sessions")
    assert finding.status == "warning"
    assert finding.message == (
        "2 files, format reference; 60% of 10 lines checked are not records: "
        "5 no-event-type, first responses/sessions/sess_2.jsonl line 3"
    )
    assert "`event_type`" in finding.advice


@pytest.mark.parametrize(
    ("content", "reason", "advice"),
    [
        ("plain text\n", "not-json", "the layout is `file`"),
        ("[1]\n", "not-object", "narrow the glob"),
        ('{"kind": 1}\n', "no-event-type", "event_type"),
    ],
)
def test_a_format_that_fits_nothing_is_an_error(settings: Settings, content: str, reason: str, advice: str) -> None:
    (sessions(settings) / "sess_1.jsonl").write_text(content)
    finding = found(settings, "source sessions")
    assert finding.status == "error"
    assert reason in finding.message and advice in finding.advice


def test_lines_that_are_too_long_ask_for_a_higher_limit(settings: Settings) -> None:
    (settings.root.parent / "config.yaml").write_text("max_line_bytes: 100\n")
    (sessions(settings) / "sess_1.jsonl").write_text(RECORD + f'{{"event": "{"x" * 200}"}}\n')
    finding = found(load_settings(root=settings.root), "source sessions")
    assert finding.status == "warning" and "too-long" in finding.message
    assert "max_line_bytes" in finding.advice


def test_event_files_are_read_whole(settings: Settings) -> None:
    folder = settings.root / "events/2024-01-15"
    (folder / "evt_1705314600.2_x.json").write_text(RECORD * 2)
    finding = found(settings, "source events")
    assert "50% of 2 lines" in finding.message
    assert "the layout is `session` or `stream`" in finding.advice


def test_of_many_files_some_are_looked_at(settings: Settings) -> None:
    for i in range(100):
        (sessions(settings) / f"sess_{i}.jsonl").write_text(RECORD * 200)
    finding = found(settings, "source sessions")
    assert finding.message == "100 files, format reference; all of 2,000 lines checked are records"


def test_a_file_without_a_whole_line_is_well(settings: Settings) -> None:
    (sessions(settings) / "sess_1.jsonl").write_text('{"event"')
    finding = found(settings, "source sessions")
    assert (finding.status, "no complete line" in finding.message) == ("ok", True)


# --- the index --------------------------------------------------------------------------------------------------------


def test_without_an_index_it_says_so(settings: Settings) -> None:
    finding = found(settings, "index")
    assert (finding.status, "none yet" in finding.message) == ("ok", True)


def test_a_damaged_index_is_an_error(settings: Settings) -> None:
    run_once(settings, lambda _: None)
    (settings.index_folder / "catalog.db").write_bytes(b"no database at all" * 500)
    finding = found(settings, "index")
    assert finding.status == "error" and "reindex" in finding.advice


def test_an_index_of_another_version_is_told(settings: Settings) -> None:
    run_once(settings, lambda _: None)
    with closing(sqlite3.connect(settings.index_folder / "catalog.db")) as catalog:
        catalog.execute("PRAGMA user_version = 999")
    finding = found(settings, "index")
    assert finding.status == "error" and "version 999" in finding.message


def test_an_index_made_under_other_settings_is_told(settings: Settings) -> None:
    run_once(settings, lambda _: None)
    finding = found(load_settings(root=settings.root, preset="ksi-daemon"), "index")
    assert finding.status == "warning"
    assert finding.message == "sources, formats or the law of derivation have changed since it was built"


def test_a_running_sidecar_is_named(settings: Settings) -> None:
    lock = RootLock(settings.index_folder)
    lock.acquire("run")
    try:
        finding = found(settings, "sidecar")
    finally:
        lock.release()
    assert finding.message == f"`sidecar run` is running on this root, process {os.getpid()}"


# --- the machine ------------------------------------------------------------------------------------------------------


def limits(folder: Path, monkeypatch: pytest.MonkeyPatch, watches: int, instances: int) -> None:
    (folder / "max_user_watches").write_text(f"{watches}\n")
    (folder / "max_user_instances").write_text(f"{instances}\n")
    monkeypatch.setattr(machine, "_INOTIFY", folder)


def test_too_few_watches_are_told_with_the_line_that_helps(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    limits(tmp_path, monkeypatch, watches=2, instances=100_000)
    finding = found(settings, "watching")
    assert finding.status == "warning"
    assert "3 folders to watch" in finding.message and "polls" in finding.message
    assert finding.advice.startswith("sudo sysctl fs.inotify.max_user_watches=524288")


def test_too_few_instances_are_told_with_the_line_that_helps(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    limits(tmp_path, monkeypatch, watches=1_000_000, instances=1)
    assert found(settings, "watching").advice.startswith("sudo sysctl fs.inotify.max_user_instances=512")


def test_watches_that_others_hold_are_not_free(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    process = tmp_path / "proc/4711"
    (process / "fd").mkdir(parents=True)
    (process / "fdinfo").mkdir()
    (process / "fd/5").symlink_to("anon_inode:inotify")
    (process / "fdinfo/5").write_text("pos:\t0\ninotify wd:2 ino:1\ninotify wd:1 ino:2\n")
    monkeypatch.setattr(machine, "_PROC", tmp_path / "proc")
    limits(tmp_path, monkeypatch, watches=100, instances=10)
    assert "98 of 100 watches and 9 of 10 instances are free" in found(settings, "watching").message


def test_on_a_network_file_system_it_polls_and_the_index_needs_another_place(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mounts, "file_system", lambda _: "nfs4")
    assert "nfs4 is a network file system" in found(settings, "watching").message
    assert found(settings, "watching").status == "warning"
    assert found(settings, "index folder").status == "error"
    assert "local folder" in found(settings, "index folder").advice


def test_polling_that_was_asked_for_is_well(settings: Settings) -> None:
    (settings.root.parent / "config.yaml").write_text("polling: true\n")
    assert found(load_settings(root=settings.root), "watching").message.startswith("by polling, as configured")


def test_an_index_folder_that_cannot_be_written_is_an_error(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    access: Callable[..., bool] = os.access
    monkeypatch.setattr(os, "access", lambda path, mode: not mode & os.W_OK and access(path, mode))
    finding = found(settings, "index folder")
    assert finding.status == "error" and "install -d" in finding.advice


def test_a_disk_without_room_is_an_error(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.disk_usage", lambda _: SimpleNamespace(free=5_000_000))
    finding = found(settings, "disk")
    assert finding.status == "error"
    assert re.match(r"5\.0 MB free; the index of \d+ B of log needs up to 100 MB", finding.message)


def test_old_versions_are_errors(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "version_info", (3, 10, 4))
    monkeypatch.setattr(sqlite3, "sqlite_version_info", (3, 34, 1))
    assert {one.check: one.status for one in machine.versions()} == {"python": "error", "sqlite": "error"}
    assert settings.root.is_dir()
