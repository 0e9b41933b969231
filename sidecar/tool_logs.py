"""Where other tools keep their logs, and where the index of such logs is, which is never beside them.

A preset whose logs belong to another tool lists, in `formats/presets.yaml`, the folders in which that tool may keep
them: `$NAME/folder`, if an environment variable names one, and `~/folder`. Not here: the settings and sources
(`config`).
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
    """The first candidate that exists, or the first of all if none does."""
    index: Path
    archive: Path


def candidates() -> Mapping[str, tuple[str, ...]]:
    """By preset, the folders in which a tool may keep its logs, as they are written. Only presets that list any."""
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
    """The folder that a candidate stands for; None if its environment variable is not set."""
    first, _, rest = written.partition("/")
    base = os.environ.get(first[1:]) if first.startswith("$") else first
    return _absolute(Path(base, rest)) if base else None


def _state_folder() -> Path:
    """`$XDG_STATE_HOME/sidecar`. As the standard says, a path there that is not absolute does not count."""
    state = os.environ.get("XDG_STATE_HOME", "")
    return _absolute(Path(state if os.path.isabs(state) else _STATE, "sidecar"))  # noqa: PTH117 -- of a text


def _absolute(path: Path) -> Path:
    return Path(os.path.abspath(os.path.expanduser(path)))  # noqa: PTH100, PTH111 -- as in the settings


@cache
def _presets() -> Mapping[str, Any]:
    # Imported late, because only these presets need it.
    import yaml

    presets: dict[str, Any] = yaml.safe_load((files("sidecar") / "formats" / "presets.yaml").read_text("utf-8"))
    return presets
