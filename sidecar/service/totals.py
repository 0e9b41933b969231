"""What a sidecar has done since it was started, for the summary of `sidecar run`."""

from __future__ import annotations

from dataclasses import dataclass

from sidecar.records import Dropped


@dataclass(slots=True)
class Totals:
    """What a sidecar has done since its start."""

    entries: int = 0
    bytes: int = 0
    """The number of bytes read."""
    found: int = 0
    """The number of bytes that scans found to be unread."""
    scans: int = 0
    skipped_paths: int = 0
    """See `logs.scanner.Scan.skipped_paths`, of the last scan."""
    dropped: int = 0
    """The number of entries that were dropped, because their bytes are gone."""
    dropped_why: str = ""
    """The log and the reason of those that were dropped last."""

    def note_dropped(self, dropped: Dropped) -> None:
        """Add entries that were dropped."""
        self.dropped += dropped.entries
        self.dropped_why = f"{dropped.path}: {dropped.reason}"
