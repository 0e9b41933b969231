"""When each periodic task of the loop is due, and what happens to that if the clock is set back."""

from __future__ import annotations


class Timers:
    """The due times of one sidecar, in seconds since 1970. Only the indexing thread touches this.

    They are times of the wall clock, because a step takes its time as an argument. When the clock is set back, they are
    moved with it, so that what was due in ten seconds is still due in ten seconds, and not in an hour.
    """

    def __init__(self) -> None:
        self.retry_at = 0.0
        """After a failure, when to open the index again."""
        self.next_checkpoint = 0.0
        self.next_tamper_check = 0.0
        self._now = 0.0
        """The latest time passed to `advance`."""
        self._rereads: dict[str, float] = {}

    def advance(self, now: float) -> float:
        """Set the current time. Returns how many seconds the clock was set back since the last call, usually 0.0. Every
        due time has been moved by as much."""
        seconds = max(0.0, self._now - now)
        self._now = now
        if seconds:
            self.retry_at -= seconds
            self.next_checkpoint -= seconds
            self.next_tamper_check -= seconds
            self._rereads = {path: due - seconds for path, due in self._rereads.items()}
        return seconds

    def reread_at(self, path: str, moment: float) -> None:
        """Have this file read again at this moment, because an event file that does not parse may not be complete."""
        self._rereads[path] = moment

    def take_rereads(self) -> list[str]:
        """Remove and return the paths that are due to be read again."""
        due = [path for path, moment in self._rereads.items() if moment <= self._now]
        for path in due:
            del self._rereads[path]
        return due

    def next_due(self, *, checkpoint: bool) -> float:
        """When the next task is due. Pass `checkpoint` if there is something to save, so that the checkpoint counts."""
        times = [self.next_tamper_check, *self._rereads.values()]
        if checkpoint:
            times.append(self.next_checkpoint)
        return min(times)
