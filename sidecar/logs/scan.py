"""What there is: every file below the root that belongs to a source, with its status. The scan is the truth."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from sidecar.config.settings import Settings, Source
from sidecar.paths import to_text


class Found(NamedTuple):
    """A file that a source claims."""

    path: str
    source: Source
    status: os.stat_result


@dataclass(slots=True)
class Scan:
    """One walk over the folders that sources may lie in. Iterate it once; then `failed` and `passed_over` are full."""

    settings: Settings
    failed: dict[str, str] = field(default_factory=dict)
    """Folders that could not be read, and why: nothing that lies below them may be taken for gone."""
    passed_over: dict[str, str] = field(default_factory=dict)
    """Names that look like a log and are none, and what they are instead."""

    def __iter__(self) -> Iterator[Found]:
        root = self.settings.root
        if not root.is_dir():
            self.failed[""] = f"{root} is no folder"
            return
        for prefix in self.settings.glob_prefixes:
            if not Path(os.path.realpath(root / prefix)).is_relative_to(os.path.realpath(root)):
                self.failed[prefix] = "it is a link out of the root"
                continue
            yield from self._walk(prefix)

    def covers(self, path: str) -> bool:
        """Whether the absence of this file from the scan means that it is gone."""
        return not any(path.startswith(f"{folder}/" if folder else "") for folder in self.failed)

    def _walk(self, start: str) -> Iterator[Found]:
        root = os.fspath(self.settings.root)
        folders = [start]
        while folders:
            folder = folders.pop()
            try:
                with os.scandir(os.path.join(root, folder)) as entries:
                    listed = list(entries)
            except FileNotFoundError:
                continue
            except OSError as error:
                self.failed[to_text(folder)] = error.strerror or str(error)
                continue
            for entry in listed:
                path = f"{folder}/{entry.name}" if folder else entry.name
                try:
                    if entry.is_dir(follow_symlinks=False):
                        if path != "index":
                            folders.append(path)
                        continue
                    source = self.settings.source_for(path)
                    if source is None:
                        continue
                    status = entry.stat(follow_symlinks=False)
                except FileNotFoundError:
                    continue
                except OSError as error:
                    self.failed[to_text(path)] = error.strerror or str(error)
                    continue
                if stat.S_ISREG(status.st_mode):
                    yield Found(to_text(path), source, status)
                else:
                    self.passed_over[to_text(path)] = _kind(status.st_mode)


def _kind(mode: int) -> str:
    for test, name in ((stat.S_ISLNK, "link"), (stat.S_ISFIFO, "pipe"), (stat.S_ISSOCK, "socket")):
        if test(mode):
            return name
    return "device"
