"""P2: every pointer gives the very bytes that were indexed, or says why not; and none leads out of the root."""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from helpers.corpora import BASE, write_tree
from helpers.support import reference, write_lines
from sidecar import Entry, Index, SidecarError
from sidecar.errors import SourceChanged, SourceError, SourceMissing, UnsafePath
from sidecar.fs import to_os
from sidecar.lenient import read_document
from sidecar.service.supervisor import run_once

SESSION = "responses/sessions/s.jsonl"


def index_tree(root: Path) -> None:
    """Index a reference tree, as `sidecar run --once` does."""
    run_once(reference(root), lambda _: None)


def only_entry(root: Path) -> Entry:
    with Index(root) as index:
        (entry,) = index.timeline()
    return entry


def one_record(root: Path, **data: Any) -> Path:
    """A log of one record, indexed."""
    write_lines(root / SESSION, {"event": "agent:spawn", "timestamp": BASE, "data": data})
    index_tree(root)
    return root / SESSION


# ---- the very bytes


def without_padding(beginning: bytes) -> bytes:
    """The first line of a file, without a byte order mark and NULs at its ends."""
    return beginning.removeprefix(b"\xef\xbb\xbf").strip(b"\0")


def is_json(line: bytes) -> bool:
    """Whether a line is one document, and not several that are glued together."""
    try:
        read_document(line)
    except ValueError:
        return False
    return True


def test_every_entry_of_a_tree_gives_its_line_to_the_byte(tmp_path: Path) -> None:
    write_tree(tmp_path, 3, sessions=6, lines=150, events=40)
    index_tree(tmp_path)
    count = 0
    with Index(tmp_path) as index:
        for entry in index.timeline():
            content = (tmp_path / entry.file_path).read_bytes()
            expected = index.read_bytes(entry)
            assert content[entry.byte_offset :].startswith(expected)
            if entry.file_path.startswith("events/"):
                assert expected == without_padding(content.removesuffix(b"\n"))
            else:
                line = content.split(b"\n")[entry.line_number - 1]
                line = without_padding(line) if entry.line_number == 1 else line.strip(b"\0")
                assert expected == line if is_json(line) else expected in line
                assert content[: entry.byte_offset].count(b"\n") == entry.line_number - 1
            record = index.read(entry)
            assert record == read_document(expected)
            assert record.get("event") == entry.event_type or entry.file_path.startswith("events/")
            count += 1
    assert count > 700


def test_a_carriage_return_is_a_byte_of_its_line(tmp_path: Path) -> None:
    line = b'{"event":"agent:spawn","timestamp":1735500000}\r'
    write_lines(tmp_path / SESSION, b"\r\n", line + b"\n")
    index_tree(tmp_path)
    with Index(tmp_path) as index:
        assert index.read_bytes(only_entry(tmp_path)) == line
        assert index.read(only_entry(tmp_path)) == {"event": "agent:spawn", "timestamp": BASE}


@pytest.mark.parametrize("end", [b"", b"\n", b"\r\n", b"\n\n"])
def test_an_event_file_is_given_whole_but_for_its_last_line_end(tmp_path: Path, end: bytes) -> None:
    record = {"event": "agent:spawn", "data": {"agent_id": "агент"}}
    content = json.dumps(record, indent=2, ensure_ascii=False).encode() + end
    write_lines(tmp_path / "events/2024-12-29/evt_1735500000.5_spawn.json", content)
    index_tree(tmp_path)
    with Index(tmp_path) as index:
        assert index.read_bytes(only_entry(tmp_path)) == content.removesuffix(b"\n")
        assert index.read(only_entry(tmp_path)) == record


def test_a_file_whose_name_is_no_utf_8_is_read_like_any_other(tmp_path: Path) -> None:
    path = Path(os.fsdecode(os.fsencode(tmp_path / "responses/sessions") + b"/caf\xe9 %.jsonl"))
    write_lines(path, {"event": "agent:spawn", "timestamp": BASE})
    index_tree(tmp_path)
    entry = only_entry(tmp_path)
    entry.file_path.encode()
    assert to_os(entry.file_path) == os.fspath(path.relative_to(tmp_path))
    with Index(tmp_path) as index:
        assert index.read(entry)["timestamp"] == BASE
        assert index.get(entry.id) == entry
        assert index.get(f"{entry.file_path}:0") == entry


def test_an_entry_a_quarter_of_a_microsecond_before_midnight_can_be_read(tmp_path: Path) -> None:
    write_lines(tmp_path / SESSION, {"event": "agent:spawn", "timestamp": BASE + 16_799.9999998})
    index_tree(tmp_path)
    with Index(tmp_path) as index:
        assert index.read(only_entry(tmp_path))["event"] == "agent:spawn"


def test_an_entry_kept_from_before_the_file_grew_is_still_read(tmp_path: Path) -> None:
    one_record(tmp_path)
    entry = only_entry(tmp_path)
    write_lines(tmp_path / SESSION, {"event": "more"})
    with Index(tmp_path) as index:
        assert index.read(entry)["event"] == "agent:spawn"


# ---- or why not


def test_a_log_file_that_is_gone_is_named(tmp_path: Path) -> None:
    one_record(tmp_path).unlink()
    with Index(tmp_path) as index, pytest.raises(SourceMissing, match=SESSION) as caught:
        index.read(only_entry(tmp_path))
    assert "reindex" in caught.value.hint


def truncated(path: Path) -> None:
    os.truncate(path, path.stat().st_size - 9)


def emptied(path: Path) -> None:
    path.write_bytes(b"")


def overwritten(path: Path) -> None:
    times = path.stat()
    with path.open("r+b") as file:
        file.write(path.read_bytes().replace(b"first", b"other"))
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))


def replaced(path: Path) -> None:
    other = path.with_suffix(".tmp")
    other.write_bytes(path.read_bytes().replace(b"first", b"other"))
    other.replace(path)


def grown_in_front(path: Path) -> None:
    path.write_bytes(b"\n" + path.read_bytes())


@pytest.mark.parametrize("change", [truncated, emptied, overwritten, replaced, grown_in_front])
def test_bytes_that_are_others_now_are_never_given(tmp_path: Path, change: Callable[[Path], None]) -> None:
    path = one_record(tmp_path, prompt="first")
    change(path)
    with Index(tmp_path) as index, pytest.raises(SourceChanged, match=rf"{SESSION}, byte 0") as caught:
        index.read_bytes(only_entry(tmp_path))
    assert "run --once" in caught.value.hint


def test_an_entry_that_the_index_no_longer_has_is_not_read(tmp_path: Path) -> None:
    path = one_record(tmp_path, prompt="first")
    entry = only_entry(tmp_path)
    path.write_bytes(b"\n" + path.read_bytes())
    index_tree(tmp_path)
    with Index(tmp_path) as index:
        with pytest.raises(SourceChanged, match="no longer has such an entry"):
            index.read(entry)
        assert index.read(only_entry(tmp_path))["data"] == {"prompt": "first"}


def test_a_folder_or_a_pipe_in_the_place_of_a_log_is_an_error_and_does_not_hang(tmp_path: Path) -> None:
    path = one_record(tmp_path)
    entry = only_entry(tmp_path)
    path.unlink()
    for make in (os.mkdir, os.mkfifo):
        make(path)
        with Index(tmp_path) as index, pytest.raises(SourceError):
            index.read(entry)
        path.rmdir() if path.is_dir() else path.unlink()


# ---- an index from somebody else's hands

SECRET = b'{"event":"agent:spawn","timestamp":1735500000,"data":{}}'


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """An indexed log, beside a secret outside of the root that has the very same bytes."""
    root = tmp_path / "logs"
    path = one_record(root)
    assert path.read_bytes() == SECRET + b"\n"
    secrets = tmp_path / "secrets"
    secrets.mkdir()
    (secrets / "s.jsonl").write_bytes(SECRET + b"\n")
    (root / "away").symlink_to(secrets)
    (root / "responses" / "link.jsonl").symlink_to(secrets / "s.jsonl")
    return root


def tamper(root: Path, sql: str, *values: Any) -> None:
    """Change the one daily file, as its owner can."""
    (path,) = (root / "index" / "daily").glob("*.db")
    with closing(sqlite3.connect(path)) as database, database:
        assert database.execute(sql, values).rowcount == 1


FOLDERS = [
    "../secrets/",
    "responses/../../secrets/",
    "responses/sessions/../../../secrets/",
    "away/",
    "./responses/sessions/",
    "responses//sessions/",
    "bytes://../secrets/",
    "bytes://%2e%2e/secrets/",
    "bytes://..%2Fsecrets/",
    "responses/sessions/\0",
    "/",
    "//",
]


@pytest.mark.parametrize("folder", FOLDERS)
def test_a_pointer_that_leaves_the_root_is_refused(root: Path, folder: str) -> None:
    tamper(root, "UPDATE name SET text = ? WHERE text = 'responses/sessions/'", folder)
    entry = only_entry(root)
    assert entry.file_path == f"{folder}s.jsonl"
    with Index(root) as index, pytest.raises(UnsafePath) as caught:
        index.read_bytes(entry)
    assert "tampered" in caught.value.hint


def test_an_absolute_pointer_is_refused_also_within_the_root(root: Path) -> None:
    for folder in (root / "responses" / "sessions", root.parent / "secrets"):
        tamper(root, "UPDATE name SET text = ? WHERE id = (SELECT folder FROM source)", f"{folder}/")
        with Index(root) as index, pytest.raises(UnsafePath):
            index.read_bytes(only_entry(root))


@pytest.mark.parametrize("stem", ["../../away/s", "../../../secrets/s", "/s"])
def test_a_stem_with_a_way_out_is_refused(root: Path, stem: str) -> None:
    tamper(root, "UPDATE source SET stem = ?", stem)
    with Index(root) as index, pytest.raises(UnsafePath):
        index.read_bytes(only_entry(root))


def test_a_pointer_to_a_link_is_not_followed(root: Path) -> None:
    tamper(root, "UPDATE name SET text = 'responses/' WHERE text = 'responses/sessions/'")
    tamper(root, "UPDATE source SET stem = 'link'")
    with Index(root) as index, pytest.raises(SourceError):
        index.read_bytes(only_entry(root))


def test_links_in_a_circle_are_an_error_of_ours(root: Path) -> None:
    (root / "round").symlink_to(root / "about")
    (root / "about").symlink_to(root / "round")
    tamper(root, "UPDATE name SET text = 'round/' WHERE text = 'responses/sessions/'")
    with Index(root) as index, pytest.raises(SourceError):
        index.read_bytes(only_entry(root))


@pytest.mark.parametrize(
    ("column", "value"),
    [("byte_length", 2**62), ("byte_length", -1), ("byte_offset", -1), ("byte_offset", 2**62), ("checksum", 0)],
)
def test_a_place_that_cannot_be_gives_no_bytes(root: Path, column: str, value: int) -> None:
    tamper(root, f"UPDATE entry SET {column} = ?", value)
    with Index(root) as index, pytest.raises(SourceError):
        index.read_bytes(only_entry(root))


def test_an_entry_made_up_by_the_caller_is_looked_up_before_it_is_read(root: Path) -> None:
    from dataclasses import replace

    entry = only_entry(root)
    with Index(root) as index:
        for made_up in (replace(entry, file_path="../secrets/s.jsonl"), replace(entry, file_path="away/s.jsonl")):
            with pytest.raises(UnsafePath):
                index.read_bytes(made_up)
        with pytest.raises(SourceChanged, match="no longer has such an entry"):
            index.read_bytes(replace(entry, byte_offset=3))
        with pytest.raises(SourceChanged, match="no longer has such an entry"):
            index.read_bytes(replace(entry, timestamp=entry.timestamp + 86_400))


def test_every_error_of_a_pointer_is_an_error_of_the_sidecar() -> None:
    for kind in (SourceMissing, SourceChanged, UnsafePath):
        assert issubclass(kind, SourceError)
        assert issubclass(kind, SidecarError)
        assert kind.hint
