"""Sums of days that are over change no answer, never lie, and are written by nobody but `keep_sums`."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from helpers import story
from helpers.story import Story
from helpers.support import once, reference
from sidecar import Index, analyze
from sidecar.analyze import sums
from sidecar.cli.app import cli


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("told")
    Story(root, tasks_a_day=6)
    once(reference(root))
    return root


@pytest.fixture
def root(told: Path, tmp_path: Path) -> Path:
    root = tmp_path / "root"
    shutil.copytree(told, root)
    # Its files were written just now: within the granularity of the clock, nothing is certain.
    for path in (root / "index" / "daily").iterdir():
        os.utime(path, (1_750_000_000, 1_750_000_000))
    return root


def answers(root: Path) -> list[Any]:
    half = story.BEGIN + 2.5 * story.DAY
    with Index(root) as index:
        return [
            question(index, since, until)
            for since, until in ((None, None), (half, None), (story.BEGIN, half + story.DAY))
            for question in (
                analyze.graph,
                lambda *span: analyze.latency(*span, by="pair"),
                lambda *span: analyze.latency(*span, by="agent"),
                lambda *span: analyze.latency(*span, by="role"),
                analyze.roles,
            )
        ]


def keep(root: Path) -> analyze.KeptSums:
    with Index(root) as index:
        return analyze.keep_sums(index)


def kept(root: Path) -> list[Path]:
    return sorted((root / "index" / "summary").iterdir())


def test_no_answer_changes_with_sums(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = answers(root)
    assert not (root / "index" / "summary").exists()
    assert keep(root) == analyze.KeptSums(story.DAYS, story.DAYS)
    assert keep(root) == analyze.KeptSums(story.DAYS, 0)
    assert answers(root) == before

    # And they are used: days whose entries would be read come from nowhere else.
    def refuse(day: Any) -> Any:
        raise AssertionError(day.day)

    monkeypatch.setattr(sums, "day_edges", refuse)
    with Index(root) as index:
        assert analyze.graph(index) == before[0]


def test_sums_of_a_day_that_has_changed_are_not_used(root: Path) -> None:
    keep(root)
    log = root / "responses" / "sessions" / "sess_retry.jsonl"
    line = json.loads(log.read_text().splitlines()[-1])
    line |= {"request_id": "late", "timestamp": line["timestamp"] + 1}
    with log.open("a") as file:
        file.write(json.dumps(line) + "\n")
    once(reference(root))
    found = answers(root)
    shutil.rmtree(root / "index" / "summary")
    assert answers(root) == found
    assert sum(edge.count for edge in found[0].edges if (edge.author, edge.addressee) == story.DUPLICATE) >= 8


@pytest.mark.parametrize(
    "damage",
    [
        lambda path: path.write_bytes(b""),
        lambda path: path.write_bytes(path.read_bytes()[:-7]),
        lambda path: path.write_bytes(path.read_bytes().replace(b'"edges"', b'"adges"', 1)),
        lambda path: path.write_bytes(b"[]\n"),
        lambda path: (path.unlink(), path.symlink_to("/dev/zero")),
        lambda path: (path.unlink(), os.mkfifo(path)),
        lambda path: (path.unlink(), path.mkdir()),
    ],
)
def test_damaged_or_foreign_sums_are_as_none(root: Path, damage: Callable[[Path], Any]) -> None:
    before = answers(root)
    keep(root)
    for path in kept(root):
        damage(path)
    assert answers(root) == before


def test_sums_of_days_that_are_gone_are_deleted(root: Path) -> None:
    keep(root)
    stray = root / "index" / "summary" / "2001-01-01.sums"
    stray.write_bytes(b"")
    keep(root)
    assert not stray.exists() and len(kept(root)) == story.DAYS


def test_the_day_that_is_not_over_has_no_sums(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sidecar.analyze.sums.time.time", lambda: story.BEGIN + 3.5 * story.DAY)
    monkeypatch.setattr("sidecar.analyze.sums.MTIME_GRANULARITY", -(10**19))
    assert keep(root).days == 3


def test_who_may_not_read_the_daily_files_may_not_read_their_sums(root: Path) -> None:
    (root / "index" / "daily").chmod(0o700)
    before = os.umask(0)
    try:
        keep(root)
    finally:
        os.umask(before)
    assert (root / "index" / "summary").stat().st_mode & 0o077 == 0
    assert all(path.stat().st_mode & 0o077 == 0 for path in kept(root))


def test_the_command_says_what_it_did(root: Path) -> None:
    def command(*words: str) -> str:
        done = CliRunner().invoke(cli, ["--root", str(root), "analyze", "keep", *words])
        assert done.exit_code == 0, done.output
        return done.stdout

    assert command() == "7 days over, 7 summed up now\n"
    assert json.loads(command("--json")) == {"schema_version": 1, "days": 7, "written": 0}
