"""The tailer alone: whatever is done to a file, what was taken of it is what stands in it.

The state machine writes, truncates, replaces and reads at random, and holds the lines taken since the last `changed`
against a plain split of the file. One thing is kept out of it, because no tailer can see it without reading
everything again: consumed bytes rewritten in place so that the head and the bytes before the position stay the same.
"""

from __future__ import annotations

import os
import socket
import tempfile
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import assume, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from sidecar.logs import tail
from sidecar.logs.tail import NEW, Cursor, NotAFile, ReadResult, has_line_end, read_lines, read_whole_file
from sidecar.records import Rejected

PLENTY = 1 << 20
"""A `max_line_bytes` that no line here reaches."""

Taken = tuple[int, int, int, bytes | None]
"""Byte offset, line number, length, and the bytes; None for a line that is too long."""


def whole_lines(content: bytes, max_line_bytes: int = PLENTY) -> list[Taken]:
    """What has to be taken of a file: every line that ends in LF, without NULs at its ends, nor a byte order mark."""
    found: list[Taken] = []
    offset = 0
    for number, text in enumerate(content.split(b"\n")[:-1], 1):
        unmarked = text.removeprefix(b"\xef\xbb\xbf") if number == 1 else text
        begun = unmarked.lstrip(b"\0")
        line = begun.rstrip(b"\0")
        taken = line if len(line) <= max_line_bytes else None
        found.append((offset + len(text) - len(begun), number, len(line), taken))
        offset += len(text) + 1
    return found


def taken_in(seen: ReadResult) -> list[Taken]:
    """The lines of one look, in the order of the file."""
    lines: list[Taken] = [(line.byte_offset, line.line_number, len(line.data), line.data) for line in seen.lines]
    lines += [(one.byte_offset, one.line_number, one.byte_length, None) for one in seen.rejected]
    return sorted(lines, key=lambda one: one[0])


class Reader:
    """Looks at a file as a sidecar does, and keeps what it took since the file was last another one."""

    def __init__(self, path: Path, max_line_bytes: int = PLENTY) -> None:
        self.path = path
        self.max_line_bytes = max_line_bytes
        self.cursor: Cursor = NEW
        self.taken: list[Taken] = []
        self.padding = 0

    def read_lines(self, limit: int | None = None) -> ReadResult:
        """One look; a changed file is begun again at the next."""
        seen = read_lines(self.path, self.cursor, self.max_line_bytes, limit)
        if seen.changed:
            self.cursor, self.taken, self.padding = NEW, [], 0
        else:
            self.cursor = seen.cursor
            self.taken += taken_in(seen)
            self.padding += seen.padding
        return seen

    def read(self) -> list[Taken]:
        """Look until nothing is left to see."""
        for _ in range(10_000):
            seen = self.read_lines()
            if not seen.changed and not seen.more:
                return self.taken
        raise AssertionError("there was no end to it")


# ---- anything may happen to a file


class AnythingHappens(RuleBasedStateMachine):
    """A file and its reader, with windows and chunks so small that every boundary is met."""

    MAX_LINE = 40

    lines = st.lists(st.sampled_from([0, 0, 1, 7, 15, 31, 39, 40, 41, 90]), min_size=1, max_size=5)

    @initialize(chunk=st.sampled_from([5, 16, 64, 1 << 20]), long=st.sampled_from([4, 20, 1 << 16]))
    def begin(self, chunk: int, long: int) -> None:
        self.patch = pytest.MonkeyPatch()
        self.patch.setattr(tail, "CHUNK_BYTES", chunk)
        self.patch.setattr(tail, "LONG_LINE", min(long, chunk))
        self.patch.setattr(tail, "FINGERPRINT_BYTES", 24)
        self.folder = tempfile.TemporaryDirectory()
        self.path = Path(self.folder.name, "s.jsonl")
        self.reader = Reader(self.path, self.MAX_LINE)
        self.consumed = b""
        """What the reader has seen of the file, up to its offset."""
        self.count = 0
        self.put(b"", os.O_TRUNC)

    def teardown(self) -> None:
        if hasattr(self, "patch"):
            self.patch.undo()
            self.folder.cleanup()

    # what the file holds

    @property
    def content(self) -> bytes:
        return self.path.read_bytes()

    def put(self, data: bytes, how: int) -> None:
        fd = os.open(self.path, os.O_WRONLY | os.O_CREAT | how)
        os.write(fd, data)
        os.close(fd)
        self.tick()

    def tick(self) -> None:
        """Each change has a time of its own, however coarse the clock of the file system."""
        self.count += 1
        os.utime(self.path, ns=(self.count * 10**9, self.count * 10**9))

    def text(self, length: int) -> bytes:
        """A line that was never written before, if it is long enough for that."""
        self.count += 1
        return (b"%d." % self.count * (length + 1))[:length]

    def fresh(self, lengths: list[int]) -> bytes:
        return b"".join(self.text(length) + b"\n" for length in lengths)

    def assume_told_apart(self, new: bytes) -> None:
        """The bytes by which the reader knows the file again differ, or all that it consumed is the same."""
        end, window = len(self.consumed), tail.FINGERPRINT_BYTES
        same_tail = new[max(0, end - window) : end] == self.consumed[-window:] if end else True
        same_head = new[:window] == self.consumed[:window] if end > window else True
        assume(new[:end] == self.consumed or not (same_head and same_tail))

    # what a writer does

    @precondition(lambda self: self.path.exists())
    @rule(lengths=lines)
    def append_lines(self, lengths: list[int]) -> None:
        self.put(self.fresh(lengths), os.O_APPEND)

    @precondition(lambda self: self.path.exists())
    @rule(length=st.integers(1, 60))
    def append_without_line_end(self, length: int) -> None:
        self.put(self.text(length), os.O_APPEND)

    @precondition(lambda self: self.path.exists())
    @rule(count=st.sampled_from([1, 3, 40, 100]))
    def append_nuls(self, count: int) -> None:
        self.put(bytes(count), os.O_APPEND)

    @precondition(lambda self: self.path.exists())
    @rule(lengths=lines, extra=st.sampled_from([0, 0, 30]))
    def write_over_the_nuls_at_the_end(self, lengths: list[int], extra: int) -> None:
        old = self.content
        written = old.rstrip(b"\0")
        new = self.fresh(lengths)
        self.put(written + new + bytes(max(0, len(old) + extra - len(written) - len(new))), 0)

    @precondition(lambda self: self.path.exists() and not self.content)
    @rule()
    def begin_with_a_byte_order_mark(self) -> None:
        self.put(b"\xef\xbb\xbf", os.O_APPEND)

    @precondition(lambda self: self.path.exists())
    @rule(keep=st.floats(0, 1), at_line=st.booleans())
    def truncate(self, keep: float, at_line: bool) -> None:
        old = self.content
        size = int(len(old) * keep)
        if at_line:
            size = old.rfind(b"\n", 0, size) + 1
        os.truncate(self.path, size)
        self.tick()

    @precondition(lambda self: self.path.exists())
    @rule(keep=st.sampled_from([0.0, 0.3, 0.7, 0.95]), extra=st.integers(0, 50))
    def truncate_and_grow_past_the_old_size(self, keep: float, extra: int) -> None:
        old = self.content
        new = old[: int(len(old) * keep)]
        while len(new) <= len(old) + extra:
            new += self.fresh([20])
        self.assume_told_apart(new)
        self.put(new, os.O_TRUNC)

    @precondition(lambda self: self.path.exists())
    @rule(grow=st.sampled_from([0, 1, 50]))
    def replace_by_rename(self, grow: int) -> None:
        size = len(self.content) + grow
        other = self.path.with_suffix(".new")
        other.write_bytes(self.of_size(size))
        other.replace(self.path)
        self.tick()

    @precondition(lambda self: self.path.exists())
    @rule()
    def rewrite_in_place_at_the_same_length(self) -> None:
        new = self.of_size(len(self.content))
        self.assume_told_apart(new)
        self.put(new, 0)

    def of_size(self, size: int) -> bytes:
        new = b""
        while len(new) < size:
            new += self.fresh([min(30, size - len(new) - 1)])
        return new

    @precondition(lambda self: self.path.exists())
    @rule()
    def delete(self) -> None:
        self.path.unlink()

    @precondition(lambda self: not self.path.exists())
    @rule(lengths=lines)
    def create_again(self, lengths: list[int]) -> None:
        new = self.fresh(lengths)
        self.assume_told_apart(new)  # the new file may be given the inode of the old
        self.put(new, os.O_EXCL)

    # what the reader does

    @precondition(lambda self: self.path.exists())
    @rule(limit=st.none() | st.integers(0, 300))
    def look_once(self, limit: int | None) -> None:
        before = len(self.reader.taken)
        seen = self.reader.read_lines(limit)
        expected = whole_lines(self.content, self.MAX_LINE)
        assert self.reader.taken == expected[: len(self.reader.taken)]
        assert limit is None or all(one[0] + one[2] < limit for one in self.reader.taken[before:])
        assert not (seen.changed and (seen.lines or seen.rejected))
        self.consumed = self.content[: self.reader.cursor.offset]

    @precondition(lambda self: self.path.exists())
    @rule()
    def read_to_the_end(self) -> None:
        assert self.reader.read() == whole_lines(self.content, self.MAX_LINE)
        self.consumed = self.content[: self.reader.cursor.offset]
        assert self.consumed == self.content[: self.content.rfind(b"\n") + 1]

    @invariant()
    def the_mark_counts_what_was_taken(self) -> None:
        if hasattr(self, "reader"):
            mark, taken = self.reader.cursor, self.reader.taken
            assert mark.lines == len(taken)
            assert mark.offset == self.reader.padding + sum(length + 1 for _, _, length, _ in taken)


TestAnythingHappens = AnythingHappens.TestCase
TestAnythingHappens.settings = settings(max_examples=250, stateful_step_count=40, deadline=None)


# ---- lines


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "s.jsonl"


def append(path: Path, data: bytes) -> None:
    with path.open("ab", buffering=0) as file:
        file.write(data)


def test_bytes_after_the_last_line_end_wait(log: Path) -> None:
    append(log, b"one\ntw")
    reader = Reader(log)
    assert reader.read() == [(0, 1, 3, b"one")]
    append(log, b"o")
    assert reader.read_lines().lines == []
    append(log, b"\n")
    assert reader.read() == [(0, 1, 3, b"one"), (4, 2, 3, b"two")]


def test_a_carriage_return_stays_with_its_line(log: Path) -> None:
    append(log, b"one\r\n\r\n")
    assert Reader(log).read() == [(0, 1, 4, b"one\r"), (5, 2, 1, b"\r")]


def test_blank_lines_count(log: Path) -> None:
    append(log, b"\n\nx\n")
    assert [line[:2] for line in Reader(log).read()] == [(0, 1), (1, 2), (2, 3)]


@pytest.mark.parametrize("size", [1, 2, 3, 7, 8, 9, 64])
def test_the_size_of_a_chunk_does_not_show(log: Path, monkeypatch: pytest.MonkeyPatch, size: int) -> None:
    monkeypatch.setattr(tail, "CHUNK_BYTES", size)
    monkeypatch.setattr(tail, "LONG_LINE", 1)
    content = b"1234567\n\n12345678\r\nx\n123456\nrest"
    append(log, content)
    reader = Reader(log)
    assert reader.read() == whole_lines(content)
    assert reader.cursor.offset == len(content) - 4


def test_a_limit_is_not_read_beyond(log: Path) -> None:
    append(log, b"one\ntwo\nthree\n")
    reader = Reader(log)
    assert [line.data for line in reader.read_lines(limit=7).lines] == [b"one"]
    assert [line.data for line in reader.read_lines(limit=8).lines] == [b"two"]
    assert reader.read_lines(limit=8).lines == []


@contextmanager
def counted_reads(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[], int]]:
    total = 0
    pread = os.pread

    def counting(fd: int, length: int, offset: int) -> bytes:
        nonlocal total
        data = pread(fd, length, offset)
        total += len(data)
        return data

    with monkeypatch.context() as patch:
        patch.setattr(os, "pread", counting)
        yield lambda: total


def test_a_long_line_that_grows_slowly_is_not_read_again_at_every_look(
    log: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    append(log, b"first\n")
    reader = Reader(log, 64 << 20)
    piece = b"x" * 100_000
    with counted_reads(monkeypatch) as total:
        for _ in range(100):
            append(log, piece)
            reader.read()
        assert total() < 20 << 20  # a search from the start each time would read 500 MB
        append(log, b"\n")
        assert reader.read()[1] == (6, 2, 100 * len(piece), piece * 100)


def test_a_line_that_is_too_long_is_rejected_without_being_held(log: Path) -> None:
    size = 40 << 20
    append(log, b"first\n")
    with log.open("ab") as file:
        file.write(b"x")
        file.truncate(6 + size - 1)  # sparse: zeros
    append(log, b"x\nlast\n")
    reader = Reader(log, 1 << 20)
    tracemalloc.start()
    try:
        assert reader.read() == [(0, 1, 5, b"first"), (6, 2, size, None), (6 + size + 1, 3, 4, b"last")]
        assert tracemalloc.get_traced_memory()[1] < 8 << 20
    finally:
        tracemalloc.stop()


def test_a_line_of_the_greatest_length_is_taken_and_one_byte_more_is_not(log: Path) -> None:
    append(log, b"12345678\n123456789\n")
    assert Reader(log, 8).read() == [(0, 1, 8, b"12345678"), (9, 2, 9, None)]


def test_an_unfinished_line_written_anew_while_nobody_looked_is_read_from_its_start(
    log: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tail, "LONG_LINE", 10)
    append(log, b"first\n" + b"x" * 100)
    reader = Reader(log, 50)
    reader.read()
    log.write_bytes(b"first\n" + b"y\n" * 60)
    assert reader.read() == whole_lines(log.read_bytes(), 50)
    append(log, b"z" * 100)
    reader.read()
    os.truncate(log, 126)
    append(log, b"a\n" + b"b" * 200)  # no line end behind what was searched before
    assert reader.read() == whole_lines(log.read_bytes(), 50)


# ---- what a file is known by


def test_a_file_truncated_between_two_looks_is_another_one(log: Path) -> None:
    append(log, b"one\ntwo\n")
    reader = Reader(log)
    reader.read()
    os.truncate(log, 4)
    assert reader.read_lines().changed
    assert reader.read() == [(0, 1, 3, b"one")]


def test_a_file_cut_back_to_the_position_is_the_same(log: Path) -> None:
    append(log, b"one\ntwo")
    reader = Reader(log)
    reader.read()
    os.truncate(log, 4)
    assert not reader.read_lines().changed
    append(log, b"2\n")
    assert reader.read() == [(0, 1, 3, b"one"), (4, 2, 1, b"2")]


def test_a_file_given_the_inode_of_a_deleted_one_is_known_by_its_bytes(log: Path) -> None:
    append(log, b"one\ntwo\n")
    reader = Reader(log)
    reader.read()
    log.write_bytes(b"eins\nzwei\ndrei\n")  # the same inode, as after a deletion, and longer
    assert reader.read_lines().changed
    assert reader.read() == whole_lines(b"eins\nzwei\ndrei\n")


def test_a_changed_head_is_seen_though_the_end_is_the_same(log: Path) -> None:
    append(log, b"a" * 2_000 + b"\n" + b"b" * 5_000 + b"\n")
    reader = Reader(log)
    reader.read()
    with log.open("r+b") as file:
        file.write(b"c")
    assert reader.read_lines().changed


def test_a_file_swapped_between_open_and_read_is_not_taken_for_a_continuation(
    log: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    append(log, b"one\ntwo\n")
    reader = Reader(log)
    reader.read()
    append(log, b"three\n")
    pread = os.pread

    def after_a_rewrite(fd: int, length: int, offset: int) -> bytes:
        monkeypatch.setattr(os, "pread", pread)
        log.write_bytes(b"EINS\nZWEI\nDREI\nVIER\n")
        return pread(fd, length, offset)

    monkeypatch.setattr(os, "pread", after_a_rewrite)
    assert reader.read_lines().changed
    assert reader.read() == whole_lines(b"EINS\nZWEI\nDREI\nVIER\n")


# ---- what is no log


def test_a_folder_is_refused(log: Path) -> None:
    log.mkdir()
    with pytest.raises(NotAFile):
        read_lines(log, NEW, PLENTY)


def test_a_fifo_is_refused_and_hangs_nobody(log: Path) -> None:
    os.mkfifo(log)
    for read in (lambda: read_lines(log, NEW, PLENTY), lambda: read_whole_file(log, PLENTY)):
        with pytest.raises(NotAFile):
            read()


def test_a_socket_is_refused(log: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(log.parent)
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(log.name)
        with pytest.raises(OSError):
            read_lines(log, NEW, PLENTY)


@pytest.mark.parametrize("target", ["real.jsonl", "nowhere.jsonl"])
def test_a_symbolic_link_is_refused(log: Path, target: str) -> None:
    append(log.with_name("real.jsonl"), b"one\n")
    log.symlink_to(target)
    with pytest.raises(OSError):
        read_lines(log, NEW, PLENTY)


# ---- a whole event file


@pytest.mark.parametrize("content", [b"{}", b"{}\n", b"{\n}\n\n", b""])
def test_an_event_file_is_one_line_without_its_last_line_end(log: Path, content: bytes) -> None:
    log.write_bytes(content)
    _, mark, line, _ = read_whole_file(log, PLENTY)
    assert line == (0, 1, content.removesuffix(b"\n"))
    assert (mark.offset, mark.lines) == (len(content), 1)


def test_an_event_file_that_is_too_long_is_not_read(log: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    size = 1 << 20
    log.write_bytes(b"x" * size)
    with counted_reads(monkeypatch) as total:
        _, mark, line, _ = read_whole_file(log, 10)
        assert total() < size // 4
    assert line == Rejected(1, 0, size, "too-long")
    assert mark.offset == size


def test_an_event_file_in_a_preallocated_file_is_what_stands_between_the_nuls(log: Path) -> None:
    with log.open("wb") as file:
        file.seek(40 << 20)
        file.write(b'{"a": 1}')
        file.truncate(80 << 20)
    tracemalloc.start()
    try:
        _, mark, line, padding = read_whole_file(log, 1 << 20)
        assert tracemalloc.get_traced_memory()[1] < 4 << 20
    finally:
        tracemalloc.stop()
    assert line == (40 << 20, 1, b'{"a": 1}')
    assert (mark.offset, padding) == (80 << 20, (80 << 20) - 8)


@pytest.mark.parametrize("content", [b'\xef\xbb\xbf{"a": 1}\n', b'\0\0{"a": 1}\0\n', b'\xef\xbb\xbf\0{"a": 1}\0'])
def test_an_event_file_is_taken_without_its_padding(log: Path, content: bytes) -> None:
    log.write_bytes(content)
    _, _, line, padding = read_whole_file(log, 8)
    assert line == (content.index(b"{"), 1, b'{"a": 1}')
    assert padding == len(content.removesuffix(b"\n")) - 8


# ---- padding


def test_a_hole_is_neither_held_nor_searched_again_at_every_look(log: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    append(log, b"first\n")
    reader = Reader(log, 100)
    with counted_reads(monkeypatch) as total:
        for size in range(1 << 20, 40 << 20, 1 << 20):
            with log.open("ab") as file:
                file.write(bytes(1 << 16))
                file.truncate(size)
            assert reader.read() == [(0, 1, 5, b"first")]
        tracemalloc.start()
        try:
            append(log, b"last\0\n")
            taken = reader.read()[1]
            assert tracemalloc.get_traced_memory()[1] < 4 << 20
        finally:
            tracemalloc.stop()
        assert taken[2:] == (4, b"last")
        assert total() < 90 << 20  # twice its size at most; a search from the start each time would read 800 MB


def test_a_file_that_is_one_hole_of_a_terabyte_is_looked_at_in_no_time(
    log: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    append(log, b"first\n")
    os.truncate(log, 1 << 40)
    with counted_reads(monkeypatch) as total:
        assert Reader(log).read() == [(0, 1, 5, b"first")]
        assert not has_line_end(log, 6)
        assert total() < 8 << 20


def test_a_record_written_over_nuls_is_found_although_the_file_grows_at_once(log: Path) -> None:
    append(log, b"first\n" + bytes(1 << 20))
    reader = Reader(log)
    assert reader.read() == [(0, 1, 5, b"first")]
    with log.open("r+b") as file:
        file.seek(6)
        file.write(b"second\n")
        file.truncate(2 << 20)
    assert reader.read()[1:] == [(6, 2, 6, b"second")]


@pytest.mark.parametrize("mark", [b"\xff\xfe", b"\xfe\xff"])
def test_a_file_in_another_encoding_says_so_in_its_first_line(log: Path, mark: bytes) -> None:
    append(log, mark + b"{\0}\0\n\0{}\n")
    seen = Reader(log).read_lines()
    assert seen.rejected == [Rejected(1, 0, 6, "not-utf8"), Rejected(2, 7, 3, "not-utf8")]
    assert seen.padding == 0
