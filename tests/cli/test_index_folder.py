"""An index that lies elsewhere than below its root: every command finds it, and nothing of it lies among the logs."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from helpers.archives import aged, session
from helpers.support import command, running
from sidecar import Index


@pytest.fixture
def elsewhere(tmp_path: Path) -> Path:
    return tmp_path / "state/one"


def run(root: Path, index: Path, *arguments: str, status: int = 0) -> subprocess.CompletedProcess[str]:
    words = command("--root", root, *arguments, "--index", index)
    done = subprocess.run(words, capture_output=True, text=True, check=False, cwd=root.parent)
    assert done.returncode == status, done.stderr
    return done


def test_every_command_works_on_an_index_that_lies_elsewhere(root: Path, elsewhere: Path) -> None:
    log = session(root, "s", lines=20)
    aged(root)
    before = sorted(root.rglob("*"))
    run(root, elsewhere, "run", "--once")
    run(root, elsewhere, "reindex")
    for words in (["verify"], ["doctor"], ["status"], ["query", "timeline"], ["query", "sessions"], ["show", "s:0"]):
        run(root, elsewhere, *words)
    with Index(root, index=elsewhere) as index:
        assert index.read_bytes(index.get("s:0")) == log.read_bytes().splitlines()[0]
    with running(root, "--index", str(elsewhere), at=elsewhere):
        assert run(root, elsewhere, "run", "--once", status=3).stderr.startswith(
            f"error: the index {elsewhere} is held"
        )
        assert json.loads(run(root, elsewhere, "status", "--json").stdout)["running"]
    assert sorted(root.rglob("*")) == before
    run(root, elsewhere, "archive", "--older-than", "0s")
    assert not log.exists()
    run(root, elsewhere, "show", "s:0")
    run(root, elsewhere, "verify")
    assert "there is no index" in run(root, root / "index", "query", "agents", status=1).stderr


def test_an_index_elsewhere_below_the_root_is_not_read_as_logs(root: Path) -> None:
    session(root, "s", lines=3)
    (root.parent / "config.yaml").write_text(
        "index: logs/state/index\npreset: none\n"
        'sources: [{name: all, glob: "**/*.json*", layout: stream, format: reference}]\n'
    )
    for _ in range(2):  # by then there are files of the sidecar's that the glob fits
        subprocess.run(command("--root", root, "run", "--once"), cwd=root.parent, check=True, capture_output=True)
        (root / "state/index/foreign.json").write_text("{}")
    with Index(root, index=root / "state/index") as index:
        assert {entry.file_path for entry in index.timeline()} == {"responses/sessions/s.jsonl"}
        assert list(index.rejected()) == []


def test_the_index_of_another_root_is_neither_read_nor_written(root: Path, elsewhere: Path, tmp_path: Path) -> None:
    session(root, "s", lines=3)
    session(tmp_path / "other", "t", lines=2)
    run(root, elsewhere, "run", "--once")
    before = (elsewhere / "catalog.db").read_bytes()
    for words in (["run", "--once"], ["reindex"], ["query", "agents"], ["show", "s:0"], ["verify"], ["archive"]):
        done = run(tmp_path / "other", elsewhere, *words, status=2)
        assert f"error: {elsewhere} is the index of {root}, and not of {tmp_path}/other\nhint: " in done.stderr
    for words in (["status"], ["doctor"]):
        assert f"is the index of {root}" in run(tmp_path / "other", elsewhere, *words, status=1).stdout
    assert (elsewhere / "catalog.db").read_bytes() == before
    (tmp_path / "link").symlink_to(root)  # the same root by another name
    run(tmp_path / "link", elsewhere, "query", "agents")


def test_an_index_below_its_root_moves_with_it(root: Path, tmp_path: Path) -> None:
    session(root, "s", lines=3)
    run(root, root / "state/index", "run", "--once")
    root.rename(tmp_path / "moved")
    moved = tmp_path / "moved"
    assert "0 entries indexed" in run(moved, moved / "state/index", "run", "--once").stderr
    run(moved, moved / "state/index", "show", "s:0")


def test_a_folder_with_files_of_others_is_never_taken_for_an_index(root: Path, tmp_path: Path) -> None:
    session(root)
    home = tmp_path / "home"
    home.mkdir(mode=0o755)
    (home / "letter").write_text("dear")
    (home / "letter").chmod(0o666)
    done = run(root, home, "run", "--once", status=2)
    assert done.stderr.startswith(f"error: {home} holds other files, and no index\nhint: ")
    assert [path.name for path in home.iterdir()] == ["letter"]
    assert (home / "letter").stat().st_mode & 0o777 == 0o666
    done = run(root, root.parent, "run", "--once", status=2)
    assert "--index: " in done.stderr and "holds the root" in done.stderr
