"""A reader in a process of its own, which reads whatever the index points to, for as long as the trouble lasts.

Each record says which it is, and so does its entry: other bytes are told from the right ones. It prints what it has
read, and what it was refused, as one JSON object, and fails where it got other bytes, or an error that is not named.
"""

from __future__ import annotations

import json
import signal
import sys
import time
from collections import Counter
from random import Random

from sidecar.errors import SidecarError
from sidecar.query.index import Index
from sidecar.records import Entry


def main(root: str, seed: int) -> None:
    chance = Random(seed)
    asked: list[int] = []
    signal.signal(signal.SIGTERM, lambda *_: asked.append(1))
    seen: Counter[str] = Counter()
    kept: list[Entry] = []
    print("begun", flush=True)
    with Index(root) as index:
        is_over = False
        while not is_over:
            is_over = bool(asked)  # and once more, now that the trouble is over: everything, and not a few of them
            try:
                entries = list(index.timeline(limit=300, reverse=chance.random() < 0.5))
            except SidecarError as error:  # the index itself: not there yet, or being made
                seen[f"index: {type(error).__name__}"] += 1
                time.sleep(0.01)
                continue
            # Also those of a while ago, whose bytes have had time to change.
            for entry in [*chance.sample(entries, len(entries) if is_over else min(len(entries), 100)), *kept]:
                try:
                    data = index.read_bytes(entry)
                except SidecarError as error:
                    seen[type(error).__name__] += 1
                    continue
                record = json.loads(data)
                found = (record["event"], record["correlation_id"], record["timestamp"])
                wanted = (entry.event_type, entry.correlation_id, entry.timestamp)
                if found != wanted:
                    raise AssertionError(f"{entry} was read as {data!r}")
                seen["read"] += 1
            kept = chance.sample(entries, min(len(entries), 20))
    print(json.dumps(seen))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
