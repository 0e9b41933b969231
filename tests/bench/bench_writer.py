"""What the writer costs: records a second, beside a bare `os.write` and beside the reference's own way.

    python tests/bench/bench_writer.py [--records 20000] [--repeats 7] [--folder DIR]

Every round runs every way once, in turn, on new files; the ratios are taken within a round, and the medians of all
rounds are printed. A record is 860 bytes as JSON and bears its time. Nothing is fsynced, but where it is said.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import os
import sqlite3
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from statistics import median
from typing import Any

import orjson

from sidecar.writer import Fsync, ResponseLogWriter, SessionWriter

SESSIONS = 20

REFERENCE_SCHEMA = """
PRAGMA journal_mode = WAL;
PRAGMA synchronous = NORMAL;
CREATE TABLE ksi_index (
    id TEXT PRIMARY KEY, timestamp REAL NOT NULL, event_type TEXT NOT NULL, session_id TEXT NOT NULL,
    file_path TEXT NOT NULL, line_number INTEGER, byte_offset INTEGER, initiating_agent TEXT NOT NULL,
    participating_agents TEXT, agent_roles TEXT, pattern_type TEXT, conversation_id TEXT, correlation_id TEXT,
    is_completion BOOLEAN DEFAULT 0, is_request BOOLEAN DEFAULT 0, has_response BOOLEAN DEFAULT 0,
    requests_response BOOLEAN DEFAULT 0);
CREATE INDEX idx_timeline ON ksi_index(timestamp);
CREATE INDEX idx_session ON ksi_index(session_id, timestamp);
CREATE INDEX idx_agent ON ksi_index(initiating_agent, timestamp);
CREATE INDEX idx_participants ON ksi_index(participating_agents);
CREATE INDEX idx_conversation ON ksi_index(conversation_id, timestamp);
CREATE INDEX idx_pattern ON ksi_index(pattern_type, timestamp);
CREATE INDEX idx_pending ON ksi_index(requests_response, has_response)
    WHERE requests_response = 1 AND has_response = 0;
"""


def records(count: int, sessions: int) -> Iterator[dict[str, Any]]:
    for number in range(count):
        agent = f"agent_{number % 7}"
        data = {
            "prompt": "p" * 600,
            "pattern": "peer_to_peer",
            "session_id": f"sess_{number % sessions}",
            "agent_id": agent,
            "to_agent": f"agent_{number % 5}",
            "usage": {"input_tokens": number, "output_tokens": 17, "cost": 0.00125, "cached": None},
        }
        yield {
            "event": "completion:request",
            "data": data,
            "request_id": f"req_{number}",
            "timestamp": 1735500000.5 + number,
        }


def bare_write(folder: Path, given: list[dict[str, Any]]) -> float:
    """The floor: `os.write` of bytes that are ready."""
    lines = [orjson.dumps(record, option=orjson.OPT_APPEND_NEWLINE) for record in given]
    fd = os.open(folder / "bare.jsonl", os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    start = time.perf_counter()
    for line in lines:
        os.write(fd, line)
    taken = time.perf_counter() - start
    os.close(fd)
    return taken


def bare_dumps_and_write(folder: Path, given: list[dict[str, Any]]) -> float:
    """The least that gets a record into a log: `orjson.dumps` and `os.write`."""
    fd = os.open(folder / "dumps.jsonl", os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    start = time.perf_counter()
    for record in given:
        os.write(fd, orjson.dumps(record, option=orjson.OPT_APPEND_NEWLINE))
    taken = time.perf_counter() - start
    os.close(fd)
    return taken


def bare_write_and_fsync(folder: Path, given: list[dict[str, Any]]) -> float:
    """The least that gets a record onto the disk, one by one."""
    fd = os.open(folder / "fsync.jsonl", os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    start = time.perf_counter()
    for record in given:
        os.write(fd, orjson.dumps(record, option=orjson.OPT_APPEND_NEWLINE))
        os.fsync(fd)
    taken = time.perf_counter() - start
    os.close(fd)
    return taken


def session_writer(folder: Path, given: list[dict[str, Any]]) -> float:
    """`SessionWriter.append`, one session."""
    with SessionWriter(folder, "sync", "bench") as writer:
        start = time.perf_counter()
        for record in given:
            writer.append(record)
        return time.perf_counter() - start


def grouped(folder: Path, given: list[dict[str, Any]], fsync: Fsync = "never") -> float:
    """`ResponseLogWriter`, every place awaited."""

    async def run() -> float:
        async with ResponseLogWriter(folder, fsync=fsync) as writer:
            start = time.perf_counter()
            written = [await writer.queue_completion_event(record) for record in given]
            for each in written:
                await each
            return time.perf_counter() - start

    return asyncio.run(run())


def grouped_and_fsynced(folder: Path, given: list[dict[str, Any]]) -> float:
    """The same, where a place tells that the record is on the disk."""
    return grouped(folder, given, "always")


def reference(folder: Path, given: list[dict[str, Any]]) -> float:
    """The reference: `json.dumps`, `write`, `flush`, and a row into its index, committed (WAL, one open connection)."""
    with closing(sqlite3.connect(folder / "reference.db")) as db, (folder / "reference.jsonl").open("a") as log:
        db.executescript(REFERENCE_SCHEMA)
        start = time.perf_counter()
        for number, record in enumerate(given):
            offset = log.tell()
            log.write(json.dumps(record) + "\n")
            log.flush()
            data = record["data"]
            agents = json.dumps([data["agent_id"], data["to_agent"]])
            row = (
                *(f"sess:{offset}", record["timestamp"], record["event"], data["session_id"], log.name, number, offset),
                *(
                    data["agent_id"],
                    agents,
                    "{}",
                    data["pattern"],
                    data["session_id"],
                    record["request_id"],
                    1,
                    1,
                    0,
                    1,
                ),
            )
            with db:
                db.execute(f"INSERT INTO ksi_index VALUES ({','.join('?' * 17)})", row)
        return time.perf_counter() - start


WAYS: list[tuple[str, Callable[[Path, list[dict[str, Any]]], float], int, int]] = [
    # its name, how many sessions, and how many times fewer records a slow one gets
    ("bare os.write, bytes ready", bare_write, 1, 1),
    ("bare orjson.dumps + os.write", bare_dumps_and_write, 1, 1),
    ("SessionWriter.append", session_writer, 1, 1),
    ("ResponseLogWriter, 1 session", grouped, 1, 1),
    (f"ResponseLogWriter, {SESSIONS} sessions", grouped, SESSIONS, 1),
    ("the reference's own way", reference, 1, 10),
    ("bare dumps + write + fsync", bare_write_and_fsync, 1, 50),
    ('ResponseLogWriter, fsync="always"', grouped_and_fsynced, 1, 1),
]


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--records", type=int, default=20_000)
    arguments.add_argument("--repeats", type=int, default=7)
    arguments.add_argument("--folder", help="where to write (default: a temporary folder)")
    options = arguments.parse_args()

    given = {sessions: list(records(options.records, sessions)) for sessions in (1, SESSIONS)}
    size = len(orjson.dumps(given[1][0]))
    gc.collect()
    gc.freeze()  # the records are the bench's, not the writer's: a daemon has no hundred thousand objects waiting
    rounds = [one_round(given, options.folder) for _ in range(options.repeats + 1)]
    del rounds[0]  # it warms up

    print(f"{options.records:,} records of {size} bytes, median of {options.repeats} rounds")
    print(f"{'':34} {'records/s':>10} {'us each':>8} {'x bare write':>13} {'x dumps+write':>14}")
    for number, (name, *_) in enumerate(WAYS):
        each = median(taken[number] for taken in rounds)
        to_bare, to_dumps = (median(taken[number] / taken[floor] for taken in rounds) for floor in (0, 1))
        print(f"{name:34} {1 / each:10,.0f} {each * 1e6:8.2f} {to_bare:13.2f} {to_dumps:14.2f}")


def one_round(given: dict[int, list[dict[str, Any]]], where: str | None) -> list[float]:
    """Seconds a record, by every way."""
    taken = []
    for _, way, sessions, fewer in WAYS:
        some = given[sessions][::fewer]
        with tempfile.TemporaryDirectory(dir=where) as folder:
            taken.append(way(Path(folder), some) / len(some))
    return taken


if __name__ == "__main__":
    main()
