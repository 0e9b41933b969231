"""The current errors of a running sidecar: noted, cleared, and reported to other processes when they change."""

from __future__ import annotations

from collections.abc import Callable

from sidecar.diagnostics import get_logger

_log = get_logger(__name__)


class Faults:
    """What is wrong now. Only the indexing thread touches this.

    `report` receives the messages, oldest first, whenever they are to be published.
    """

    INDEX = "index"
    """The name of an error that concerns the index as a whole. Others are named by a path, the root by `root`."""

    def __init__(self, report: Callable[[list[str]], None]) -> None:
        self.current: dict[str, str] = {}
        """Messages by name, to be changed only through `note` and `clear`."""
        self._report = report
        self._reported: dict[str, str] = {}

    def note(self, name: str, message: str) -> None:
        """Record an error, in place of an earlier one of the same name."""
        if self.current.get(name) != message:
            _log.warning("error: %s", message)
        self.current[name] = message

    def clear(self, name: str) -> None:
        """Record that the error of this name has ended, if there was one."""
        if self.current.pop(name, None) is not None:
            _log.info("cleared: %s", name)

    def report(self) -> None:
        """Publish the current errors."""
        self._reported = dict(self.current)
        self._report(list(self.current.values()))

    def report_changes(self) -> None:
        """Publish the current errors if they are not those of the last report."""
        if self.current != self._reported:
            self.report()
