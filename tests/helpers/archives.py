"""Trees to be archived, and what must be the same before and after."""

from __future__ import annotations

import os
import shutil
import time
from pathlib import Path
from typing import Any, NamedTuple

import orjson

from helpers.corpora import BASE, write_tree
from helpers.support import Everything, Stepped, everything, reference, write_lines
from sidecar.archive.job import ArchiveOptions, ArchiveResult, archive
from sidecar.config.settings import Settings
from sidecar.logs.archive_file import Archive
from sidecar.query.index import Index
from sidecar.service.supervisor import run_once

SAMPLES = Path(__file__).parents[3] / "shared" / "samples" / "ksi-daemon"
"""Logs that a real daemon wrote, where they are at hand."""

COMPLETED = {"event": "session:completed", "data": {"status": "completed"}, "timestamp": BASE + 60}
DAY = 86_400
AT_ONCE = ArchiveOptions(age=0.0)


def session(root: Path, name: str = "s", lines: int = 20, *, completed: bool = True, size: int = 40) -> Path:
    """A session with requests, answers and roles, some open; last changed ten days ago."""
    path = root / f"responses/sessions/{name}.jsonl"
    for number in range(lines):
        at = BASE + number
        data = {"agent_id": f"agent_{number % 3}", "to_agent": f"agent_{(number + 1) % 3}", "n": number}
        data["text"] = "x" * size
        if number % 5 == 0:
            data["role"] = f"role_{number}"
        request = {"event": "completion:request", "correlation_id": f"{name}-{number}", "timestamp": at, "data": data}
        write_lines(path, request)
        if number % 3:
            answer = {"agent_id": f"agent_{(number + 1) % 3}"}
            write_lines(path, {"event": "completion:result", "correlation_id": f"{name}-{number}", "data": answer})
    if completed:
        write_lines(path, COMPLETED)
    aged(path)
    return path


def event(root: Path, number: int, day: str = "2024-12-29", **data: Any) -> Path:
    """An event file in the folder of a day, last changed ten days ago."""
    path = root / f"events/{day}/evt_{BASE + number}.000_note.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(orjson.dumps({"event": "note", "data": {"agent_id": f"agent_{number % 3}", **data}}))
    aged(path)
    return path


def aged(path: Path, days: float = 10.0) -> None:
    """Make a file, or all files below a folder, look as if they were last changed this many days ago."""
    moment = time.time() - days * DAY
    for one in [path] if path.is_file() else [one for one in path.rglob("*") if one.is_file()]:
        os.utime(one, (moment, moment))


def mixed(root: Path, seed: int = 1, sessions: int = 12, lines: int = 120, events: int = 60) -> Settings:
    """A reference tree with every oddity, in which some sessions are completed. It is indexed."""
    write_tree(root, seed, sessions, lines, events)
    for number, log in enumerate(sorted((root / "responses/sessions").iterdir())):
        if number % 2:
            status = log.stat()
            write_lines(log, b"" if log.read_bytes().endswith(b"\n") else b"\n", COMPLETED)
            os.utime(log, ns=(status.st_atime_ns, status.st_mtime_ns))
    settings = reference(root)
    with Stepped(settings) as stepped:  # by its clock, event files that do not parse have settled
        stepped.turn()
        stepped.turn()
    return settings


def ksi(root: Path) -> None:
    """The samples of the real daemon, of a day that is over everywhere; a few of its sessions are completed."""
    shutil.copytree(SAMPLES, root)
    for folder in (root / "events").iterdir():
        folder.rename(folder.with_name("2024-11-23"))
    for log in sorted((root / "responses").glob("*-*.jsonl"))[::3]:
        write_lines(log, {"type": "user", "status": "completed", "agent_id": "a", "request_id": "r"})
    aged(root)


def take_in(settings: Settings) -> None:
    """Index what is there, as `sidecar run --once` does."""
    run_once(settings, lambda _: None)


def archived(settings: Settings, options: ArchiveOptions = AT_ONCE) -> ArchiveResult:
    """Archive what is there, whatever its age."""
    return archive(settings, options)


class Known(NamedTuple):
    """Everything that an index returns, and the bytes that it points to."""

    index: Everything
    records: dict[tuple[str, int], bytes]
    questions: list[Any]


def known(settings: Settings) -> Known:
    """Everything that can be queried, in logs and archives alike."""
    with Index(settings.root, settings.archive) as index:
        entries = list(index.timeline())
        records = {(one.file_path, one.byte_offset): index.read_bytes(one) for one in entries}
        questions: list[Any] = [[one.id for one in entries]]
        for agent in [one.agent for one in index.agents()][:6]:
            questions.append(index.find_peer_interactions(agent, "9999d"))
            questions += [index.get_agent_role_history(agent, one.session_id) for one in index.sessions()]
        questions.append(index.find_pending_requests(None))
        questions += [index.get_session_participants(one.session_id) for one in index.sessions()]
        questions += [index.get(f"{one.file_path}:{one.byte_offset}") for one in entries[::17]]
        questions += [[one.id for one in index.conversation(name)] for name in ("conv_1", "team_1")]
    said = everything(settings.index_folder)
    return Known(said, records, questions)


def where(index: Everything) -> Everything:
    """What an index says, except where its sessions are."""
    from dataclasses import replace

    return index._replace(sessions=[replace(one, lives_in="") for one in index.sessions])


def same(one: Known, other: Known) -> bool:
    """Equal in all but where the bytes are."""
    return (where(one.index), one.records, one.questions) == (where(other.index), other.records, other.questions)


def files(settings: Settings) -> list[str]:
    """The archive files."""
    with Archive(settings.archive) as folder:
        return folder.files()


def logs(root: Path) -> list[str]:
    """The log files that are there."""
    return sorted(
        one.relative_to(root).as_posix()
        for one in root.rglob("*")
        if one.is_file() and not one.is_relative_to(root / "index")
    )
