"""File names as the index keeps them: relative to the root, with `/`, and always text.

A name that is no UTF-8 cannot be a SQLite text, so it is kept as `bytes://` and the percent-encoded bytes. No relative
path that the scan finds can look like that, because `//` never stands in one.
"""

from __future__ import annotations

import os
from pathlib import Path
from urllib.parse import quote_from_bytes, unquote_to_bytes

from .errors import UnsafePath

_ENCODED = "bytes://"


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
    relative = to_os(text)
    parts = relative.split("/")
    if "\0" in relative or any(part in ("", ".", "..") for part in parts):
        raise UnsafePath(f"{text!r} leaves {root}")
    path = root.joinpath(*parts)
    # Not Path.resolve, which raises for links that lead in a circle; opening the file does that.
    if not Path(os.path.realpath(path.parent)).is_relative_to(os.path.realpath(root)):
        raise UnsafePath(f"{text!r} leaves {root} through a link")
    return path


def split_path(path: str) -> tuple[str, str, str]:
    """Folder (with its last `/`), stem, and suffix (with its dot): joined they are the path again."""
    folder, slash, name = path.rpartition("/")
    stem, dot, suffix = name.rpartition(".")
    return (folder + slash, stem, dot + suffix) if stem else (folder + slash, name, "")
