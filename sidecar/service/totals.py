"""What a sidecar has done since it was started."""

from __future__ import annotations

from dataclasses import dataclass

from sidecar.records import Dropped


@dataclass(slots=True)
class Totals:
    """What has been done since the start."""

    entries: int = 0
    bytes: int = 0
    found: int = 0
    """Bytes that scans found to be unread."""
    scans: int = 0
    skipped_paths: int = 0
    """What the last scan passed over (`logs.scanner.Scan.skipped_paths`)."""
    dropped: int = 0
    """Entries whose bytes are gone."""
    dropped_why: str = ""
    """The log and the reason of the last ones."""

    def note_dropped(self, dropped: Dropped) -> None:
        """Add what was dropped."""
        self.dropped += dropped.entries
        self.dropped_why = f"{dropped.path}: {dropped.reason}"
