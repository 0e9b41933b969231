"""`sidecar doctor`: checks of the settings, the logs, the index and the limits of the machine."""

from __future__ import annotations

import os
import shutil
import sqlite3
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing
from itertools import islice
from pathlib import Path

from sidecar import fs
from sidecar.config.formats import read_packaged
from sidecar.config.settings import Settings, Source, load_settings
from sidecar.errors import ConfigError, IndexMissing, SidecarError, SourceError
from sidecar.fs import path_under
from sidecar.logs.archive_file import Archive
from sidecar.logs.scanner import Scan
from sidecar.logs.watcher import why_public_observer
from sidecar.query.catalog_reader import open_catalog
from sidecar.service.index_folder import check_index_folder
from sidecar.service.lock import lock_holder
from sidecar.service.repair import reason_to_rebuild
from sidecar.terminal import counted, size_text
from sidecar.tool_logs import candidates, places_of

from .coverage import unclaimed_files
from .dates import date_checks
from .found_logs import found_logs
from .log_checks import passed_over, shared_sessions
from .result import CheckResult, listed
from .sample import Sample, advice_for, read_sample

MAX_UNCLAIMED = 1_000
"""Files without a source that are counted."""


def run_checks(settings: Settings) -> list[CheckResult]:
    """Run all checks. That the settings could be loaded shows that the formats are sound."""
    results = [*versions(), _configuration(settings)]
    try:
        settings.check_root()
    except ConfigError as error:
        return [*results, CheckResult("root", "error", str(error), error.hint), *_logs_of_tools()]
    scan = Scan(settings)
    found = [(one.path, one.source, one.status.st_size) for one in scan]
    log_bytes = sum(size for _, _, size in found)
    archive = list(_archive(settings))
    return [
        *results,
        _readable(settings, scan, [path for path, _, _ in found]),
        *passed_over(scan),
        *shared_sessions((path, source) for path, source, _ in found),
        *_sources(settings, found, some_archived=bool(archive)),
        *(() if found else _logs_of_tools()),
        _looked("index folder", lambda: index_folder(settings)),
        _looked("disk", lambda: disk(settings, log_bytes)),
        _looked("watching", lambda: watching(settings)),
        _looked("sidecar", lambda: _running(settings)),
        _looked("index", lambda: _index(settings)),
        *date_checks(settings.index_folder),
        *archive,
    ]


def _looked(check: str, look: Callable[[], CheckResult]) -> CheckResult:
    """The result of a check; an error if the system does not let it read something, so that the other checks go on."""
    try:
        return look()
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        advice = "let this user read it, or run as a user that can"
        return CheckResult(check, "error", f"{where}{error.strerror}", advice)


def _configuration(settings: Settings) -> CheckResult:
    file = settings.config_file or "no config.yaml, so the defaults"
    names = ", ".join(source.name for source in settings.sources)
    if not settings.sources:
        advice = "choose a preset, or define `sources` in config.yaml"
        return CheckResult("configuration", "error", f"{file}: no source, so there is nothing to index", advice)
    return CheckResult("configuration", "ok", f"{file}; preset {settings.preset}; sources {names}")


def _readable(settings: Settings, scan: Scan, paths: Iterable[str]) -> CheckResult:
    failed = [f"{name or settings.root} ({why})" for name, why in scan.failed.items()]
    unreadable = (path for path in paths if not os.access(path_under(settings.root, path), os.R_OK))
    failed += [f"{path} (no permission to read)" for path in unreadable]
    if failed:
        advice = f"let this user read them: as root, setfacl -R -m u:{os.getuid()}:rX {settings.root}"
        return CheckResult("root", "error", f"{settings.root}: cannot be read: {listed(failed)}", advice)
    return CheckResult("root", "ok", f"{settings.root} is readable")


def _logs_of_tools() -> Iterator[CheckResult]:
    """The logs of agent tools on this machine, which could be indexed as well."""
    for one in found_logs():
        message = f"{counted(one.files, 'file')}, {size_text(one.bytes)}, in {one.root}"
        yield CheckResult(f"logs of {one.preset}", "ok", message, f"{one.command} indexes them")


def _running(settings: Settings) -> CheckResult:
    held = lock_holder(settings.index_folder)
    if held is None:
        return CheckResult("sidecar", "ok", "none is running on this root; `sidecar run` starts one")
    return CheckResult("sidecar", "ok", f"`sidecar {held[1]}` is running on this root, process {held[0]}")


def _index(settings: Settings) -> CheckResult:
    try:
        why = reason_to_rebuild(settings)
    except IndexMissing:
        return CheckResult("index", "ok", "there is none yet; `sidecar run` builds it")
    except SidecarError as error:
        return CheckResult("index", "error", str(error), error.hint)
    if why:
        return CheckResult("index", "warning", f"{why} since it was built", "`sidecar run` rebuilds it by itself")
    return CheckResult("index", "ok", "complete, and built with these settings")


def _archive(settings: Settings) -> Iterator[CheckResult]:
    """Whether every archive that the index points into can be read; no result if nothing was archived."""
    try:
        with closing(open_catalog(settings.index_folder)) as catalog:
            files = sorted({extent.file for extents in catalog.archived().values() for extent in extents})
    except SidecarError:
        # Reported by the check of the index.
        return
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
        yield CheckResult("archive", "error", f"{len(lost)} of {len(files)} archives: {listed(lost)}", advice)
    else:
        yield CheckResult("archive", "ok", f"{len(files):,} archives in {settings.archive}, each with its list of logs")


# ---- sources: do the globs match, do the formats fit


def _sources(
    settings: Settings, found: Sequence[tuple[str, Source, int]], *, some_archived: bool
) -> Iterator[CheckResult]:
    if not found and some_archived:
        yield CheckResult("sources", "ok", "every log is in the archive")
        return
    others = list(islice(unclaimed_files(settings), MAX_UNCLAIMED + 1))
    if not found:
        advice = _other_presets(settings)
        if not advice and others:
            advice = f"describe them under `sources` in config.yaml: {listed(others)}"
        advice = advice or "check `sources` and `preset` in config.yaml"
        yield CheckResult("sources", "error", f"no file below {settings.root} belongs to a source", advice)
        return
    if others:
        count = f"{len(others):,}" if len(others) <= MAX_UNCLAIMED else f"more than {MAX_UNCLAIMED:,}"
        what = "file named like a log belongs" if len(others) == 1 else "files named like logs belong"
        yield CheckResult("other files", "ok", f"{count} {what} to no source: {listed(others)}")
    for source in settings.sources:
        paths = sorted(path for path, its_source, _ in found if its_source is source)
        check = f"source {source.name}"
        if not paths:
            advice = "nothing to do if nothing is logged there yet"
            yield CheckResult(check, "warning", f"no file matches {source.glob}", advice)
            continue
        yield _format_result(check, source, len(paths), read_sample(settings, source, paths))


def _other_presets(settings: Settings) -> str:
    # The globs of other tools' presets match nearly any log, so these are named only where the tool keeps its logs.
    elsewhere = {name for name in candidates() if places_of(name).root != settings.root}
    for name in sorted(read_packaged("presets").mapping().keys() - elsewhere):
        other = load_settings(settings.config_file, settings.root, name, settings.index)
        count = sum(1 for _ in Scan(other))
        if count:
            return f"the preset `{name}` matches {count} files: sidecar --root {settings.root} --preset {name} doctor"
    return ""


def _format_result(check: str, source: Source, files: int, sample: Sample) -> CheckResult:
    counted = f"{files:,} {'file' if files == 1 else 'files'}, format {source.format.name}"
    if not sample.lines:
        return CheckResult(check, "ok", f"{counted}; no complete line in them yet")
    if not sample.rejected:
        return CheckResult(check, "ok", f"{counted}; all of {sample.lines:,} lines checked are records")
    reason, times = Counter(one.reason for _, one in sample.rejected).most_common(1)[0]
    path, example = next((path, one) for path, one in sample.rejected if one.reason == reason)
    share = 100 * len(sample.rejected) / sample.lines
    message = (
        f"{counted}; {share:.0f}% of {sample.lines:,} lines checked are not records: "
        f"{times:,} {reason}, first {path} line {example.line_number}"
    )
    everything = len(sample.rejected) == sample.lines
    return CheckResult(check, "error" if everything else "warning", message, advice_for(reason, source.layout, source))


# ---- the machine

OLDEST_PYTHON = (3, 11)
OLDEST_SQLITE = (3, 35, 0)
SMALLEST_INDEX = 100_000_000
INDEX_SHARE = 0.2
"""Disk space that an index may need: this share of the bytes of the logs, at least SMALLEST_INDEX bytes."""
SPARE_WATCHES = 1.25
"""Watches that should be free for each folder that exists now, because more folders will come."""
_INOTIFY = Path("/proc/sys/fs/inotify")
_PROC = Path("/proc")


def versions() -> Iterator[CheckResult]:
    """Whether Python and SQLite are new enough."""
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
    """Whether the index can be written, and is on a file system where SQLite's write-ahead log works."""
    folder = settings.index_folder
    existing = _nearest(folder)
    try:
        check_index_folder(settings)
    except ConfigError as error:
        return CheckResult("index folder", "error", str(error), error.hint)
    if not os.access(existing, os.W_OK | os.X_OK):
        advice = f"make a folder that this user owns: as root, install -d -o {os.getuid()} {folder}"
        return CheckResult("index folder", "error", f"{existing} cannot be written to", advice)
    if why := fs.why_polling(existing):
        advice = "the index needs shared memory beside its files: name a local folder by --index DIR, or in config.yaml"
        return CheckResult("index folder", "error", f"{folder}: {why}", advice)
    kind = fs.file_system(existing)
    return CheckResult("index folder", "ok", f"{folder} is writable" + (f", on {kind}" if kind else ""))


def disk(settings: Settings, log_bytes: int) -> CheckResult:
    """Whether there is disk space for the index, and for a second one during a rebuild."""
    free = shutil.disk_usage(_nearest(settings.index_folder)).free
    needed = max(SMALLEST_INDEX, int(log_bytes * INDEX_SHARE))
    message = f"{size_text(free)} free; the index of {size_text(log_bytes)} of log needs up to {size_text(needed)}"
    if free >= needed:
        return CheckResult("disk", "ok", message)
    return CheckResult("disk", "error", message, "free some space; a full disk stops indexing, but loses no log line")


def watching(settings: Settings) -> CheckResult:
    """Whether the kernel reports changes below the root, and has watches left for all folders."""
    if settings.polling:
        return CheckResult("watching", "ok", "by polling, as configured")
    if why := fs.why_polling(settings.root):
        advice = "nothing to do, unless it is too slow: then run the sidecar on the machine that writes the logs"
        return CheckResult("watching", "warning", f"by polling: {why}", advice)
    if why := why_public_observer():
        advice = "nothing to do, unless it is too slow: then pip install 'watchdog==7.1.*'"
        return CheckResult("watching", "warning", f"by polling: {why}", advice)
    try:
        watches = int((_INOTIFY / "max_user_watches").read_text())
        instances = int((_INOTIFY / "max_user_instances").read_text())
    except (OSError, ValueError):
        return CheckResult("watching", "ok", "this system does not report its watch limits")
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
    return CheckResult("watching", "warning", f"{message}; the sidecar polls when they run out", "\n".join(limits))


def _sysctl(name: str, value: int) -> str:
    setting = f"fs.inotify.{name}={value}"
    return f"sudo sysctl {setting}    (permanently: echo {setting} | sudo tee -a /etc/sysctl.d/60-sidecar.conf)"


def _folders(top: Path) -> int:
    return sum(1 for _ in os.walk(top))


def _in_use(except_for: int) -> tuple[int, int]:
    """Inotify instances and watches of this user's processes, except one. What cannot be read is not counted."""
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
                    info = (process / "fdinfo" / fd.name).read_text()
                    watches += sum(line.startswith("inotify ") for line in info.splitlines())
        except OSError:
            # It has ended, or belongs to another user.
            continue
    return instances, watches


def _nearest(path: Path) -> Path:
    """The path, or the nearest folder above it that exists."""
    # Path.exists() raises PermissionError if it may not look.
    while not os.access(path, os.F_OK) and path != path.parent:
        path = path.parent
    return path
