"""Settings: what config.yaml and the command line may say, and how they are refused."""

from __future__ import annotations

import fnmatch
import pickle
import re
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar import globs
from sidecar.config.formats import load_formats
from sidecar.config.settings import Settings, Source, load_settings
from sidecar.errors import ConfigError

TOP = Path(__file__).parents[2]
REFERENCE = load_formats()["reference"]


def write(folder: Path, yaml: str) -> Path:
    file = folder / "config.yaml"
    file.write_text(yaml, "utf-8")
    return file


def refusal(folder: Path, yaml: str) -> str:
    with pytest.raises(ConfigError) as caught:
        load_settings(write(folder, yaml))
    assert caught.value.exit_status == 2
    return str(caught.value)


def source(glob: str) -> Source:
    return Source("x", glob, "session", REFERENCE)


def settings(*given: str) -> Settings:
    return Settings(Path("/logs"), Path("/archive"), tuple(source(glob) for glob in given))


# --- where settings come from -----------------------------------------------------------------------------------------


def test_without_a_file_the_defaults_hold(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    found = load_settings()
    assert (found.root, found.archive) == (tmp_path / "var/logs", tmp_path / "var/archive")
    assert found.index_folder == tmp_path / "var/logs/index"
    assert [(s.glob, s.layout, s.format.name) for s in found.sources] == [
        ("responses/sessions/*.jsonl", "session", "reference"),
        ("events/*/evt_*.json", "file", "reference"),
    ]
    assert (found.max_line_bytes, found.scan_interval, found.checkpoint_interval) == (16 * 1024 * 1024, 5.0, 1.0)
    assert (found.polling, found.preset, found.config_file) == (False, "reference", None)


def test_a_file_in_the_working_directory_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = write(tmp_path, "root: here\npolling: true")
    monkeypatch.chdir(tmp_path)
    found = load_settings()
    assert (found.root, found.polling, found.config_file) == (tmp_path / "here", True, file)


def test_folders_are_relative_to_the_file_that_names_them(tmp_path: Path) -> None:
    found = load_settings(write(tmp_path, "root: ../a/logs\narchive: old"))
    assert (found.root, found.archive) == (tmp_path.parent / "a/logs", tmp_path / "old")
    assert load_settings(write(tmp_path, "root: a/b")).archive == tmp_path / "a/archive"
    assert load_settings(write(tmp_path, "root: /elsewhere/logs")).root == Path("/elsewhere/logs")


def test_a_tilde_is_the_home_of_the_user(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/me")
    found = load_settings(write(tmp_path, "root: ~/logs\narchive: ~/old\nindex: ~/state/index"))
    folders = (found.root, found.archive, found.index_folder)
    assert folders == (Path("/home/me/logs"), Path("/home/me/old"), Path("/home/me/state/index"))
    assert load_settings(root=Path("~/logs")).archive == Path("/home/me/archive")  # as in --root=~/logs
    assert load_settings(root=Path("~nobody.here/logs")).root == Path.cwd() / "~nobody.here/logs"


def test_the_index_lies_where_the_file_or_the_command_line_says(tmp_path: Path) -> None:
    file = write(tmp_path, "root: logs\nindex: state")
    assert load_settings(file).index_folder == tmp_path / "state"
    assert load_settings(file, index=Path("/elsewhere")).index_folder == Path("/elsewhere")
    assert load_settings(file).fingerprint == load_settings(write(tmp_path, "root: logs")).fingerprint


def test_an_archive_below_the_root_is_refused_whatever_its_name(tmp_path: Path) -> None:
    (tmp_path / "logs").mkdir()
    (tmp_path / "also").symlink_to("logs")
    for named in ("logs", "logs/old", "logs/../logs/index", "also", "also/old"):
        told = refusal(tmp_path, f"root: logs\narchive: {named}")
        assert re.search(rf"config.yaml:2: archive: expected a folder outside the root {tmp_path}/logs", told)
    assert load_settings(write(tmp_path, "root: logs\narchive: logs_old")).archive == tmp_path / "logs_old"


def test_an_index_folder_that_holds_the_root_or_the_archive_is_refused(tmp_path: Path) -> None:
    assert "config.yaml:2: index: " in refusal(tmp_path, "root: a/logs\nindex: a")
    assert "config.yaml:2: index: " in refusal(tmp_path, "root: a/logs\nindex: a/logs")
    assert "config.yaml:3: index: " in refusal(tmp_path, "root: a/logs\narchive: b/c\nindex: b")


def test_root_and_preset_of_the_command_line_win(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = write(tmp_path, "root: a\npreset: reference")
    monkeypatch.chdir(tmp_path.parent)
    found = load_settings(file, Path("b"), "ksi-daemon")
    assert (found.root, found.preset) == (tmp_path.parent / "b", "ksi-daemon")
    assert [(s.name, s.layout) for s in found.sources] == [
        ("ksi-events", "stream"),
        ("ksi-bus", "stream"),
        ("ksi-responses", "session"),
    ]


def test_an_empty_file_sets_nothing(tmp_path: Path) -> None:
    assert load_settings(write(tmp_path, "# nothing yet\n")).root == tmp_path / "var/logs"


def test_the_config_of_this_checkout_names_only_defaults(tmp_path: Path) -> None:
    text = (TOP / "config.yaml").read_text("utf-8")
    live = load_settings(write(tmp_path, text))
    assert live.fingerprint == load_settings(write(tmp_path, "")).fingerprint
    uncommented = re.sub("(?m)^# (?=[a-z_]+:|  )", "", text)
    found = load_settings(write(tmp_path, uncommented))
    assert (found.archive, found.scan_interval) == (live.archive, live.scan_interval)
    assert [s.name for s in found.sources] == ["chat", "sessions", "events"]


def test_sources_and_formats_of_ones_own_come_before_the_presets(tmp_path: Path) -> None:
    found = load_settings(
        write(
            tmp_path,
            """
            sources:
              - {name: chat, glob: "chat/**/*.jsonl", layout: stream, format: chat}
            formats:
              chat: {extends: reference, author: [sender]}
            """,
        )
    )
    assert [s.name for s in found.sources] == ["chat", "sessions", "events"]
    chat = found.source_for("chat/2024/01/a.jsonl")
    assert chat is not None
    record = chat.format.extract({"event": "x", "sender": "me"})
    assert record is not None and record.author == "me"


def test_the_preset_none_leaves_only_ones_own_sources(tmp_path: Path) -> None:
    yaml = 'preset: none\nsources: [{name: a, glob: "*.jsonl", layout: session, format: reference}]'
    assert [s.name for s in load_settings(write(tmp_path, yaml)).sources] == ["a"]
    assert load_settings(write(tmp_path, "preset: none")).source_for("a.jsonl") is None


@pytest.mark.parametrize(
    ("written", "seconds"), [("2", 2.0), ("0.5", 0.5), ("5s", 5.0), ("2m", 120.0), ("1.5h", 5400.0), ("1d", 86400.0)]
)
def test_a_duration_is_seconds_or_an_age(tmp_path: Path, written: str, seconds: float) -> None:
    assert load_settings(write(tmp_path, f"scan_interval: {written}")).scan_interval == seconds


# --- what is refused --------------------------------------------------------------------------------------------------


def test_an_unknown_key_is_refused_with_file_and_line(tmp_path: Path) -> None:
    message = refusal(tmp_path, "root: logs\nscan_intervall: 5")
    assert message.startswith(
        f"{tmp_path}/config.yaml:2: scan_intervall: unknown key `scan_intervall`, expected `root`"
    )
    assert message.endswith("did you mean `scan_interval`?")


ONE = "name: a, glob: '*', layout: session, format: reference"


@pytest.mark.parametrize(
    ("yaml", "message"),
    [
        ("root: [a]", "config.yaml:1: root: expected a folder, found a list"),
        ("root:", "config.yaml:1: root: expected a folder, found nothing"),
        ("root: 5", "root: expected a folder, found `5`"),
        ("root: a\nroot: b", "config.yaml:2: root: this key is given twice"),
        ("just text", "config.yaml:1: expected a mapping"),
        ("1: a", "expected a string as key, found `1`"),
        ("a: [", "not valid YAML"),
        ("a: b\nc: d: e", "config.yaml:2: not valid YAML"),
        ("a: 1\n---\nb: 2", "not valid YAML"),
        ("a: \x01", "not valid YAML"),
        ("[" * 5000, "not valid YAML"),
        ("polling: yes please", "polling: expected true or false, found `yes please`"),
        ("polling: 1", "polling: expected true or false"),
        ("max_line_bytes: 0", "max_line_bytes: expected a whole number above 0, found `0`"),
        ("max_line_bytes: true", "max_line_bytes: expected a whole number above 0"),
        ("max_line_bytes: 1.5", "max_line_bytes: expected a whole number above 0"),
        ("scan_interval: 0", "scan_interval: expected a duration above 0"),
        ("scan_interval: 5 parsecs", "scan_interval: expected a duration above 0"),
        ("scan_interval: .inf", "scan_interval: expected a duration above 0"),
        ("scan_interval: .nan", "scan_interval: expected a duration above 0"),
        (f"scan_interval: 1{'0' * 400}", "scan_interval: expected a duration above 0"),
        (f"scan_interval: 1{'0' * 5000}", "scan_interval: expected a duration above 0"),
        ("scan_interval: true", "scan_interval: expected a duration above 0"),
        ("root: !!python/name:os.system ''", "root: expected a folder"),
        ("root: !secret a", "root: expected a folder"),
        ("preset: referense", "preset: unknown preset `referense`"),
        ("sources: {}", "sources: expected a list of sources, found a mapping"),
        ("sources: [a]", "sources[0]: expected a mapping with `name`, `glob`, `layout`, `format`, found `a`"),
        ("sources: [{name: a}]", "sources[0]: the key `glob` is missing"),
        (f"sources: [{{{ONE.replace('session', 'sesion')}}}]", "layout: unknown layout `sesion`"),
        (f"sources: [{{{ONE.replace('reference', 'referenz')}}}]", "did you mean `reference`?"),
        (f"sources: [{{{ONE}}}, {{{ONE}}}]", "sources[1]: the name `a` is taken by a source above"),
        (f"sources: [{{{ONE.replace('name: a', 'name: events')}}}]", "is taken by the preset `reference`"),
        (f"sources: [{{{ONE.replace('*', '/a/*')}}}]", "sources[0].glob: expected a path below the root"),
        (f"sources: [{{{ONE.replace('*', 'a/../*')}}}]", "sources[0].glob: expected a path below the root"),
        ("formats:\n  mine:\n    autor: [a]", "config.yaml:3: formats.mine.autor: unknown key"),
        ("formats: {mine: {shapes: [{when: a}]}}", "formats.mine.shapes[0].when: expected a mapping with `path`"),
    ],
)
def test_what_is_wrong_is_refused_with_its_place_and_what_was_expected(tmp_path: Path, yaml: str, message: str) -> None:
    assert message in refusal(tmp_path, yaml)


def test_a_file_that_is_named_and_cannot_be_read_is_refused(tmp_path: Path) -> None:
    (tmp_path / "latin").write_bytes(b"root: caf\xe9")
    for file in (tmp_path / "absent.yaml", tmp_path, tmp_path / "latin"):
        with pytest.raises(ConfigError, match=str(file)):
            load_settings(file)


def test_an_unknown_preset_of_the_command_line_is_refused_with_the_nearest(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"unknown preset `ksi-deamon`.*did you mean `ksi-daemon`"):
        load_settings(write(tmp_path, ""), preset="ksi-deamon")


# --- globs ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("glob", "path", "matches"),
    [
        ("a/*.jsonl", "a/b.jsonl", True),
        ("a/*.jsonl", "a/.jsonl", True),
        ("a/*.jsonl", "a/b/c.jsonl", False),
        ("a/*.jsonl", "a/b.jsonl.lock", False),
        ("a/*.jsonl", "a/b.jsonl\n", False),
        ("a/?", "a//", False),
        ("a?b", "a/b", False),
        ("a[!x]b", "a/b", False),
        ("a[+-9]b", "a/b", False),
        ("**/*.jsonl", "b.jsonl", True),
        ("**/*.jsonl", "a/b/c.jsonl", True),
        ("a/**/b/*.x", "a/b/c.x", True),
        ("a/**/b/*.x", "a/1/2/b/c.x", True),
        ("a/**/b/*.x", "a/1b/c.x", False),
        ("a/**", "a/b/c", True),
        ("a/**", "a", False),
        ("**", "a/b", True),
        ("a/**/**/**/**/**/**/b", "a/" + "c/" * 200 + "d", False),
        ("A/*", "a/b", False),
        ("a\n/*", "a\n/b", True),
    ],
)
def test_a_glob_matches_within_components_and_two_stars_any_folders(glob: str, path: str, matches: bool) -> None:
    assert source(glob).matches(path) is matches


@given(st.text("ab*?[]!-^\\", min_size=1, max_size=8).filter(lambda c: "**" not in c), st.text("ab]!-^\\", max_size=6))
def test_one_component_matches_as_in_fnmatch(component: str, name: str) -> None:
    assert source(component).matches(name) is fnmatch.fnmatchcase(name, component)


@given(st.text("ab*?[]!-/.", max_size=10), st.text("ab/", max_size=6))
def test_any_glob_is_refused_or_matches_without_raising(glob: str, path: str) -> None:
    try:
        globs.split_glob(glob)
    except ValueError:
        return
    source(glob).matches(path)


@pytest.mark.parametrize("glob", ["", "/a", "a//b", "a/", "../a", "a/..", "./a", "a\0b"])
def test_a_glob_that_may_leave_the_root_is_refused(glob: str) -> None:
    with pytest.raises(ValueError, match="below the root"):
        source(glob)


def test_the_first_source_that_matches_has_the_file(tmp_path: Path) -> None:
    found = load_settings(write(tmp_path, "preset: ksi-daemon"))

    def name(path: str) -> str | None:
        has = found.source_for(path)
        return has.name if has else None

    assert name("responses/message_bus.jsonl") == "ksi-bus"
    assert name("responses/a-b.jsonl") == "ksi-responses"
    assert name("events/2026-11-23/events.jsonl") == "ksi-events"
    assert name("conversations/x.jsonl") is None
    assert name("responses/deep/x.jsonl") is None


def test_nothing_in_the_index_folder_is_a_source() -> None:
    everything = settings("**")
    assert everything.source_for("index/daily/2024-01-15.db") is None
    assert everything.source_for("index2/a") is everything.source_for("a/index/b") is everything.sources[0]


def test_without_sources_no_path_has_one() -> None:
    assert settings().source_for("a") is None and settings().glob_prefixes == ()


def test_the_folders_to_watch_lie_in_no_other() -> None:
    assert settings("a/b/*.x", "c/*/d", "a/b/c/*", "ab/x").glob_prefixes == ("a/b", "c", "ab")
    assert settings("a/b/*", "*.jsonl").glob_prefixes == ("",)


# --- what follows from settings ---------------------------------------------------------------------------------------


def test_a_fingerprint_differs_where_rows_could(tmp_path: Path) -> None:
    def fingerprint(yaml: str) -> str:
        return load_settings(write(tmp_path, yaml)).fingerprint

    def one(**changes: str) -> str:
        keys = {"name": "a", "glob": "'*'", "layout": "session", "format": "reference", **changes}
        return "{" + ", ".join(f"{key}: {value}" for key, value in keys.items()) + "}"

    base = fingerprint(f"sources: [{one()}]")
    for same in (f"sources: [{one(name='b')}]", f"sources: [{one()}]\nroot: x\npolling: true\nscan_interval: 9"):
        assert fingerprint(same) == base
    for other in (
        "",
        f"sources: [{one(glob='a')}]",
        f"sources: [{one(layout='stream')}]",
        f"sources: [{one(format='ksi-bus')}]",
        f"sources: [{one()}]\nmax_line_bytes: 5",
        f"sources: [{one(format='own')}]\nformats: {{own: {{extends: reference, author: [a]}}}}",
    ):
        assert fingerprint(other) != base


def test_a_fingerprint_differs_under_another_version_of_the_law(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = write(tmp_path, "")
    before = load_settings(config).fingerprint
    monkeypatch.setattr("sidecar.config.settings.LAW", 1)
    assert load_settings(config).fingerprint != before


def test_settings_go_to_another_process(tmp_path: Path) -> None:
    found = load_settings(write(tmp_path, "preset: ksi-daemon"))
    found.source_for("a")
    again = pickle.loads(pickle.dumps(found))
    assert again == found and again.fingerprint == found.fingerprint
    assert again.source_for("responses/message_bus.jsonl") == found.sources[1]


def test_reading_settings_loads_neither_watcher_nor_terminal() -> None:
    heavy = ("watchdog", "rich", "click", "peewee")
    code = f"import sys, sidecar.config.settings; print([m for m in {heavy} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
