"""On what kind of file system a folder lies, and whether inotify can serve there."""

from __future__ import annotations

import sys
from pathlib import Path

_NETWORK = {"nfs", "nfs4", "cifs", "smb3", "smbfs", "9p", "fuse.sshfs", "ceph", "afs", "virtiofs"}
"""File systems where another machine may write, of which inotify says nothing."""


def why_polling(root: Path) -> str:
    """Why inotify cannot serve below this folder; empty where it can."""
    if sys.platform != "linux":
        return ""
    kind = file_system(root)
    return f"{kind} is a network file system" if kind in _NETWORK else ""


def file_system(path: Path) -> str:
    """The type of the file system that a path lies on, as Linux names it; empty where that is not known."""
    try:
        mounts = Path("/proc/self/mounts").read_text(errors="surrogateescape").splitlines()
    except OSError:
        return ""
    real = str(path.resolve())
    best, kind = "", ""
    for line in mounts:
        _, point, type_, *_ = line.split(" ")
        point = point.replace("\\040", " ")
        if len(point) >= len(best) and (real == point or real.startswith(point.rstrip("/") + "/")):
            best, kind = point, type_
    return kind
