"""Settings: which files below which root are read, in which layout and format, and how often.

They come from config.yaml and from the command line, which takes precedence. Every mistake in them raises a ConfigError
that names the file, the line, the key, and what was expected there.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Container, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from hashlib import sha256
from itertools import chain
from pathlib import Path
from typing import Any, cast, get_args

from sidecar import globs, tool_logs
from sidecar.errors import ConfigError, RootMissing
from sidecar.fs import as_utf8, to_os
from sidecar.records import Layout
from sidecar.said import note_of

from . import rotation
from .formats import Format, load_formats, read_packaged
from .hub import HubSettings, hub_settings
from .yaml_nodes import YamlValue, parse_yaml_file, unknown_name

CONFIG_FILE = Path("config.yaml")
ROOT = Path("var/logs")
PRESET = "reference"
INDEX_FOLDER = "index"
SESSION_PART = "session"
"""The named part of a path that is the session_id."""

LAW = 4
"""Version of the law of derivation (docs/derivation.md). Raise it where the same logs would give other rows."""

_SCALARS: dict[str, Callable[[YamlValue], object]] = {
    "max_line_bytes": YamlValue.size,
    "scan_interval": YamlValue.seconds,
    "checkpoint_interval": YamlValue.seconds,
    "polling": YamlValue.flag,
}
_FOLDERS = ("root", "archive", "index")
_SOURCE_KEYS = ("name", "glob", "layout", "format")
_ACROSS = "answers_across_files"
_ROTATED = "rotated"
_ALL_SOURCE_KEYS = (*_SOURCE_KEYS, _ACROSS, _ROTATED)
_KEYS = (*_FOLDERS, "preset", "sources", "formats", "hub", *_SCALARS)


@dataclass(frozen=True, slots=True)
class Source:
    """Files of one kind: their glob, their layout, and the format of their records."""

    name: str
    glob: str
    """Relative to the root. `*`, `?`, `[...]` and `<name>` match within a component; `**` matches any number of
    folders."""
    layout: Layout
    """`session`: lines, one session per file; `stream`: lines of many sessions; `file`: one record per file."""
    format: Format
    answers_across_files: bool = False
    """An open request counts as answered where another file of such a source holds an answer with its correlation that
    belongs to no request there."""
    rotated: tuple[str, ...] = ()
    """The patterns for the names of files with earlier parts of a log (`rotation.py`)."""
    matcher: re.Pattern[str] = field(init=False, repr=False, compare=False)
    _session_folder: int = field(init=False, repr=False, compare=False)
    """If all logs of a source with the layout `session` have the same name: the component of the path that tells them
    apart, counted from the end. Else 0."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "matcher", re.compile(globs.glob_regex(self.glob, named=True)))
        is_in_doubt = self.layout == "session" and SESSION_PART not in globs.glob_names(self.glob)
        object.__setattr__(self, "_session_folder", globs.distinguishing_folder(self.glob) if is_in_doubt else 0)

    @property
    def takes_session_from_folder(self) -> bool:
        """Whether the session of a log is the name of a folder, which the glob does not name `<session>`."""
        return self._session_folder > 0

    def matches(self, relative_path: str) -> bool:
        return self.matcher.fullmatch(as_utf8(relative_path)) is not None

    def parts_of(self, relative_path: str) -> dict[str, str]:
        """The parts of a path that the glob names, as UTF-8 and without those that are empty, and the session, if that
        is the name of a folder."""
        if not ("<" in self.glob or self._session_folder):
            return {}
        path = as_utf8(relative_path)
        match = self.matcher.fullmatch(path)
        if match is None:
            return {}
        parts = {name: part for name, part in match.groupdict().items() if part}
        if self._session_folder:
            parts[SESSION_PART] = path.split("/")[-self._session_folder]
        return parts


@dataclass(frozen=True)
class Settings:
    """All settings. Folders are absolute."""

    root: Path
    archive: Path
    sources: tuple[Source, ...]
    """In the order in which they are tried."""
    max_line_bytes: int = 16 * 1024 * 1024
    """A longer line is rejected."""
    scan_interval: float = 5.0
    """Seconds between two full scans."""
    checkpoint_interval: float = 1.0
    """Seconds between two commits of the offsets."""
    polling: bool = False
    """Scan at a short interval instead of relying on the system's notifications."""
    preset: str = PRESET
    config_file: Path | None = None
    index: Path | None = None
    """Where the index lies, if not in the folder `index` below the root."""
    of_tool: bool = False
    """Whether the logs belong to another tool, so that nothing is written beside them and none is deleted."""
    hub: HubSettings = field(default_factory=HubSettings)
    """The hub that the index is pushed to."""

    @property
    def index_folder(self) -> Path:
        return self.index or self.root / INDEX_FOLDER

    def check_root(self) -> None:
        """Raise RootMissing if the root does not exist, and ConfigError if it is not a directory."""
        if not os.path.lexists(self.root):
            looked = ", ".join(tool_logs.candidates().get(self.preset, ()))
            hint = f"the preset {self.preset} looks for {looked}; name another directory with --root"
            raise RootMissing(f"the root {self.root} does not exist", hint=hint if looked else None)
        if not self.root.is_dir():
            raise ConfigError(f"the root {self.root} is not a directory", hint="name another one with --root")

    @cached_property
    def index_path(self) -> str | None:
        """The path of the index folder relative to the root, as the file system spells it; None if it is elsewhere."""
        folder = _inside(self.index_folder, self.root)
        return None if folder is None else folder.as_posix()

    @cached_property
    def fingerprint(self) -> str:
        """A digest of everything that rows depend on. An index that was made under another one has to be rebuilt."""
        sources = [
            (one.glob, one.layout, one.format.fingerprint, one.answers_across_files, one.rotated)
            for one in self.sources
        ]
        return sha256(json.dumps([LAW, sources, self.max_line_bytes]).encode()).hexdigest()

    @cached_property
    def text_note(self) -> str:
        """What the catalog keeps so that readers find the text of a record without the settings."""
        return note_of((source.glob, source.format.spec.text) for source in self.sources)

    @cached_property
    def glob_prefixes(self) -> tuple[str, ...]:
        """The folders that contain all sources, relative to the root, which is ""; none is inside another."""
        found = dict.fromkeys(to_os(globs.glob_prefix(source.glob)) for source in self.sources)
        return tuple(
            folder
            for folder in found
            if not any(other != folder and (not other or folder.startswith(f"{other}/")) for other in found)
        )

    def source_for(self, relative_path: str) -> Source | None:
        """The first source whose glob matches this path. Nothing in the index folder belongs to a source."""
        # A scan calls this for each of 100,000 paths, so all globs are tried in one match.
        match = self._any_source.fullmatch(as_utf8(relative_path))
        return self.sources[match.lastindex - 1] if match and match.lastindex else None

    @cached_property
    def may_be_part(self) -> re.Pattern[str]:
        """Matches, by `search`, every name that a part of a rotated log can have, and few others."""
        return re.compile(rotation.rough(pattern for source in self.sources for pattern in source.rotated))

    def logs_of_part(self, path: str) -> list[str]:
        """The paths of the logs that the file at a path would be a part of if they existed, the longest first. All
        paths are as the operating system has them."""
        folder, slash, name = path.rpartition("/")
        if not self.may_be_part.search(name):
            return []
        patterns = dict.fromkeys(pattern for source in self.sources for pattern in source.rotated)
        plain = [folder + slash + to_os(one) for one in rotation.plain_names(patterns, as_utf8(name))]
        return [log for log in plain if self.in_order_of_age(log, [path])]

    def log_of_part(self, path: str, there: Container[str]) -> str | None:
        """The path of the log that a file is a part of, given the paths of the files that exist; None if it is not a
        part."""
        for log in self.logs_of_part(path):
            if log in there and self.log_of_part(log, there) is None:
                return log
        return None

    def in_order_of_age(self, log: str, paths: Iterable[str]) -> list[str]:
        """Those of some paths in a folder that can be parts of a log there, the oldest first."""
        source = self.source_for(log)
        if source is None or not source.rotated:
            return []
        plain = log.rpartition("/")[2]
        names = {as_utf8(path.rpartition("/")[2]): path for path in paths}
        return [names[name] for name in rotation.parts_among(source.rotated, as_utf8(plain), names)]

    @cached_property
    def _any_source(self) -> re.Pattern[str]:
        each = "|".join(f"({globs.glob_regex(source.glob)})" for source in self.sources) or "(?!)"
        not_ours = f"(?!{re.escape(self.index_path)}/)" if self.index_path else ""
        return re.compile(f"{not_ours}(?:{each})")


def load_settings(
    config: Path | None = None, root: Path | None = None, preset: str | None = None, index: Path | None = None
) -> Settings:
    """The settings in the file `config`, by default `./config.yaml` if it exists; the other arguments override it.

    A folder that the file names is relative to the file's folder, one that is given here is relative to the working
    directory; `~` is the user's home. A preset whose logs belong to another tool has folders of its own, and the
    folders and sources in `./config.yaml` count only if it names the same preset. Raises ConfigError.
    """
    file = config or (CONFIG_FILE if CONFIG_FILE.exists() else None)
    content = parse_yaml_file(file) if file else None
    given = content.fields(_KEYS) if content else {}
    base = file.parent if file else Path()
    presets = read_packaged("presets").mapping()
    in_file = given["preset"].choice(presets, "preset") if "preset" in given else PRESET
    if preset is not None and preset not in presets:
        raise ConfigError(unknown_name("preset", preset, presets))
    chosen = preset or in_file
    tool = tool_logs.places_of(chosen) if chosen in tool_logs.candidates() else None
    if tool and config is None and in_file != chosen:
        given = {key: value for key, value in given.items() if key not in (*_FOLDERS, "sources")}
    named = {key: base / _at_home(Path(given[key].text("a folder"))) for key in _FOLDERS if key in given}
    logs = _absolute(root or named.get("root") or (tool.root if tool else base / ROOT))
    archive = _absolute(named.get("archive") or (tool.archive if tool else logs.parent / "archive"))
    if "archive" in named and _inside(archive, logs) is not None:
        raise given["archive"].error(f"expected a folder outside the root {logs}, found {archive}")
    own_index = _index_folder(index, named.get("index"), logs, archive, given, of_tool=tool is not None)
    scalars: dict[str, Any] = {key: take(given[key]) for key, take in _SCALARS.items() if key in given}
    return Settings(
        root=logs,
        archive=archive,
        sources=_sources(given, presets, chosen),
        preset=chosen,
        config_file=_absolute(file) if file else None,
        index=own_index or (tool.index if tool else None),
        of_tool=tool is not None,
        hub=hub_settings(given["hub"]) if "hub" in given else HubSettings(),
        **scalars,
    )


def _index_folder(
    option: Path | None, named: Path | None, logs: Path, archive: Path, given: Mapping[str, YamlValue], *, of_tool: bool
) -> Path | None:
    """The index folder that the option --index or config.yaml names, if any."""
    folder = option or named
    if folder is None:
        return None
    folder = _absolute(folder)
    what = ""
    if _inside(logs, folder) is not None or _inside(archive, folder) is not None:
        what = f"{folder} holds the root or the archive, and the index folder may hold nothing else"
    elif of_tool and _inside(folder, logs) is not None:
        what = f"{folder} lies below {logs}, which belongs to another tool, expected a folder elsewhere"
    if what:
        raise ConfigError(f"--index: {what}") if option is not None else given["index"].error(what)
    return folder


def _sources(given: Mapping[str, YamlValue], presets: Mapping[str, YamlValue], chosen: str) -> tuple[Source, ...]:
    """All sources: those of config.yaml, then those of the preset."""
    formats = load_formats(given.get("formats"))
    preset_sources = {source.name: source for source in (_source(v, formats) for v in _of_preset(presets[chosen]))}
    sources: dict[str, Source] = {}
    for value in given["sources"].items("a list of sources") if "sources" in given else []:
        source = _source(value, formats)
        if source.name in sources or source.name in preset_sources:
            owner = f"the preset `{chosen}`" if source.name in preset_sources else "a source above"
            raise value.error(f"the name `{source.name}` is taken by {owner}, expected another")
        sources[source.name] = source
    named = {name for preset in presets.values() for value in _of_preset(preset) for name in _names_in_glob(value)}
    _check_names(given["sources"].items() if sources else [], tuple(sources.values()), named)
    return (*sources.values(), *preset_sources.values())


def _of_preset(value: YamlValue) -> list[YamlValue]:
    """The sources of a preset, which is a list of them, or a mapping with `root` and `sources`."""
    return value.items() if value.is_list else value.fields(("root", "sources"))["sources"].items()


def _check_names(values: list[YamlValue], sources: tuple[Source, ...], named: set[str]) -> None:
    """Raise ConfigError for a format that uses a `<name>` which is neither a value that it keeps nor a part of the path
    that a glob names: a glob of one of its own sources, or of the package's (`named`)."""
    for value, source in zip(values, sources, strict=True):
        globs_of_format = (one.glob for one in sources if one.format == source.format)
        known = named | source.format.kept | set(chain.from_iterable(map(globs.glob_names, globs_of_format)))
        if unknown := source.format.parts - known - {SESSION_PART}:
            name = min(unknown)
            what = f"the format `{source.format.name}` looks at `<{name}>`, expected `keep: {{{name}: ...}}` in it, or"
            raise value.fields(_ALL_SOURCE_KEYS)["glob"].error(f"{what} a part of the path that is named so")


def _names_in_glob(value: YamlValue) -> tuple[str, ...]:
    return globs.glob_names(value.fields(_ALL_SOURCE_KEYS)["glob"].text())


def _source(value: YamlValue, formats: Mapping[str, Format]) -> Source:
    given = value.fields(_ALL_SOURCE_KEYS, required=_SOURCE_KEYS)
    glob = given["glob"].text("a glob")
    try:
        names = globs.glob_names(glob)
    except ValueError as error:
        raise given["glob"].refuse(str(error)) from None
    layout = cast(Layout, given["layout"].choice(get_args(Layout), "layout"))
    format_ = formats[given["format"].choice(formats, "format")]
    if both := format_.kept.intersection(names):
        raise given["glob"].error(f"`<{min(both)}>` is kept by the format `{format_.name}`, expected another name")
    across = given[_ACROSS].flag() if _ACROSS in given else False
    rotated = _rotated(given.get(_ROTATED), layout)
    return Source(given["name"].text(), glob, layout, format_, across, rotated)


def _rotated(value: YamlValue | None, layout: Layout) -> tuple[str, ...]:
    """The patterns for the parts of a rotated log. Files with one record each have none."""
    if value is None:
        return () if layout == "file" else rotation.DEFAULT
    patterns = value.items("a list of names such as `{name}.{number}`, or `[]`")
    for pattern in patterns:
        if layout == "file":
            raise value.error("files of the layout `file` have no earlier parts, expected `[]`")
        try:
            rotation.check_pattern(pattern.text(rotation.EXPECTED))
        except ValueError as error:
            raise pattern.refuse(str(error)) from None
    return tuple(pattern.text() for pattern in patterns)


def _at_home(path: Path) -> Path:
    return Path(os.path.expanduser(path))  # noqa: PTH111 -- Path.expanduser() raises for a user that is not there


def _absolute(path: Path) -> Path:
    # Path.absolute() keeps `..`, and beside it is no `archive`.
    return Path(os.path.abspath(_at_home(path)))  # noqa: PTH100


def _inside(folder: Path, other: Path) -> Path | None:
    """The path of a folder relative to `other`, if it is that folder or lies in it, by name or through links; else
    None."""
    for one, whole in ((folder, other), (Path(os.path.realpath(folder)), Path(os.path.realpath(other)))):
        if one.is_relative_to(whole):
            return one.relative_to(whole)
    return None
