"""A disk that loses its power: what was done to its files, according to strace, and what may be left of that.

What was synced is left. Of what was written to a file since its last sync any part may be left: nothing, everything,
the last write without those before it, or sectors here and there. Names are another matter: they are made, moved and
removed in folders, and are left once the folder was synced; of the later changes of a folder the first few may be left,
and the others not; or all changes of all folders go through one journal, which every sync writes out, as with ext4 and
xfs (`sync_names`). A rename is done or not done, whichever folders it touches.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from random import Random
from typing import NamedTuple

SECTOR = 512
SHARED_MEMORY = "-shm"
"""Ends the name of what SQLite keeps in memory only."""

_CALLS = (
    "openat,open,creat,pwrite64,pwritev,write,writev,truncate,ftruncate,fallocate,fsync,fdatasync,sync_file_range,rename,"
    "renameat,renameat2,unlink,unlinkat,mkdir,mkdirat,rmdir,link,linkat,symlink,symlinkat,copy_file_range,sendfile"
)
_LINE = re.compile(r"(?P<pid>\d+) +(?P<call>\w+)\((?P<arguments>.*)\) += (?P<result>-?\d+|\?)")
_UNFINISHED = re.compile(r"(?P<pid>\d+) +(?P<begin>\w+\(.*) <unfinished \.\.\.>$")
_RESUMED = re.compile(r"(?P<pid>\d+) +<\.\.\. \w+ resumed>(?P<end>.*)")
_FD = re.compile(r"(?:\d+|AT_FDCWD)<(?P<path>(?:\\x[0-9a-f]{2})+)>$")  # neither a pipe nor what is deleted


class Op(NamedTuple):
    """One operation: `make`, `write`, `cut`, `sync`, `rename`, `link`, `remove`, `mkdir`."""

    kind: str
    path: str
    other: str = ""
    at: int = 0
    data: bytes = b""


# ---- recorded


def recorded(arguments: list[str], trace: Path, folder: Path) -> list[Op]:
    """Run a program under strace. Returns everything that it and its children have done below a folder."""
    strace = ["strace", "-f", "--seccomp-bpf", "-y", "-xx", "-s", "100000000", "-o", str(trace), "-e"]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    subprocess.run([*strace, f"trace={_CALLS}", *arguments], check=True, env=environment)
    with trace.open() as lines:
        return list(_Reader(str(folder)).read(lines))


class _Reader:
    """Turns the lines of a trace into operations."""

    def __init__(self, folder: str) -> None:
        self._folder = folder
        self._sizes: dict[str, int] = {}
        """Of the files that are there, for those who append."""
        self._places: dict[tuple[str, str], int] = {}
        """Where the next `write` to a descriptor goes; -1 for the end."""

    def read(self, lines: Iterator[str]) -> Iterator[Op]:
        begun: dict[str, str] = {}
        for line in lines:
            line = line.rstrip("\n")
            if found := _UNFINISHED.match(line):
                begun[found["pid"]] = found["begin"]
                continue
            if found := _RESUMED.match(line):
                line = f"{found['pid']} {begun.pop(found['pid'])}{found['end']}"
            found = _LINE.match(line)
            if found is None:
                assert "+++" in line or "---" in line, line[:300]
                continue
            if not found["result"].startswith(("-", "?")):
                yield from self._done(found["pid"], found["call"], found["arguments"].split(", "), found["result"])

    def _done(self, pid: str, call: str, arguments: list[str], result: str) -> Iterator[Op]:
        if call in ("openat", "open", "creat"):
            yield from self._opened(pid, call, arguments, result)
            return
        if call in ("rename", "link", "symlink"):
            pair = (_text(arguments[0]), _text(arguments[1]))
        elif call in ("renameat", "renameat2", "linkat"):
            pair = (_under(arguments[0], arguments[1]), _under(arguments[2], arguments[3]))
        elif call in ("unlink", "rmdir", "mkdir", "truncate"):
            pair = (_text(arguments[0]), "")
        elif call in ("unlinkat", "mkdirat"):
            pair = (_under(arguments[0], arguments[1]), "")
        else:
            pair = (_of_descriptor(arguments[0]), "")
        if not self._is_ours(pair[0]):
            assert not self._is_ours(pair[1]), f"{call} from elsewhere"
            return
        yield self._op(pid, call, arguments, result, pair)

    def _op(self, pid: str, call: str, arguments: list[str], result: str, pair: tuple[str, str]) -> Op:
        path, other = pair
        if call in ("write", "pwrite64"):
            data = _bytes(arguments[1])
            assert len(data) == int(result), f"a short {call} to {path}"
            at = int(arguments[3]) if call == "pwrite64" else self._place(pid, arguments[0], path, len(data))
            self._sizes[path] = max(self._sizes.get(path, 0), at + len(data))
            return Op("write", path, at=at, data=data)
        if call in ("ftruncate", "truncate"):
            self._sizes[path] = int(arguments[1])
            return Op("cut", path, at=int(arguments[1]))
        if call in ("fsync", "fdatasync"):
            return Op("sync", path)
        if call.startswith("rename"):
            for name in [name for name in self._sizes if name == path or name.startswith(f"{path}/")]:
                self._sizes[other + name[len(path) :]] = self._sizes.pop(name)
            return Op("rename", path, other)
        if call.startswith("link"):
            self._sizes[other] = self._sizes[path]
            return Op("link", path, other)
        if call.startswith(("unlink", "rmdir")):
            self._sizes.pop(path, None)
            return Op("remove", path)
        if call.startswith("mkdir"):
            return Op("mkdir", path)
        raise AssertionError(f"{call} of {path} is not understood")

    def _opened(self, pid: str, call: str, arguments: list[str], result: str) -> Iterator[Op]:
        path = _under(arguments[0], arguments[1]) if call == "openat" else _text(arguments[0])
        if not self._is_ours(path):
            return
        flags = arguments[2 if call == "openat" else 1]
        if "O_CREAT" in flags and path not in self._sizes:
            self._sizes[path] = 0
            yield Op("make", path)
        elif "O_TRUNC" in flags and self._sizes.get(path):
            self._sizes[path] = 0
            yield Op("cut", path)
        self._places[pid, result] = -1 if "O_APPEND" in flags else 0

    def _place(self, pid: str, descriptor: str, path: str, length: int) -> int:
        key = (pid, descriptor.partition("<")[0])
        place = self._places[key]
        if place < 0:
            return self._sizes[path]
        self._places[key] = place + length
        return place

    def _is_ours(self, path: str) -> bool:
        return path.startswith(self._folder)


def _bytes(text: str) -> bytes:
    return bytes.fromhex(text.strip('"').replace("\\x", ""))


def _text(text: str) -> str:
    assert not text.endswith("..."), text
    return _bytes(text).decode()


def _of_descriptor(text: str) -> str:
    found = _FD.match(text)
    return _bytes(found["path"]).decode() if found else ""


def _under(folder: str, name: str) -> str:
    return str(PurePosixPath(_of_descriptor(folder), _text(name)))


# ---- replayed


@dataclass(slots=True, eq=False)
class File:
    """A file, independent of its names."""

    born: str
    """Its first name."""
    synced: bytes = b""
    since: list[Op] = field(default_factory=list)
    """Writes and cuts since the last sync."""

    @property
    def now(self) -> bytes:
        """What a program sees."""
        return _changed(self.synced, self.since)

    def sync(self) -> None:
        self.synced, self.since = self.now, []

    def left(self, how: str, chance: Random) -> bytes:
        """What a power cut leaves: `nothing` of what was not synced, `everything`, `last`, `some`, or `torn`."""
        if how == "nothing" or not self.since:
            return self.synced
        if how == "everything":
            return self.now
        if how == "last":
            return _changed(self.synced, self.since[-1:])
        kept = [op for op in self.since if chance.random() < 0.5]
        return _changed(self.synced, kept if how == "some" else [piece for op in kept for piece in _torn(op, chance)])


@dataclass(slots=True, eq=False)
class _Change:
    """A change of names."""

    op: Op
    file: File | None
    """The one that is made, linked or moved."""
    folders: frozenset[str]
    is_synced: bool = False


Names = dict[str, File | None]
"""By path; None for a folder."""


class Disk:
    """Files and folders as a program sees them, and what a power cut would leave of them now."""

    def __init__(self, *folders: str) -> None:
        """`folders` are there from the beginning."""
        self.names: Names = dict.fromkeys(folders)
        self._synced: Names = dict.fromkeys(folders)
        """As of the oldest change that is not synced."""
        self._changes: list[_Change] = []

    def do(self, op: Op) -> None:
        """One more thing is done."""
        if op.kind in ("write", "cut"):
            file = self.names.get(op.path)
            if file is not None:  # else it is deleted, and nobody will see what is written
                file.since.append(op)
            return
        if op.kind == "sync":
            self._sync(op.path)
            return
        file = File(op.path) if op.kind == "make" else self.names.get(op.path)
        folders = frozenset(str(PurePosixPath(path).parent) for path in (op.path, op.other) if path)
        change = _Change(op, file, folders)
        _apply(change, self.names)
        self._changes.append(change)

    def _sync(self, path: str) -> None:
        file = self.names.get(path)
        if file is not None:
            file.sync()
        for change in self._changes:
            change.is_synced |= path in change.folders
        while self._changes and self._changes[0].is_synced:
            _apply(self._changes.pop(0), self._synced)

    def sync_names(self) -> None:
        """As a sync of anything does where there is one journal for all."""
        for change in self._changes:
            _apply(change, self._synced)
        self._changes = []

    def left(self, how: str, chance: Random) -> Names:
        """Names that a power cut leaves: `nothing` of what was not synced, `everything`, or of each folder `some`."""
        names = dict(self._synced)
        cut: set[str] = set()
        """Folders whose later changes are lost."""
        for change in self._changes:
            lost = how == "nothing" or bool(cut & change.folders) or chance.random() < 0.2
            if lost and not change.is_synced and how != "everything":
                cut |= change.folders
            else:
                _apply(change, names)
        return names


def _apply(change: _Change, names: Names) -> None:
    """Change names, if that is still possible: what a change depends on may be lost."""
    op = change.op
    target = op.other or op.path
    if op.kind == "remove":
        for path in [path for path in names if path == op.path or path.startswith(f"{op.path}/")]:
            del names[path]
    elif str(PurePosixPath(target).parent) not in names:
        return
    elif op.kind == "rename" and change.file is None:
        for path in [path for path in names if path == op.path or path.startswith(f"{op.path}/")]:
            names[target + path[len(op.path) :]] = names.pop(path)
    else:
        if op.kind == "rename":
            names.pop(op.path, None)
        names[target] = change.file


def _changed(data: bytes, ops: list[Op]) -> bytes:
    changed = bytearray(data)
    for op in ops:
        if op.kind == "cut":
            changed = changed[: op.at].ljust(op.at, b"\0")
        else:
            changed = changed.ljust(op.at, b"\0")
            changed[op.at : op.at + len(op.data)] = op.data
    return bytes(changed)


def _torn(op: Op, chance: Random) -> Iterator[Op]:
    """The sectors of a write that are left."""
    if op.kind == "cut":
        yield op
        return
    at = op.at
    while at < op.at + len(op.data):
        end = min(op.at + len(op.data), (at // SECTOR + 1) * SECTOR)
        if chance.random() < 0.5:
            yield Op("write", op.path, at=at, data=op.data[at - op.at : end - op.at])
        at = end
