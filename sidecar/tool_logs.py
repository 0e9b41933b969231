"""Where other tools keep their logs, and where the index of such logs lies: never beside them.

A preset whose logs belong to another tool lists, in `formats/presets.yaml`, the folders where that tool may keep them:
`$NAME/folder`, where an environment variable names one, and `~/folder`.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

from .errors import ConfigError

_STATE = "~/.local/state"


@dataclass(frozen=True, slots=True)
class ToolPlaces:
    """The folders of a preset whose logs belong to another tool. All are absolute."""

    root: Path
    """Where the logs are: the first of the candidates that is there, else the one that would be usual."""
    index: Path
    archive: Path


def candidates() -> Mapping[str, tuple[str, ...]]:
    """By preset: the folders where a tool may keep its logs, as they are written. Only presets that have any."""
    return {name: preset["root"] for name, preset in _presets().items() if isinstance(preset, dict)}


def places_of(preset: str) -> ToolPlaces:
    """The folders of a preset whose logs belong to another tool. Raises ConfigError for any other."""
    known = candidates()
    if preset not in known:
        raise ConfigError(
            f"the preset {preset!r} has no place of its own for logs",
            hint=f"name the log folder itself; presets that find it: {', '.join(known)}",
        )
    state = _state_folder()
    return ToolPlaces(_root(known[preset]), state / preset, state / "archive" / preset)


def _root(written: Iterable[str]) -> Path:
    folders = [folder for each in written if (folder := _folder(each))]
    return next((folder for folder in folders if folder.is_dir()), folders[0])


def _folder(written: str) -> Path | None:
    """The folder that a candidate means; None where its environment variable is not set."""
    first, _, rest = written.partition("/")
    base = os.environ.get(first[1:]) if first.startswith("$") else first
    return _absolute(Path(base, rest)) if base else None


def _state_folder() -> Path:
    """`$XDG_STATE_HOME/sidecar`; a path there that is not absolute does not count, as the standard has it."""
    state = os.environ.get("XDG_STATE_HOME", "")
    return _absolute(Path(state if os.path.isabs(state) else _STATE, "sidecar"))  # noqa: PTH117 -- of a text


def _absolute(path: Path) -> Path:
    return Path(os.path.abspath(os.path.expanduser(path)))  # noqa: PTH100, PTH111 -- as in the settings


@cache
def _presets() -> Mapping[str, Any]:
    import yaml  # only needed for these presets

    presets: dict[str, Any] = yaml.safe_load((files("sidecar") / "formats" / "presets.yaml").read_text("utf-8"))
    return presets
