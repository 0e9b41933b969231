"""The program in which a power cut is simulated: a sidecar at work from its first run on, and the writing of its logs.

    python recorded_run.py FOLDER

It writes logs below `FOLDER/logs`, whose every file lies in `FOLDER/files` as well, so that a replay can put the same
file back. A folder that it makes in `FOLDER/marks` says what has been reached.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from unittest import mock

import orjson

from helpers.corpora import BASE, DAY
from helpers.support import Stepped, reference
from sidecar.bulk.rebuild import reindex
from sidecar.indexer import day_files as index
from sidecar.indexer import tamper as seal
from sidecar.service.lock import root_locked
from sidecar.service.supervisor import open_sidecar, run_once


class Logs:
    """Writes logs, each of which has a second name."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._count = 0
        self._number = 0

    def make(self, path: str) -> None:
        """Put an empty log in the place of whatever has this name."""
        self._count += 1
        file = self._folder / "files" / str(self._count)
        file.touch()
        log = self._folder / "logs" / path
        other = log.with_suffix(".other")
        os.link(file, other)
        other.replace(log)

    def say(self, path: str, *days: int, torn: bool = False) -> None:
        """Write a request on each of these days, and an answer to the one before. The last line may lack its end."""
        lines = b""
        for day in days:
            self._number += 1
            for what, correlation in (("request", self._number), ("result", self._number - 1)):
                record = {
                    "event": f"completion:{what}",
                    "timestamp": BASE + DAY * day + self._number,
                    "correlation_id": f"c{correlation}",
                    "data": {"agent_id": f"a{self._number % 7}", "text": "x" * 200},
                }
                lines += orjson.dumps(record) + b"\n"
        with (self._folder / "logs" / path).open("ab", buffering=0) as file:
            file.write(lines[:-20] if torn else lines)
            if torn:
                file.write(lines[-20:-10])

    def end_line(self, path: str) -> None:
        """What follows a torn line."""
        with (self._folder / "logs" / path).open("ab", buffering=0) as file:
            file.write(b'"x"}}\n')


def main(folder: Path) -> None:
    root = folder / "logs"
    for name in ("responses/sessions", "events/2024-12-29"):
        (root / name).mkdir(parents=True)
    settings = reference(root, scan_interval=0.01, checkpoint_interval=1.0)
    logs = Logs(folder)
    a, b, c = (f"responses/sessions/{name}.jsonl" for name in "abc")

    # a first run, which is a rebuild, and some more of it
    for log in (a, b):
        logs.make(log)
    logs.say(a, 0, 1, 2)
    logs.say(b, 1, torn=True)
    run_once(settings, lambda _: None)
    (folder / "marks/indexed").mkdir()
    with root_locked(settings, "run"):
        with Stepped(settings) as stepped:
            logs.make(c)
            for turn in range(8):
                logs.say(a, turn % 3, 2)
                logs.say(c, 5 - turn, 0, torn=turn % 3 == 1)
                event = f"events/2024-12-29/evt_{BASE + turn}.5_completion_request.json"
                logs.make(event)
                logs.say(event, 1)
                stepped.turn(0.4)
                logs.end_line(c) if turn % 3 == 1 else None
            # rewritten in place, with fewer days; and by rename
            os.truncate(root / a, 0)
            logs.say(a, 1, 6)
            stepped.turn(0.4)
            logs.make(b)
            stepped.turn(2.0)
            logs.say(b, 0, 3, torn=True)
            stepped.turn(0.1)
            logs.say(c, 1, 2)
            stepped.turn(0.1)
            stepped.sidecar.abandon()
            # what no checkpoint covers is taken back, and done again
        with open_sidecar(settings, lambda _: None) as (sidecar, _):
            logs.say(c, 3)
            sidecar.run_once()
            sidecar.close()
    # as if there were many more days and rows: files are closed and come again, write-ahead logs are taken over
    small = mock.patch.object(index, "MAX_OPEN_DAYS", 3), mock.patch.object(seal, "MAX_WAL_BYTES", 12 * 4_120)
    with small[0], small[1], root_locked(settings, "run"), Stepped(settings) as stepped:
        for turn in range(6):
            logs.say(a, 7 - turn, turn)
            logs.say(c, turn, 6, 7)
            stepped.turn(0.4)
    # a rebuild, whose index lacks a day that the old one has
    logs.say(a, 0, 7)
    logs.make(c)
    logs.say(c, 1, 2, torn=True)
    logs.end_line(c)
    with root_locked(settings, "reindex"):
        reindex(settings, 1)
    with root_locked(settings, "run"), Stepped(settings) as stepped:
        for turn in range(4):
            logs.say(a, turn, 8)
            logs.say(c, 4 + turn, torn=True)
            logs.end_line(c)
            stepped.turn(0.6)
    # a file decays: the index is set aside and made again
    (folder / "marks/damaged").mkdir()
    (root / "index/daily/2024-12-31.db").write_bytes(bytes(5_000))
    logs.say(a, 3)
    run_once(settings, lambda _: None)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
