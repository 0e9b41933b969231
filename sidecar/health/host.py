"""What `sidecar doctor` looks at in the machine: versions, file systems, disk, watch limits."""

from __future__ import annotations

import os
import shutil
import sqlite3
import sys
from collections.abc import Iterator
from pathlib import Path

from sidecar import mounts
from sidecar.config.settings import Settings
from sidecar.service.lock import holder
from sidecar.terminal import size

from .finding import Finding

OLDEST_PYTHON = (3, 11)
OLDEST_SQLITE = (3, 35, 0)

SMALLEST_INDEX = 100_000_000
INDEX_SHARE = 0.2
"""Bytes of disk that an index may need: this share of the logs, at least so many."""

SPARE_WATCHES = 1.25
"""Times the folders that are there now; tomorrow there are more."""

_INOTIFY = Path("/proc/sys/fs/inotify")
_PROC = Path("/proc")


def versions() -> Iterator[Finding]:
    """Python and SQLite are new enough."""
    python = ".".join(map(str, sys.version_info[:3]))
    if sys.version_info[:2] < OLDEST_PYTHON:
        yield Finding("python", "error", f"{python} is too old", "install Python 3.11 or newer")
    else:
        yield Finding("python", "ok", python)
    if sqlite3.sqlite_version_info < OLDEST_SQLITE:
        advice = "install a Python with SQLite 3.35 or newer"
        yield Finding("sqlite", "error", f"{sqlite3.sqlite_version} is too old", advice)
    else:
        yield Finding("sqlite", "ok", sqlite3.sqlite_version)


def index_folder(settings: Settings) -> Finding:
    """The index can be written, and lies where SQLite's write-ahead log works."""
    folder = settings.index_folder
    there = _nearest(folder)
    if not os.access(there, os.W_OK | os.X_OK):
        advice = f"make a folder that this user owns: as root, install -d -o {os.getuid()} {folder}"
        return Finding("index folder", "error", f"{there} cannot be written to", advice)
    if why := mounts.why_polling(there):
        advice = f"the index needs shared memory beside its files: mount or link a local folder at {folder}"
        return Finding("index folder", "error", f"{folder}: {why}", advice)
    kind = mounts.file_system(there)
    return Finding("index folder", "ok", f"{folder} is writable" + (f", on {kind}" if kind else ""))


def disk(settings: Settings, log_bytes: int) -> Finding:
    """There is room for the index, and for a second one while the first is made again."""
    free = shutil.disk_usage(_nearest(settings.index_folder)).free
    needed = max(SMALLEST_INDEX, int(log_bytes * INDEX_SHARE))
    message = f"{size(free)} free; the index of {size(log_bytes)} of log needs up to {size(needed)}"
    if free >= needed:
        return Finding("disk", "ok", message)
    return Finding("disk", "error", message, "make room; a full disk stops the index, and costs no log line")


def watching(settings: Settings) -> Finding:
    """Whether the kernel tells of changes below the root, and has room for all folders."""
    if settings.polling:
        return Finding("watching", "ok", "by polling, as the configuration asks for")
    if why := mounts.why_polling(settings.root):
        advice = "nothing to do: it polls; fresher is a sidecar on the machine that writes the logs"
        return Finding("watching", "warning", f"by polling: {why}", advice)
    try:
        watches = int((_INOTIFY / "max_user_watches").read_text())
        instances = int((_INOTIFY / "max_user_instances").read_text())
    except (OSError, ValueError):
        return Finding("watching", "ok", "this system tells no watch limits")
    held = holder(settings.index_folder)
    used_instances, used_watches = _in_use(except_for=held[0] if held else 0)
    folders = sum(_folders(settings.root / prefix) for prefix in settings.glob_prefixes)
    limits = []
    if watches - used_watches < folders * SPARE_WATCHES:
        limits.append(_sysctl("max_user_watches", max(524_288, 2 * (folders + used_watches))))
    if instances - used_instances < 2:
        limits.append(_sysctl("max_user_instances", max(512, 2 * instances)))
    message = (
        f"by inotify: {folders:,} folders to watch; {watches - used_watches:,} of {watches:,} watches and "
        f"{instances - used_instances:,} of {instances:,} instances are free"
    )
    if not limits:
        return Finding("watching", "ok", message)
    return Finding("watching", "warning", f"{message}; when they run out it polls", "\n".join(limits))


def _sysctl(name: str, value: int) -> str:
    setting = f"fs.inotify.{name}={value}"
    return f"sudo sysctl {setting}    (for good: echo {setting} | sudo tee -a /etc/sysctl.d/60-sidecar.conf)"


def _folders(top: Path) -> int:
    return sum(1 for _ in os.walk(top))


def _in_use(except_for: int) -> tuple[int, int]:
    """Inotify instances and watches of this user's processes, but for one. What cannot be seen is not counted."""
    instances = watches = 0
    for process in _PROC.iterdir():
        if not process.name.isdigit() or int(process.name) == except_for:
            continue
        try:
            if process.stat().st_uid != os.getuid():
                continue
            for fd in (process / "fd").iterdir():
                if str(fd.readlink()) == "anon_inode:inotify":
                    instances += 1
                    told = (process / "fdinfo" / fd.name).read_text()
                    watches += sum(line.startswith("inotify ") for line in told.splitlines())
        except OSError:
            continue  # it ended, or is another's
    return instances, watches


def _nearest(path: Path) -> Path:
    """The path, or the nearest folder above it that is there."""
    while not path.exists() and path != path.parent:
        path = path.parent
    return path
