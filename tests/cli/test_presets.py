"""Presets whose logs belong to another tool: found by themselves, indexed elsewhere, nothing written beside them."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from helpers.support import write_lines
from sidecar import ConfigError, Index, RootMissing
from sidecar.cli.app import cli
from sidecar.config.settings import load_settings
from sidecar.tool_logs import candidates

SAMPLES = Path(__file__).parent.parent / "samples" / "home"
TOOLS = sorted(candidates())
VARIABLES = {place.split("/")[0][1:] for places in candidates().values() for place in places if place.startswith("$")}


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Somebody's home with logs of all tools; the working directory is elsewhere."""
    home = tmp_path / "home"
    shutil.copytree(SAMPLES, home)
    monkeypatch.setenv("HOME", str(home))
    for name in (*VARIABLES, "XDG_STATE_HOME", "SIDECAR_ROOT"):
        monkeypatch.delenv(name, raising=False)
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    return home


def sidecar(*words: str) -> Result:
    return CliRunner().invoke(cli, list(words), prog_name="sidecar")


def everything_in(folder: Path) -> dict[str, tuple[int, bytes]]:
    """Each file with its content and the time of its last change, and each folder with the latter."""
    return {
        str(path): (path.lstat().st_mtime_ns, path.read_bytes() if path.is_file() else b"")
        for path in (folder, *folder.rglob("*"))
    }


@pytest.mark.parametrize("tool", TOOLS)
def test_a_tools_logs_are_found_and_nothing_is_written_beside_them(home: Path, tool: str) -> None:
    settings = load_settings(preset=tool)
    before = everything_in(settings.root)
    done = sidecar("--preset", tool, "run", "--once")
    index = home / ".local" / "state" / "sidecar" / tool
    assert done.exit_code == 0
    assert f"reads {settings.root} (never writes there); index in {index}" in done.stderr.replace("\n", " ")
    assert settings.root.is_relative_to(home) and (index / "catalog.db").exists()
    assert sidecar("--preset", tool, "query", "pending").exit_code == 0
    assert sidecar("--preset", tool, "verify").exit_code == 0
    assert everything_in(settings.root) == before
    with Index.of(tool) as found:
        assert found.root == settings.root
        assert all(found.read(entry) for entry in found.timeline())


@pytest.mark.skipif(shutil.which("strace") is None, reason="needs strace")
@pytest.mark.parametrize("tool", TOOLS)
def test_no_system_call_writes_to_a_tools_folder(home: Path, tool: str, tmp_path: Path) -> None:
    root = load_settings(preset=tool).root
    trace = tmp_path / "trace"
    strace = ["strace", "-f", "--seccomp-bpf", "-y", "-s", "4096", "-o", str(trace), "-e", "trace=%file,%desc"]
    ran = subprocess.run(
        [*strace, sys.executable, "-m", "sidecar", "--preset", tool, "run", "--once"],
        env={**os.environ, "HOME": str(home)},
        capture_output=True,
        check=False,
    )
    if b"ptrace" in ran.stderr:
        pytest.skip("strace may not trace here")
    assert ran.returncode == 0, ran.stderr
    calls = [line.partition(" ")[2] for line in trace.read_text(errors="replace").splitlines()]
    assert sum(str(root) in call for call in calls) > 3
    assert [call for call in calls if changes(call, str(root))] == []


def changes(call: str, root: str) -> bool:
    """Whether a system call may change something below the root."""
    name, _, arguments = call.partition("(")
    if re.fullmatch(r"p?writev?(64|2)?|ftruncate|fallocate|flock|fch(mod|own)|futimens|fsetxattr", name):
        return re.match(rf"\d+<{re.escape(root)}", arguments) is not None
    if re.fullmatch(r"open(at2?)?", name):
        return root in arguments and re.search(r"O_(WRONLY|RDWR|CREAT|TRUNC|APPEND)", arguments) is not None
    changing = r"creat|(un|sym)?link(at)?|mkdir(at)?|rmdir|rename(at2?)?|mknod(at)?|truncate|utime|ch(mod|own)|setxattr"
    return root in arguments and re.search(rf"^(l|f)?({changing})", name) is not None


def test_the_environment_names_a_tools_folder_before_the_home_does(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    moved = home / "moved"
    (home / ".claude").rename(moved)
    monkeypatch.setenv("CLAUDE_CONFIG_DIR", str(moved))
    monkeypatch.setenv("XDG_STATE_HOME", str(home / "state"))
    assert load_settings(preset="claude-code").root == moved / "projects"
    assert sidecar("--preset", "claude-code", "run", "--once").exit_code == 0
    assert (home / "state" / "sidecar" / "claude-code" / "catalog.db").exists()
    with Index.of("claude-code") as index:
        assert any(index.timeline())
    monkeypatch.setenv("XDG_STATE_HOME", "not/absolute")
    assert load_settings(preset="claude-code").index == home / ".local" / "state" / "sidecar" / "claude-code"


def test_the_first_folder_that_is_there_is_read(home: Path) -> None:
    (home / ".config").mkdir()
    (home / ".claude").rename(home / ".config" / "claude")
    assert load_settings(preset="claude-code").root == home / ".config" / "claude" / "projects"


def test_a_tool_without_logs_is_told_with_the_folders_that_were_looked_for(home: Path) -> None:
    shutil.rmtree(home / ".claude")
    done = sidecar("--preset", "claude-code", "run", "--once")
    assert done.exit_code == RootMissing.exit_status
    assert f"the root {home}/.claude/projects does not exist" in done.stderr.replace("\n", " ")
    assert "$CLAUDE_CONFIG_DIR/projects" in done.stderr and "--root" in done.stderr
    assert not (home / ".local").exists()


def test_another_root_and_another_index_can_be_named(home: Path) -> None:
    elsewhere = home / "backup"
    (home / ".codex").rename(elsewhere)
    done = sidecar("--preset", "codex", "--root", str(elsewhere), "--index", str(home / "mine"), "run", "--once")
    assert done.exit_code == 0 and (home / "mine" / "catalog.db").exists()
    (Path.cwd() / "config.yaml").write_text(f"preset: codex\nroot: {elsewhere}\nindex: {home}/other\n")
    assert sidecar("run", "--once").exit_code == 0
    assert (home / "other" / "catalog.db").exists()


def test_an_index_is_not_put_among_a_tools_logs(home: Path) -> None:
    done = sidecar("--preset", "codex", "--index", str(home / ".codex" / "index"), "run", "--once")
    assert done.exit_code == ConfigError.exit_status
    assert "belongs to another tool" in done.stderr
    (Path.cwd() / "config.yaml").write_text(f"preset: codex\nindex: {home}/.codex/index\n")
    assert "config.yaml:2: index: " in sidecar("run", "--once").stderr
    assert not (home / ".codex" / "index").exists()


def test_the_configuration_of_other_logs_does_not_apply_to_a_tools(home: Path) -> None:
    own = Path.cwd() / "var" / "logs"
    write_lines(own / "responses" / "sessions" / "s.jsonl", {"event": "note"})
    (Path.cwd() / "config.yaml").write_text("root: var/logs\narchive: var/archive\nscan_interval: 9s\n")
    settings = load_settings(preset="codex")
    assert (settings.root, settings.scan_interval) == (home / ".codex", 9.0)
    assert load_settings().root == own
    assert load_settings(Path("config.yaml"), preset="codex").root == own, "the file is named, so it counts"


@pytest.mark.parametrize("words", [(), ("--dry-run",), ("--keep", "1d", "--yes")])
def test_a_tools_logs_are_not_archived(home: Path, words: tuple[str, ...]) -> None:
    sidecar("--preset", "claude-code", "run", "--once")
    before = everything_in(home)
    done = sidecar("--preset", "claude-code", "archive", "--older-than", "0s", *words)
    assert done.exit_code == ConfigError.exit_status
    assert "belong to another tool" in done.stderr
    assert everything_in(home) == before


def test_copies_of_a_tools_logs_are_archived_and_read_when_the_tool_has_deleted_them(home: Path) -> None:
    root, state = home / ".claude" / "projects", home / ".local" / "state" / "sidecar"
    sidecar("--preset", "claude-code", "run", "--once")
    before = everything_in(root)
    with Index.of("claude-code") as index:
        said = {entry.id: index.read(entry) for entry in index.timeline()}
    for _ in range(2):
        assert sidecar("--preset", "claude-code", "archive", "--copy", "--older-than", "0s").exit_code == 0
        assert everything_in(root) == before
    assert len(list((state / "archive" / "claude-code").rglob("*.zst"))) == 6
    for log in root.rglob("*.jsonl"):
        log.unlink()
    for words in (("run", "--once"), ("verify",), ("reindex",)):
        assert sidecar("--preset", "claude-code", *words).exit_code == 0
        with Index.of("claude-code") as index:
            assert {entry.id: index.read(entry) for entry in index.timeline()} == said


def test_a_log_that_has_grown_since_it_was_copied_is_indexed_and_copied_anew(home: Path) -> None:
    log = home / ".claude" / "projects" / "-home-ann-shop" / "agent-9e8d7c6b.jsonl"
    sidecar("--preset", "claude-code", "run", "--once")
    sidecar("--preset", "claude-code", "archive", "--copy", "--older-than", "0s")
    with log.open("ab") as file:
        file.write(log.read_bytes().splitlines(keepends=True)[-1].replace(b"9e8d-0002", b"9e8d-0003"))
    content = log.read_bytes()
    sidecar("--preset", "claude-code", "run", "--once")
    assert sidecar("--preset", "claude-code", "archive", "--copy", "--older-than", "0s").exit_code == 0
    assert log.read_bytes() == content
    log.unlink()
    assert sidecar("--preset", "claude-code", "verify").exit_code == 0
    with Index.of("claude-code") as index:
        found = list(index.timeline(session="agent-9e8d7c6b"))
        assert [index.read_bytes(entry) for entry in found] == content.splitlines()


@pytest.mark.parametrize("words", [("--keep", "9d", "--yes"), ("--keep-size", "9G", "--yes")])
def test_copies_do_not_expire(home: Path, words: tuple[str, ...]) -> None:
    sidecar("--preset", "claude-code", "run", "--once")
    done = sidecar("--preset", "claude-code", "archive", "--copy", *words)
    assert done.exit_code == ConfigError.exit_status
    assert "--copy deletes nothing" in done.stderr and (home / ".claude").exists()


def test_a_preset_without_a_place_of_its_own_has_no_index_by_name() -> None:
    with pytest.raises(ConfigError, match="'reference' has no place of its own") as caught:
        Index.of("reference")
    assert "claude-code" in caught.value.hint


# ---- the first run


def test_a_first_run_lists_the_logs_that_are_there_with_the_command_for_each(home: Path) -> None:
    for words in (("run",), ("run", "--once")):
        done = sidecar(*words)
        assert done.exit_code == 2 and not done.stdout
        for tool in TOOLS:
            root = load_settings(preset=tool).root
            assert re.search(rf"  sidecar --preset {tool} run --once +\d+ files, .*, in {root}\n", done.stderr)
    assert not (home / ".local").exists() and list(Path.cwd().iterdir()) == []


def test_a_first_run_without_any_logs_says_how_to_name_some(home: Path) -> None:
    for folder in list(home.iterdir()):
        shutil.rmtree(folder)
    done = sidecar("run", "--once")
    assert done.exit_code == 2
    assert "no agent tool has logs in this home" in done.stderr and "--root" in done.stderr


@pytest.mark.parametrize("words", [("--root", "nowhere"), ("--preset", "ksi-daemon")])
def test_a_root_that_was_named_and_is_missing_is_told_as_such(home: Path, words: tuple[str, ...]) -> None:  # noqa: ARG001
    done = sidecar(*words, "run", "--once")
    assert done.exit_code == RootMissing.exit_status
    assert "does not exist" in done.stderr and "--preset codex" not in done.stderr


def test_doctor_tells_which_logs_could_be_indexed_instead(home: Path) -> None:
    shown = sidecar("doctor").stdout
    assert "sidecar --preset claude-code run --once indexes them" in shown and str(home / ".codex") in shown
    assert "logs of" not in sidecar("--preset", "codex", "doctor").stdout
