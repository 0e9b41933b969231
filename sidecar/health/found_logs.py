"""The logs of agent tools that are on this machine, for users who have not said what to index."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from sidecar.config.settings import load_settings
from sidecar.logs.scanner import Scan
from sidecar.tool_logs import candidates, places_of


@dataclass(frozen=True, slots=True)
class FoundLogs:
    """The logs of a tool that are on this machine."""

    preset: str
    """The name of the tool's preset."""
    root: Path
    files: int
    """The number of logs."""
    bytes: int
    """Their total size."""

    @property
    def command(self) -> str:
        """The command that indexes them."""
        return f"sidecar --preset {self.preset} run --once"


def found_logs() -> list[FoundLogs]:
    """The logs of all tools that have any on this machine, in the order of the presets."""
    found = []
    for preset in candidates():
        root = places_of(preset).root
        if root.is_dir():
            sizes = [one.status.st_size for one in Scan(load_settings(root=root, preset=preset))]
            if sizes:
                found.append(FoundLogs(preset, root, len(sizes), sum(sizes)))
    return found
