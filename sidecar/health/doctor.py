"""`sidecar doctor`: what is checked, from the settings and the logs to the limits of the machine."""

from __future__ import annotations

import os
import shutil
import sqlite3
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple

from sidecar import fs
from sidecar.config.formats import read_packaged
from sidecar.config.settings import Settings, Source, load_settings
from sidecar.errors import IndexMissing, IndexUnavailable, SidecarError, SourceError
from sidecar.fs import resolve_under, to_os
from sidecar.ingest.parse import NO_EVENT_TYPE, NOT_JSON, NOT_OBJECT, parse
from sidecar.ingest.source import SourceState
from sidecar.logs.archive_file import Archive
from sidecar.logs.scanner import Scan
from sidecar.logs.tail import NEW, NotAFile, read_lines, read_whole_file
from sidecar.logs.watcher import why_public_observer
from sidecar.query.catalog_reader import open_catalog
from sidecar.records import TOO_LONG, Layout, Rejected
from sidecar.service.lock import lock_holder
from sidecar.service.repair import reason_to_rebuild
from sidecar.terminal import size_text


@dataclass(frozen=True, slots=True)
class CheckResult:
    """One thing that was looked at."""

    check: str
    status: Literal["ok", "warning", "error"]
    """`error`: indexing fails, or finds nothing of use. `warning`: it works, and there is something to know."""
    message: str
    advice: str = ""
    """What to do; each advice on a line of its own."""


MAX_LISTED = 5
"""Names that are told one by one."""
SAMPLE_FILES = 20
SAMPLE_LINES = 100
"""Of a source, read to see whether its format fits."""


def run_checks(settings: Settings) -> list[CheckResult]:
    """Look at everything. The settings were loaded already, which compiled the formats."""
    findings = [*versions(), _configuration(settings)]
    if not settings.root.is_dir():
        advice = "start the daemon that logs there first, or name another folder with --root"
        return [*findings, CheckResult("root", "error", f"{settings.root} is no folder", advice)]
    scan = Scan(settings)
    found = [(one.path, one.source, one.status.st_size) for one in scan]
    log_bytes = sum(size_text for _, _, size_text in found)
    archive = list(_archive(settings))
    return [
        *findings,
        _readable(settings, scan, [path for path, _, _ in found]),
        *_passed_over(scan),
        *_sources(settings, found, some_archived=bool(archive)),
        index_folder(settings),
        disk(settings, log_bytes),
        watching(settings),
        _running(settings),
        _index(settings),
        *archive,
    ]


def _configuration(settings: Settings) -> CheckResult:
    file = settings.config_file or "no config.yaml, so the defaults"
    names = ", ".join(source.name for source in settings.sources)
    if not settings.sources:
        advice = "name a preset, or give `sources` in config.yaml"
        return CheckResult("configuration", "error", f"{file}: no source, so there is nothing to index", advice)
    return CheckResult("configuration", "ok", f"{file}; preset {settings.preset}; sources {names}")


def _readable(settings: Settings, scan: Scan, paths: Iterable[str]) -> CheckResult:
    failed = [f"{name or settings.root} ({why})" for name, why in scan.failed.items()]
    unreadable = (path for path in paths if not os.access(settings.root / to_os(path), os.R_OK))
    failed += [f"{path} (no permission to read)" for path in unreadable]
    if failed:
        advice = f"let this user read them: as root, setfacl -R -m u:{os.getuid()}:rX {settings.root}"
        return CheckResult("root", "error", f"{settings.root}: cannot be read: {_some(failed)}", advice)
    return CheckResult("root", "ok", f"{settings.root} is readable")


def _passed_over(scan: Scan) -> Iterator[CheckResult]:
    if scan.passed_over:
        names = [f"{name} ({what})" for name, what in sorted(scan.passed_over.items())]
        advice = "only regular files are indexed: put the file itself below the root, or ignore this"
        yield CheckResult("links", "warning", f"passed over: {_some(names)}", advice)


def _running(settings: Settings) -> CheckResult:
    held = lock_holder(settings.index_folder)
    if held is None:
        return CheckResult("sidecar", "ok", "none runs on this root; `sidecar run` starts one")
    return CheckResult("sidecar", "ok", f"`sidecar {held[1]}` runs on this root, process {held[0]}")


def _index(settings: Settings) -> CheckResult:
    try:
        why = reason_to_rebuild(settings)
    except IndexMissing:
        return CheckResult("index", "ok", "there is none yet; `sidecar run` makes it")
    except IndexUnavailable as error:
        return CheckResult("index", "error", str(error), error.hint)
    if why:
        return CheckResult("index", "warning", f"{why} since it was made", "`sidecar run` makes it again by itself")
    return CheckResult("index", "ok", "whole, and made with these settings")


def _archive(settings: Settings) -> Iterator[CheckResult]:
    """Whether what the index has archived is there; nothing where nothing was."""
    try:
        with closing(open_catalog(settings.index_folder)) as catalog:
            files = sorted({part.file for parts in catalog.archived().values() for part in parts})
    except SidecarError:
        return  # told of the index itself
    if not files:
        return
    archive = Archive(settings.archive)
    lost = []
    for file in files:
        try:
            archive.members(file)
        except SourceError as error:
            lost.append(str(error))
    archive.close()
    if lost:
        advice = "mount it, put the files back from a backup, or name the folder: `archive` in config.yaml"
        yield CheckResult("archive", "error", f"{len(lost)} of {len(files)} archives: {_some(lost)}", advice)
    else:
        yield CheckResult("archive", "ok", f"{len(files):,} archives in {settings.archive}, each with its note")


# ---- sources: do the globs match, do the formats fit


class _Sample(NamedTuple):
    """Lines of a source that were read, and those of them that are no records."""

    lines: int
    rejected: list[tuple[str, Rejected]]


def _sources(
    settings: Settings, found: Sequence[tuple[str, Source, int]], *, some_archived: bool
) -> Iterator[CheckResult]:
    if not found and some_archived:
        yield CheckResult("sources", "ok", "every log lies in the archive")
        return
    if not found:
        advice = _other_presets(settings) or "look at `sources` and `preset` in config.yaml"
        yield CheckResult("sources", "error", f"no file below {settings.root} belongs to a source", advice)
        return
    for source in settings.sources:
        paths = sorted(path for path, its_source, _ in found if its_source is source)
        check = f"source {source.name}"
        if not paths:
            advice = "nothing to do, if nothing is logged there yet"
            yield CheckResult(check, "warning", f"no file matches {source.glob}", advice)
            continue
        yield _judged(check, source, len(paths), _sample(settings, source, paths))


def _other_presets(settings: Settings) -> str:
    for name in read_packaged("presets").mapping():
        other = load_settings(settings.config_file, settings.root, name)
        count = sum(1 for _ in Scan(other))
        if count:
            return f"the preset `{name}` matches {count} files: sidecar --root {settings.root} --preset {name} doctor"
    return ""


def _sample(settings: Settings, source: Source, paths: Sequence[str]) -> _Sample:
    """Read the first lines of some files, which lie evenly among all."""
    step = max(1, len(paths) // SAMPLE_FILES)
    lines = 0
    rejected: list[tuple[str, Rejected]] = []
    for path in paths[::step][:SAMPLE_FILES]:
        named_type = SourceState(0, path, source).named_type
        file = resolve_under(settings.root, path)
        try:
            if source.layout == "file":
                _, _, whole = read_whole_file(file, settings.max_line_bytes)
                read, refused = ([], [Rejected(1, 0, whole, TOO_LONG)]) if isinstance(whole, int) else ([whole], [])
            else:
                seen = read_lines(file, NEW, settings.max_line_bytes)
                read, refused = seen.lines[:SAMPLE_LINES], seen.rejected[:SAMPLE_LINES]
        except (OSError, NotAFile, SourceError):
            continue  # told as unreadable, or gone by now
        read = [line for line in read if line.data.strip()]
        lines += len(read) + len(refused)
        results = (parse(line, source.format, named_type) for line in read)
        rejected += [(path, one) for one in (*refused, *results) if isinstance(one, Rejected)]
    return _Sample(lines, rejected)


def _judged(check: str, source: Source, files: int, fit: _Sample) -> CheckResult:
    counted = f"{files:,} {'file' if files == 1 else 'files'}, format {source.format.name}"
    if not fit.lines:
        return CheckResult(check, "ok", f"{counted}; no whole line in them yet")
    if not fit.rejected:
        return CheckResult(check, "ok", f"{counted}; all of {fit.lines:,} lines looked at are records")
    reason, times = Counter(one.reason for _, one in fit.rejected).most_common(1)[0]
    path, example = next((path, one) for path, one in fit.rejected if one.reason == reason)
    share = 100 * len(fit.rejected) / fit.lines
    message = (
        f"{counted}; {share:.0f}% of {fit.lines:,} lines looked at are no records: "
        f"{times:,} {reason}, first {path} line {example.line_number}"
    )
    everything = len(fit.rejected) == fit.lines
    return CheckResult(check, "error" if everything else "warning", message, _advice(reason, source.layout, source))


def _advice(reason: str, layout: Layout, source: Source) -> str:
    if reason == NOT_JSON and layout != "file":
        return "look at that line: if a record fills many lines, the layout is `file`; if it is no log, narrow the glob"
    if reason == NOT_JSON:
        return "look at that file; if it holds a record a line, the layout is `session` or `stream`"
    if reason == NOT_OBJECT:
        return "a record is a JSON object; if these are no records, narrow the glob"
    if reason == NO_EVENT_TYPE:
        return f"give the format `{source.format.name}` a path or a constant for `event_type`, in config.yaml"
    return "raise `max_line_bytes` in config.yaml"


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - MAX_LISTED} more" if len(names) > MAX_LISTED else ""
    return ", ".join(names[:MAX_LISTED]) + more


# ---- the machine

OLDEST_PYTHON = (3, 11)
OLDEST_SQLITE = (3, 35, 0)
SMALLEST_INDEX = 100_000_000
INDEX_SHARE = 0.2
"""Bytes of disk that an index may need: this share of the logs, at least so many."""
SPARE_WATCHES = 1.25
"""Times the folders that are there now; tomorrow there are more."""
_INOTIFY = Path("/proc/sys/fs/inotify")
_PROC = Path("/proc")


def versions() -> Iterator[CheckResult]:
    """Python and SQLite are new enough."""
    python = ".".join(map(str, sys.version_info[:3]))
    if sys.version_info[:2] < OLDEST_PYTHON:
        yield CheckResult("python", "error", f"{python} is too old", "install Python 3.11 or newer")
    else:
        yield CheckResult("python", "ok", python)
    if sqlite3.sqlite_version_info < OLDEST_SQLITE:
        advice = "install a Python with SQLite 3.35 or newer"
        yield CheckResult("sqlite", "error", f"{sqlite3.sqlite_version} is too old", advice)
    else:
        yield CheckResult("sqlite", "ok", sqlite3.sqlite_version)


def index_folder(settings: Settings) -> CheckResult:
    """The index can be written, and lies where SQLite's write-ahead log works."""
    folder = settings.index_folder
    there = _nearest(folder)
    if not os.access(there, os.W_OK | os.X_OK):
        advice = f"make a folder that this user owns: as root, install -d -o {os.getuid()} {folder}"
        return CheckResult("index folder", "error", f"{there} cannot be written to", advice)
    if why := fs.why_polling(there):
        advice = f"the index needs shared memory beside its files: mount or link a local folder at {folder}"
        return CheckResult("index folder", "error", f"{folder}: {why}", advice)
    kind = fs.file_system(there)
    return CheckResult("index folder", "ok", f"{folder} is writable" + (f", on {kind}" if kind else ""))


def disk(settings: Settings, log_bytes: int) -> CheckResult:
    """There is room for the index, and for a second one while the first is made again."""
    free = shutil.disk_usage(_nearest(settings.index_folder)).free
    needed = max(SMALLEST_INDEX, int(log_bytes * INDEX_SHARE))
    message = f"{size_text(free)} free; the index of {size_text(log_bytes)} of log needs up to {size_text(needed)}"
    if free >= needed:
        return CheckResult("disk", "ok", message)
    return CheckResult("disk", "error", message, "make room; a full disk stops the index, and costs no log line")


def watching(settings: Settings) -> CheckResult:
    """Whether the kernel tells of changes below the root, and has room for all folders."""
    if settings.polling:
        return CheckResult("watching", "ok", "by polling, as the configuration asks for")
    if why := fs.why_polling(settings.root):
        advice = "nothing to do: it polls; fresher is a sidecar on the machine that writes the logs"
        return CheckResult("watching", "warning", f"by polling: {why}", advice)
    if why := why_public_observer():
        advice = "nothing to do: it polls; to have inotify alone: pip install 'watchdog==7.1.*'"
        return CheckResult("watching", "warning", f"by polling: {why}", advice)
    try:
        watches = int((_INOTIFY / "max_user_watches").read_text())
        instances = int((_INOTIFY / "max_user_instances").read_text())
    except (OSError, ValueError):
        return CheckResult("watching", "ok", "this system tells no watch limits")
    held = lock_holder(settings.index_folder)
    used_instances, used_watches = _in_use(except_for=held[0] if held else 0)
    folders = sum(_folders(settings.root / prefix) for prefix in settings.glob_prefixes)
    limits = []
    if watches - used_watches < folders * SPARE_WATCHES:
        limits.append(_sysctl("max_user_watches", max(524_288, 2 * (folders + used_watches))))
    if instances - used_instances < 2:
        limits.append(_sysctl("max_user_instances", max(512, 2 * instances)))
    message = (
        f"by inotify: {folders:,} folders to watch; {watches - used_watches:,} of {watches:,} watches and "
        f"{instances - used_instances:,} of {instances:,} instances are free"
    )
    if not limits:
        return CheckResult("watching", "ok", message)
    return CheckResult("watching", "warning", f"{message}; when they run out it polls", "\n".join(limits))


def _sysctl(name: str, value: int) -> str:
    setting = f"fs.inotify.{name}={value}"
    return f"sudo sysctl {setting}    (for good: echo {setting} | sudo tee -a /etc/sysctl.d/60-sidecar.conf)"


def _folders(top: Path) -> int:
    return sum(1 for _ in os.walk(top))


def _in_use(except_for: int) -> tuple[int, int]:
    """Inotify instances and watches of this user's processes, but for one. What cannot be seen is not counted."""
    instances = watches = 0
    for process in _PROC.iterdir():
        if not process.name.isdigit() or int(process.name) == except_for:
            continue
        try:
            if process.stat().st_uid != os.getuid():
                continue
            for fd in (process / "fd").iterdir():
                if str(fd.readlink()) == "anon_inode:inotify":
                    instances += 1
                    told = (process / "fdinfo" / fd.name).read_text()
                    watches += sum(line.startswith("inotify ") for line in told.splitlines())
        except OSError:
            continue  # it ended, or is another's
    return instances, watches


def _nearest(path: Path) -> Path:
    """The path, or the nearest folder above it that is there."""
    while not path.exists() and path != path.parent:
        path = path.parent
    return path
