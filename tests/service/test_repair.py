"""Whatever happens to an index file is noticed, set aside and made good from the logs, unattended."""

from __future__ import annotations

import os
import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from random import Random

import orjson
import pytest

from helpers.corpora import BASE, DAY
from helpers.support import Everything, eventually, everything, indexed, modelled, reference, running, write_lines
from sidecar.bulk.rebuild import reindex
from sidecar.config.settings import Settings
from sidecar.errors import IndexUnavailable, SchemaMismatch, SidecarError
from sidecar.query.index import Index
from sidecar.service import supervisor as service
from sidecar.service.supervisor import run_once
from sidecar.store import layout as swap
from sidecar.store.connection import VERSION

LOG = "responses/sessions/s.jsonl"
DAYS = ["2024-12-29", "2024-12-30", "2024-12-31"]
CATALOG = "catalog.db"
FILES = [CATALOG, *(f"daily/{day}.db" for day in DAYS)]


def deleted(path: Path) -> None:
    path.unlink()


def cut_in_half(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def emptied(path: Path) -> None:
    os.truncate(path, 0)


def zeros(path: Path) -> None:
    path.write_bytes(bytes(path.stat().st_size))


def noise(path: Path) -> None:
    path.write_bytes(Random(1).randbytes(path.stat().st_size))


def noise_in_the_middle(path: Path) -> None:
    with path.open("r+b") as file:
        file.seek(4096)
        file.write(Random(1).randbytes(3 * 4096))


def another_database(path: Path) -> None:
    path.unlink()
    with closing(sqlite3.connect(path)) as database:
        database.execute("CREATE TABLE t (x)")


DAMAGES = [deleted, cut_in_half, emptied, zeros, noise, noise_in_the_middle, another_database]
Damage = Callable[[Path], None]


def quietly(settings: Settings) -> None:
    run_once(settings, lambda _: None)


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A root, indexed: three days, a request answered a day later, one open, a rejected line."""
    root = tmp_path_factory.mktemp("sound")
    for number in range(120):
        at = BASE + DAY * (number % 3)
        request = {"event": "completion:request", "correlation_id": f"c{number}", "timestamp": at}
        answer = {"event": "completion:result", "correlation_id": f"c{number}", "timestamp": at + DAY * (number % 2)}
        answer["timestamp"] = min(answer["timestamp"], BASE + 2 * DAY)
        write_lines(root / LOG, {**request, "data": {"agent_id": f"agent_{number}", "text": "x" * 300}})
        if number % 5:
            write_lines(root / LOG, {**answer, "data": {"agent_id": "z"}})
    write_lines(root / LOG, b"no record\n")
    quietly(reference(root))
    assert [path.name for path in swap.daily_paths(root / "index")] == [f"{day}.db" for day in DAYS]
    return root


@pytest.fixture
def root(sound: Path, tmp_path: Path) -> Path:
    """A copy of it to damage."""
    copy = Path(shutil.copytree(sound, tmp_path / "logs", copy_function=shutil.copy2))
    quietly(reference(copy))  # a copied log is another file
    return copy


def healed(root: Path, expected: Everything) -> None:
    """After the next start all is as before, and stays so."""
    settings = reference(root)
    quietly(settings)
    assert everything(root / "index") == expected
    assert indexed(root) == modelled(root)
    before = identity(root)
    quietly(settings)
    assert identity(root) == before, "an index that was made good was made again"


def identity(root: Path) -> list[int]:
    return [(root / "index" / file).stat().st_ino for file in FILES]


# ---- damage at rest


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("file", FILES)
def test_a_damaged_file_is_made_good_at_the_next_start(root: Path, file: str, damage: Damage) -> None:
    expected = everything(root / "index")
    damage(root / "index" / file)
    healed(root, expected)


@pytest.mark.parametrize("file", FILES)
def test_a_damaged_file_is_set_aside_with_the_reason(root: Path, file: str) -> None:
    noise(root / "index" / file)
    bytes_before = (root / "index" / file).read_bytes()
    quietly(reference(root))
    aside = root / "index" / swap.QUARANTINE
    kept = [path for path in aside.iterdir() if path.name.endswith(Path(file).name)]
    assert [path.read_bytes() for path in kept] == [bytes_before]
    assert file in (aside / "why.txt").read_text()


def test_damage_upon_damage_leaves_the_latest_aside(root: Path) -> None:
    for file in FILES:
        noise(root / "index" / file)
        quietly(reference(root))
    aside = [path.name.partition("Z-")[2] for path in (root / "index" / swap.QUARANTINE).iterdir()]
    assert sorted(aside) == ["", *(f"{day}.db" for day in DAYS), CATALOG]
    assert indexed(root) == modelled(root)


def test_a_whole_index_folder_that_is_gone_is_made_again(root: Path) -> None:
    expected = everything(root / "index")
    shutil.rmtree(root / "index")
    healed(root, expected)


@pytest.mark.parametrize("file", FILES)
def test_a_damage_that_keeps_size_and_time_is_found_when_the_file_is_opened(root: Path, file: str) -> None:
    """As when a disk decays: nothing tells from outside that the bytes are others."""
    expected = everything(root / "index")
    path = root / "index" / file
    status = path.stat()
    noise(path)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    healed(root, expected)


@pytest.mark.parametrize("suffix", ["-wal", "-shm", "-journal"])
def test_a_foreign_file_beside_a_database_harms_nothing(root: Path, suffix: str) -> None:
    expected = everything(root / "index")
    for file in FILES:
        (root / "index" / f"{file}{suffix}").write_bytes(Random(2).randbytes(5_000))
    quietly(reference(root))
    assert everything(root / "index") == expected


def test_a_folder_in_the_place_of_a_file_is_set_aside(root: Path) -> None:
    expected = everything(root / "index")
    path = root / "index" / FILES[1]
    path.unlink()
    path.mkdir()
    healed(root, expected)


# ---- an index of other times


@pytest.mark.parametrize("file", FILES)
def test_an_index_of_another_version_is_named_by_readers_and_made_again(root: Path, file: str) -> None:
    expected = everything(root / "index")
    with closing(sqlite3.connect(root / "index" / file)) as database:
        database.execute(f"PRAGMA user_version = {VERSION + 1}")
    with Index(root) as index, pytest.raises(SchemaMismatch, match=f"version {VERSION + 1}"):
        assert list(index.timeline()) and list(index.sessions())
    healed(root, expected)


def test_an_index_made_under_other_settings_is_made_again(root: Path) -> None:
    few = replace(reference(root), sources=reference(root).sources[1:])
    quietly(few)
    assert indexed(root) == []
    quietly(reference(root))
    assert indexed(root) == modelled(root)
    quietly(reference(root, max_line_bytes=350))
    assert 0 < len(indexed(root)) < len(modelled(root))


def test_settings_that_no_row_depends_on_change_nothing(root: Path) -> None:
    before = identity(root)
    quietly(reference(root, scan_interval=1.0, checkpoint_interval=3.0, polling=True))
    assert identity(root) == before


# ---- a swap that was not finished


def half_done(root: Path, moved: int) -> None:
    """An index that was rebuilt and committed, of which so many files have been moved into place."""
    folder = root / "index"
    new = folder / f"{swap.READY}1"
    (new / swap.DAILY_NAME).mkdir(parents=True)
    for file in FILES:
        shutil.copy2(folder / file, new / file)
        noise(folder / file)  # nobody looks at the old ones any more
    for file in FILES[1 : 1 + moved]:
        (new / file).replace(folder / file)
    (folder / swap.MANIFEST).write_bytes(orjson.dumps({"folder": new.name, "daily": [f"{day}.db" for day in DAYS]}))


@pytest.mark.parametrize("moved", range(4))
def test_a_committed_swap_is_read_as_it_is_and_finished_at_the_next_start(root: Path, moved: int) -> None:
    expected = everything(root / "index")
    half_done(root, moved)
    (root / "index/daily/2025-06-01.db").write_bytes(b"of the old index")
    assert everything(root / "index") == expected
    healed(root, expected)
    assert not list((root / "index").glob(f"{swap.READY}*"))
    assert not (root / "index" / swap.MANIFEST).exists()


def test_a_rebuild_that_was_not_committed_is_thrown_away(root: Path) -> None:
    expected = everything(root / "index")
    half_done(root, 0)
    (root / "index" / swap.MANIFEST).replace(root / "index" / f"{swap.MANIFEST}.tmp")
    healed(root, expected)
    assert not list((root / "index").glob(f"{swap.READY}*"))
    assert not (root / "index" / f"{swap.MANIFEST}.tmp").exists()


def test_a_manifest_that_cannot_be_read_stops_nobody(root: Path) -> None:
    expected = everything(root / "index")
    (root / "index" / swap.MANIFEST).write_bytes(b"\0" * 40)
    healed(root, expected)


# ---- the one note that the logs do not hold


@pytest.fixture
def timeless(tmp_path: Path) -> tuple[Path, Everything]:
    """A root whose records bear no time, touched after it was indexed: only the catalog knows when they came."""
    root = tmp_path / "timeless"
    write_lines(root / LOG, *[{"event": "agent:say"}] * 3)
    os.utime(root / LOG, (BASE, BASE))
    write_lines(root / "responses/sessions/t.jsonl", {"event": "agent:say", "timestamp": BASE + DAY})
    quietly(reference(root))
    os.utime(root / LOG, (BASE + 9 * DAY, BASE + 9 * DAY))
    return root, everything(root / "index")


def test_a_rebuild_takes_over_when_a_file_was_first_seen(timeless: tuple[Path, Everything]) -> None:
    root, before = timeless
    service.rebuild(reference(root), 1, lambda _: None)
    assert everything(root / "index") == before


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_lost_day_does_not_lose_when_a_file_was_first_seen(timeless: tuple[Path, Everything], damage: Damage) -> None:
    root, before = timeless
    damage(root / "index/daily/2024-12-29.db")
    quietly(reference(root))
    assert everything(root / "index") == before


def test_damage_that_shows_only_later_does_not_lose_it_either(timeless: tuple[Path, Everything]) -> None:
    root, before = timeless
    path = root / "index/daily/2024-12-29.db"
    status = path.stat()
    noise(path)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    quietly(reference(root))
    assert everything(root / "index") == before


def test_a_rebuild_that_was_killed_does_not_lose_it_either(timeless: tuple[Path, Everything]) -> None:
    root, before = timeless
    (root / "index/daily/2024-12-29.db").unlink()
    child = os.fork()
    if child == 0:
        swap.commit_swap = lambda *_: os.kill(os.getpid(), 9)  # type: ignore[assignment]
        quietly(reference(root))
    assert os.waitpid(child, 0)[1] == 9
    quietly(reference(root))
    assert everything(root / "index") == before


def test_another_version_does_not_lose_it_either(timeless: tuple[Path, Everything]) -> None:
    root, before = timeless
    for path in (root / "index").rglob("*.db"):
        with closing(sqlite3.connect(path)) as database:
            database.execute(f"PRAGMA user_version = {VERSION + 1}")
    quietly(reference(root))
    assert everything(root / "index") == before


# ---- damage under a running sidecar


def replaced_by_noise(path: Path) -> None:
    other = path.with_name("other")
    other.write_bytes(Random(1).randbytes(8192))
    other.replace(path)


def cut_to_a_page(path: Path) -> None:
    os.truncate(path, 4096)


@pytest.mark.parametrize("damage", [deleted, emptied, zeros, noise, replaced_by_noise, cut_to_a_page])
@pytest.mark.parametrize("file", [FILES[0], FILES[1], FILES[3]])
def test_a_running_sidecar_notices_and_heals_what_is_done_to_its_files(
    root: Path, tmp_path: Path, file: str, damage: Damage
) -> None:
    (tmp_path / "config.yaml").write_text("scan_interval: 0.2\ncheckpoint_interval: 0.1\n")
    expected = everything(root / "index")

    def is_whole() -> bool:
        try:
            return everything(root / "index") == expected
        except (IndexUnavailable, sqlite3.Error):
            return False

    with running(root, "--config", str(tmp_path / "config.yaml")) as process:
        damage(root / "index" / file)
        eventually(lambda: (root / "index" / swap.QUARANTINE / "why.txt").exists() and is_whole())
        assert process.poll() is None
        write_lines(root / LOG, {"event": "agent:say", "timestamp": BASE})
        eventually(lambda: len(indexed(root)) == len(expected.rows) + 1)
    assert process.returncode == 0
    assert indexed(root) == modelled(root)


def test_a_first_run_indexes_what_it_can_where_a_folder_cannot_be_read_and_a_reindex_refuses(
    root: Path, tmp_path: Path
) -> None:
    shutil.rmtree(root / "index")
    expected = modelled(root)
    write_lines(tmp_path / "elsewhere/2024-12-29/evt_1735500000.5_note.json", {"event": "note"})
    (root / "events").symlink_to(tmp_path / "elsewhere")  # out of the root: told, and not followed
    quietly(reference(root))
    assert indexed(root) == expected
    with pytest.raises(SidecarError, match="events"):
        reindex(reference(root))
