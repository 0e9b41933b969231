"""Which tools have logs on this machine, for somebody who has not said what to index."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from sidecar.config.settings import load_settings
from sidecar.logs.scanner import Scan
from sidecar.tool_logs import candidates, places_of


@dataclass(frozen=True, slots=True)
class FoundLogs:
    """The logs of a tool."""

    preset: str
    """Of that tool."""
    root: Path
    files: int
    bytes: int

    @property
    def command(self) -> str:
        """What to type to index them."""
        return f"sidecar --preset {self.preset} run --once"


def found_logs() -> list[FoundLogs]:
    """The logs of all tools that have any here, in the order of the presets."""
    found = []
    for preset in candidates():
        root = places_of(preset).root
        if root.is_dir():
            sizes = [one.status.st_size for one in Scan(load_settings(root=root, preset=preset))]
            if sizes:
                found.append(FoundLogs(preset, root, len(sizes), sum(sizes)))
    return found
