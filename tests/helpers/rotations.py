"""Logs that are rotated as people rotate them, and what the law makes of their parts."""

from __future__ import annotations

import os
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import orjson

from helpers.corpora import BASE
from oracle.model import FIELDS, model_file
from sidecar.fs import split_path

Rotate = Callable[[Path, int], None]
"""Rotates a log; the number grows with every rotation."""


def by_number(log: Path, _: int) -> None:
    """As `logrotate`: every part moves on by one."""
    _shift(log)
    log.rename(f"{log}.1")
    log.touch()


def by_rename(log: Path, _: int) -> None:
    """The same by a writer that makes the new file only with its next line."""
    _shift(log)
    log.rename(f"{log}.1")


def by_copy(log: Path, _: int) -> None:
    """`copytruncate`: the file stays, its bytes go elsewhere."""
    _shift(log)
    shutil.copyfile(log, f"{log}.1")
    os.truncate(log, 0)


def by_date(log: Path, number: int) -> None:
    """`dateext`: the old part gets a name of its own."""
    log.rename(log.with_name(f"{log.name}-20241229-{number}"))
    log.touch()


def by_dated_stem(log: Path, number: int) -> None:
    """The date before the suffix, so that the glob has the parts as well."""
    log.rename(log.with_name(f"{log.stem}-20241230{number:04}{log.suffix}"))
    log.touch()


WAYS: dict[str, Rotate] = {
    "by number": by_number,
    "by rename": by_rename,
    "by copy": by_copy,
    "by date": by_date,
    "by dated stem": by_dated_stem,
}


def _shift(log: Path) -> None:
    numbers = sorted((int(part.name.rpartition(".")[2]) for part in log.parent.glob(f"{log.name}.*")), reverse=True)
    for number in numbers:
        Path(f"{log}.{number}").rename(f"{log}.{number + 1}")


def records(rng: random.Random, first: int, count: int) -> list[dict[str, Any]]:
    """Records that only linking across parts gets right: requests and answers far apart, and few correlations."""
    made = []
    for number in range(first, first + count):
        kind = rng.choice(
            ["completion:request", "completion:request", "completion:result", "agent:say", "task:response"]
        )
        data: dict[str, Any] = {"agent_id": rng.choice(["ann", "bob", "cyd"]), "n": number}
        if rng.random() < 0.5:
            data["to_agent"] = rng.choice(["ann", "bob", "cyd"])
        if rng.random() < 0.1:
            data["new_role"] = rng.choice(["lead", "peer"])
        record: dict[str, Any] = {"event": kind, "data": data, "timestamp": BASE + 3_000.0 * number}
        if rng.random() < 0.7:
            record["correlation_id"] = f"c{rng.randrange(8)}"
        made.append(record)
    return made


def parts_of(log: Path) -> list[Path]:
    """The files of a log that was rotated in one of the ways above, the oldest first."""
    numbered = sorted(log.parent.glob(f"{log.name}.*"), key=lambda part: -int(part.name.rpartition(".")[2]))
    dated = sorted(log.parent.glob(f"{log.name}-*"), key=lambda part: int(part.name.rpartition("-")[2]))
    stems = sorted(log.parent.glob(f"{log.stem}-*{log.suffix}"))
    return [*numbered, *dated, *stems, log]


def expected(root: Path, log: Path, mtime: float) -> list[tuple[Any, ...]]:
    """What the model makes of all parts as one log, each row in the file that has its bytes; as `support.indexed`."""
    files = [(path, path.read_bytes()) for path in parts_of(log) if path.exists()]
    whole = b"".join(content for _, content in files)
    found = model_file(whole, path=log.relative_to(root).as_posix(), layout="session", mtime=mtime)
    rows = []
    for row in found.rows:
        number = start = 0
        while row["byte_offset"] >= start + len(files[number][1]):
            start += len(files[number][1])
            number += 1
        path, content = files[number]
        relative = path.relative_to(root).as_posix()
        row["byte_offset"] -= start
        row["line_number"] = content[: row["byte_offset"]].count(b"\n") + 1
        row["file_path"] = relative
        row["id"] = f"{split_path(relative)[1]}:{row['byte_offset']}"
        row["participating_agents"] = orjson.dumps(row["participating_agents"]).decode()
        row["agent_roles"] = orjson.dumps(row["agent_roles"]).decode()
        row["addressees"] = tuple(row["addressees"])
        rows.append(tuple(row[field] for field in FIELDS))
    return sorted(rows, key=lambda row: (row[4], row[6]))
