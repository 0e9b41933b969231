"""File names as the index keeps them: relative to the root, with `/`, and always text.

A name that is no UTF-8 cannot be a SQLite text, so it is kept as `bytes://` and the percent-encoded bytes. No relative
path that the scan finds can look like that, because `//` never stands in one.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from urllib.parse import quote_from_bytes, unquote_to_bytes

from .errors import UnsafePath

_ENCODED = "bytes://"
_NO_NAMES = frozenset(("", ".", ".."))


def to_text(path: str) -> str:
    """The text under which the index keeps a relative path that came from the operating system."""
    try:
        path.encode()
    except UnicodeEncodeError:
        return _ENCODED + quote_from_bytes(os.fsencode(path))
    return path


def to_os(text: str) -> str:
    """The relative path that the operating system knows by this text."""
    if text.startswith(_ENCODED):
        return os.fsdecode(unquote_to_bytes(text.removeprefix(_ENCODED)))
    return text


def under(root: Path, text: str) -> Path:
    """The file that `text` points to; raises UnsafePath where that would lie outside the root.

    A pointer is never trusted: an index may come from somebody else's hands.
    """
    return Path(_under(os.fspath(root), text, _is_inside))


def found_under(root: str, text: str) -> str:
    """The same for the tailer, whose paths come from the scan, and who asks for each file: the answer is remembered for
    as long as the folder stays the same one, and no more is made of it than the system needs."""
    return _under(root, text, _is_inside_as_before)


def _under(root: str, text: str, is_inside: Callable[[str, str], bool]) -> str:
    relative = to_os(text)
    parts = relative.split("/")
    if "\0" in relative or not _NO_NAMES.isdisjoint(parts):
        raise UnsafePath(f"{text!r} leaves {root}")
    folder = "/".join((root, *parts[:-1]))
    if not is_inside(root, folder):
        raise UnsafePath(f"{text!r} leaves {root} through a link")
    return f"{folder}/{parts[-1]}"


def _is_inside(root: str, folder: str) -> bool:
    """Whether a folder lies below the root once links are followed."""
    # Not Path.resolve, which raises for links that lead in a circle; opening the file does that.
    return Path(os.path.realpath(folder)).is_relative_to(os.path.realpath(root))


def _is_inside_as_before(root: str, folder: str) -> bool:
    """The same, asked once for each folder that is there: following links costs a quarter of a look at a file."""
    try:
        status = os.stat(folder)
    except OSError:
        return _is_inside(root, folder)
    return _remembered(root, folder, (status.st_dev, status.st_ino))


@lru_cache(maxsize=4096)
def _remembered(root: str, folder: str, identity: tuple[int, int]) -> bool:  # noqa: ARG001
    return _is_inside(root, folder)


def split_path(path: str) -> tuple[str, str, str]:
    """Folder (with its last `/`), stem, and suffix (with its dot): joined they are the path again."""
    folder, slash, name = path.rpartition("/")
    stem, dot, suffix = name.rpartition(".")
    return (folder + slash, stem, dot + suffix) if stem else (folder + slash, name, "")
