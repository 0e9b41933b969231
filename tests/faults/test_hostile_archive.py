"""What others put into the archive folder: nothing of it leads the archive command or a reader elsewhere, takes their
memory, or keeps them waiting."""

from __future__ import annotations

import os
import resource
import shutil
import struct
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import orjson
import pytest
from pyzstd import compress

from helpers.archives import archived, files, known, logs, session, take_in
from helpers.support import command, reference
from sidecar import Index, SidecarError
from sidecar.bulk.rebuild import reindex
from sidecar.config.settings import Settings
from sidecar.errors import ArchiveDamaged, ArchiveMissing, SourceError
from sidecar.guarded import GuardedFolder
from sidecar.logs.archive_file import Archive, is_of, owner_of

AS_ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="only root can act as another user")
DAY = "sessions/2024-12-29"


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    root = tmp_path / "var/logs"
    session(root)
    settings = reference(root)
    take_in(settings)
    return settings


@pytest.fixture
def outside(tmp_path: Path) -> Iterator[Path]:
    """A folder that nothing may touch."""
    folder = tmp_path / "outside"
    for name in ("victim", "s.jsonl.zst", "s.jsonl.zst.part", "2024-12-29/s.jsonl.zst.part", "archive.json"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("precious")
    before = _looks(folder)
    yield folder
    assert _looks(folder) == before


def _looks(folder: Path) -> dict[str, tuple[int, int, str]]:
    found = (folder, *folder.rglob("*"))
    return {str(path): (path.stat().st_mtime_ns, path.stat().st_ino, _text(path)) for path in found}


def _text(path: Path) -> str:
    return path.read_text() if path.is_file() else ""


def link(path: Path, outside: Path) -> None:
    path.symlink_to(outside / "victim")


def link_to_folder(path: Path, outside: Path) -> None:
    path.symlink_to(outside)


def pipe(path: Path, _: Path) -> None:
    os.mkfifo(path)


def folder(path: Path, _: Path) -> None:
    (path / "full").mkdir(parents=True)


def second_name(path: Path, outside: Path) -> None:
    os.link(outside / "victim", path)


Plant = Callable[[Path, Path], None]
PLANTS = [link, link_to_folder, pipe, folder, second_name]


# ---- written


@pytest.mark.parametrize("plant", PLANTS)
@pytest.mark.parametrize("name", [f"{DAY}/s.jsonl.zst.part", f"{DAY}/s.jsonl.zst", f"{DAY}/s.jsonl.2.zst.part"])
def test_a_log_is_archived_whatever_has_the_name_of_its_archive(
    settings: Settings, outside: Path, plant: Plant, name: str
) -> None:
    before = known(settings)
    (settings.archive / name).parent.mkdir(parents=True)
    plant(settings.archive / name, outside)
    assert len(archived(settings).archived) == 1
    assert logs(settings.root) == []
    assert known(settings).records == before.records


@pytest.mark.parametrize("name", ["sessions", DAY])
@pytest.mark.parametrize("plant", [link_to_folder, link, pipe])
def test_whatever_is_in_the_place_of_an_archive_folder_is_refused_by_name(
    settings: Settings, outside: Path, plant: Plant, name: str
) -> None:
    (settings.archive / name).parent.mkdir(parents=True)
    plant(settings.archive / name, outside)
    with pytest.raises(SidecarError, match=f"{Path(name).name} is a .*, not a directory"):
        archived(settings)
    assert len(logs(settings.root)) == 1


def test_a_folder_that_becomes_a_link_while_an_archive_is_made_leads_nothing_elsewhere(
    settings: Settings, outside: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = known(settings)
    create = GuardedFolder.create
    swapped = []

    def swap_then_create(self: GuardedFolder, name: str, mode: int = 0o666) -> int:
        if name.endswith(".zst.part") and not swapped:
            swapped.append(name)
            self.path.rename(settings.archive / "elsewhere")
            self.path.symlink_to(outside)
        return create(self, name, mode)

    monkeypatch.setattr(GuardedFolder, "create", swap_then_create)
    with suppress(SidecarError):
        archived(settings)
    assert swapped and len(logs(settings.root)) == 1
    assert known(settings).records == before.records


def test_only_what_the_archive_command_has_left_unfinished_is_deleted(settings: Settings, outside: Path) -> None:
    for name in ("film.part", "sessions/film.part", "other/x.zst.part", f"{DAY}/left.jsonl.zst.part"):
        (settings.archive / name).parent.mkdir(parents=True, exist_ok=True)
        (settings.archive / name).write_text("x")
    (settings.archive / "events").symlink_to(outside)
    with pytest.raises(SidecarError, match="events is a link"):
        archived(settings)
    (settings.archive / "events").unlink()
    archived(settings)
    left = sorted(path.relative_to(settings.archive).as_posix() for path in settings.archive.rglob("*.part"))
    assert left == ["film.part", "other/x.zst.part", "sessions/film.part"]


# ---- read


@pytest.mark.parametrize("plant", PLANTS)
def test_what_takes_the_place_of_an_archive_is_an_error_with_its_name(
    settings: Settings, outside: Path, plant: Plant
) -> None:
    archived(settings)
    (file,) = files(settings)
    (settings.archive / file).unlink()
    plant(settings.archive / file, outside)
    with Index(settings.root) as index, pytest.raises(SourceError, match=Path(file).name):
        index.read_bytes(next(index.timeline()))


def test_a_link_in_the_place_of_a_folder_is_an_error_with_its_name(settings: Settings) -> None:
    archived(settings)
    (settings.archive / "sessions").rename(settings.archive.parent / "moved")
    (settings.archive / "sessions").symlink_to(settings.archive.parent / "moved")
    with Index(settings.root) as index, pytest.raises(ArchiveDamaged, match="sessions is a link, not a directory"):
        index.read_bytes(next(index.timeline()))
    with Archive(settings.archive) as folder, pytest.raises(ArchiveMissing, match="sessions is a link"):
        folder.files()


@pytest.mark.parametrize("content", [b"", b"[]", b'{"root": 1}', b'{"root": "a\\u0000b"}', b"[" * 50_000, None])
def test_whoever_says_what_root_an_archive_belongs_to_is_not_believed_at_any_price(
    settings: Settings, content: bytes | None
) -> None:
    settings.archive.mkdir()
    owner = settings.archive / "archive.json"
    if content is None:
        with owner.open("wb") as file:
            file.truncate(3 << 30)
    else:
        owner.write_bytes(content)
    assert not is_of(settings.archive, settings.root)
    owner.unlink()
    os.mkfifo(owner)
    assert owner_of(settings.archive) is None
    archived(settings)
    assert is_of(settings.archive, settings.root)


def sparse(path: Path) -> None:
    with path.open("wb") as file:
        file.truncate(3 << 30)


def note_of_3_gb(path: Path) -> None:
    with path.open("wb") as file:
        file.write(struct.pack("<II", 0x184D2A55, 3 << 30) + b"sidecar1")
        file.truncate(4 << 30)


def note_that_unpacks_to_8_gb(path: Path) -> None:
    packed = b"sidecar1" + compress(b"[" + b" " * (1 << 30)) * 8
    path.write_bytes(struct.pack("<II", 0x184D2A55, len(packed)) + packed)


def table_of_400_million_frames(path: Path) -> None:
    frames = 400_000_000
    with path.open("wb") as file:
        file.truncate(17 + 8 * frames - 9)
        file.seek(0, os.SEEK_END)
        file.write(struct.pack("<IBI", frames, 0, 0x8F92EAB1))
        file.seek(0)
        file.write(struct.pack("<II", 0x184D2A5E, 9 + 8 * frames))


def sizes_beyond_what_sqlite_stores(path: Path) -> None:
    member = ["responses/sessions/s.jsonl", 0, 0, (1 << 64) - 1, 1, 1, None]
    packed = b"sidecar1" + compress(orjson.dumps([member]))
    path.write_bytes(struct.pack("<II", 0x184D2A55, len(packed)) + packed)


BOMBS = [
    sparse,
    note_of_3_gb,
    note_that_unpacks_to_8_gb,
    table_of_400_million_frames,
    sizes_beyond_what_sqlite_stores,
]
READ = """
import sys
from pathlib import Path
from sidecar.errors import SidecarError
from sidecar.logs.archive_file import Archive

with Archive(Path(sys.argv[1])) as archive:
    for question in (archive.members, lambda file: archive.read(file, 0, 1 << 20)):
        try:
            question(sys.argv[2])
        except SidecarError as error:
            print(error)
"""


@pytest.mark.parametrize("bomb", BOMBS, ids=lambda bomb: bomb.__name__)
def test_an_archive_that_would_take_all_memory_is_damaged(settings: Settings, bomb: Callable[[Path], None]) -> None:
    archived(settings)
    (file,) = files(settings)
    (settings.archive / file).unlink()
    bomb(settings.archive / file)
    done = subprocess.run(
        [sys.executable, "-c", READ, settings.archive, file],
        capture_output=True,
        text=True,
        check=True,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_AS, (1 << 30, 1 << 30)),
    )
    assert done.stdout.count("damaged") == 2, done.stdout
    verified = subprocess.run(command("--root", settings.root, "verify"), capture_output=True, text=True, check=False)
    assert verified.returncode == 1 and "Traceback" not in verified.stderr
    shutil.rmtree(settings.index_folder)
    settings.index_folder.mkdir()
    with pytest.raises(SidecarError, match=Path(file).name):
        reindex(settings)  # what it held is not to be taken for gone


@AS_ROOT
def test_an_archive_of_another_user_can_be_read_and_written_by_root(settings: Settings) -> None:
    archived(settings)
    for path in (settings.archive, *settings.archive.rglob("*")):
        os.chown(path, 65534, 65534)
    session(settings.root, "t")
    take_in(settings)
    assert len(archived(settings).archived) == 1
    with Index(settings.root) as index:
        assert len(known(settings).records) == len(list(index.timeline()))
