"""The house: who may import whom, and how large a room may be. Read from the source itself."""

from __future__ import annotations

import ast
from functools import cache
from pathlib import Path

import pytest

import sidecar

PACKAGE = Path(sidecar.__file__).parent
MODULES = sorted(path.stem for path in PACKAGE.glob("*.py"))
LONGEST = 400

# What each module may import of the package. A new line here is a decision.
MAY_IMPORT = {
    # values, and what is computed from them alone
    "errors": "",
    "records": "",
    "values": "records",
    "linking": "",
    "derive": "linking records",
    "paths": "errors",
    "times": "errors",
    "globs": "",
    "words": "",
    # settings and formats
    "strict": "errors",
    "compile": "records values",
    "formats": "compile strict values",
    "config": "errors formats globs strict",
    # from bytes to rows
    "mounts": "",
    "inotify": "",
    "watch": "inotify mounts",
    "scan": "config paths",
    "scans": "config scan",
    "tail": "errors records",
    "parse": "formats records",
    "fold": "config derive parse paths records tail values",
    "archive_format": "errors",
    "archive_reader": "archive_format errors paths tail",
    "replay": "archive_reader errors fold parse records tail",
    "visit": "archive_reader fold parse paths records replay tail",
    # the index, written
    "tables": "",
    "catalog_tables": "tables",
    "schema": "catalog_tables errors tables",
    "seal": "errors schema",
    "codes": "paths records tables",
    "merge": "schema tables",
    "daily": "codes linking merge paths records schema seal tables",
    "index": "daily errors fold linking records schema seal",
    "catalog_archive": "records",
    "packed": "",
    "catalog": "catalog_archive config daily fold linking packed records schema seal tail values",
    "ledger": "catalog config daily errors fold index paths records scan schema seal swap",
    # the index, read
    "small": "",
    "swap": "errors small",
    "rows": "records tables",
    "wanted": "day_filter records",
    "reader_archive": "day_filter packed records",
    "reader": "errors paths reader_archive records rows schema swap tables wanted",
    "follower": "errors reader records swap wanted",
    "files": "errors reader swap",
    "removal": "errors tail",
    "day_filter": "",
    "bytes_of": "archive_reader errors paths records tail",
    "query": "archive_reader bytes_of errors files follower paths reader records times wanted",
    # jobs over all of it
    "lock": "errors small",
    "beacon": "small",
    "archive_requests": "errors lock records",
    "crowd": "catalog config errors ledger load tail",
    "daemon": "archive_reader archive_requests beacon config crowd errors fold ledger paths scans schema seal"
    " visit watch",
    "archive_scan": "archive_format archive_reader config errors paths records replay swap",
    "part": "codes fold records schema",
    "load": "archive_reader catalog config daily errors fold merge part paths records schema visit",
    "reindex": "archive_scan catalog config errors index load records scan swap",
    "patience": "beacon config schema",
    "service": "beacon config daemon errors index lock patience reader records reindex schema seal swap",
    "verify": "archive_reader bytes_of config errors load paths reader records reindex swap",
    "status": "archive_reader beacon config errors lock mounts paths reader records scan swap tail",
    "archive_owner": "archive_reader archive_requests config errors ledger lock schema service swap",
    "archive_plan": "config paths reader reader_archive records removal scan tail wanted",
    "archive_pack": "archive_format archive_owner archive_plan archive_reader errors paths records swap tail",
    "archive_days": "daily day_filter index reader records swap wanted",
    "archive_keep": "archive_reader errors reader records",
    "archive": "archive_days archive_format archive_keep archive_owner archive_pack archive_plan archive_reader"
    " archive_requests config errors ledger lock paths reader records removal replay tail",
    "finding": "",
    "machine": "config finding lock mounts render",
    "doctor": "archive_reader config errors finding fold formats lock machine parse paths reader records scan service"
    " tail",
    # the command
    "render": "",
    "screens": "errors query records render words",
    "screens_state": "config finding render status verify",
    "screens_archive": "archive config render",
    "progress": "records render",
    "cli_options": "archive_reader config query records",
    "cli_query": "cli_options errors query records render screens times",
    "cli_run": "beacon cli_options config daemon progress records render service",
    "cli_archive": "archive archive_keep cli_options errors progress render screens_archive times",
    "cli_show": "cli_options render screens",
    "cli_state": "cli_options doctor progress render screens_state service status verify",
    "demo_lines": "",
    "demo_world": "demo_lines",
    "demo_talk": "demo_world errors writer",
    "demo_seen": "records",
    "demo_frame": "demo_seen render",
    "demo_screen": "demo_frame demo_seen render",
    "demo_processes": "errors",
    "demo": "beacon config demo_frame demo_processes demo_screen demo_seen errors lock query records words",
    "cli_demo": "cli_options demo demo_screen errors render",
    "cli": "cli_archive cli_demo cli_options cli_query cli_run cli_show cli_state errors render",
    "__main__": "cli",
    "__init__": "errors query records",
    # the daemon's side
    "writer_patterns": "",
    "writer_lock": "errors",
    "writer_records": "errors writer_patterns",
    "writer_session": "errors writer_lock writer_records",
    "writer_sessions": "errors writer_records writer_session",
    "writer_handles": "errors writer_records writer_session",
    "writer_events": "writer_records writer_session",
    "writer_responses": "errors writer_handles writer_records writer_session writer_sessions",
    "writer_routing": "errors writer_patterns writer_records writer_responses",
    "writer": "writer_events writer_patterns writer_records writer_responses writer_routing writer_session"
    " writer_sessions",
}

# Modules that do nothing but compute, and what they need of the world all the same.
PURE = {
    "errors": set(),
    "records": set(),
    "values": set(),
    "linking": set(),
    "derive": set(),
    "paths": {"os", "pathlib"},  # names as the system has them, and where a link leads
    "times": {"time"},  # an age counts back from now
}
WORLD = {
    *("asyncio", "fcntl", "filelock", "io", "logging", "multiprocessing", "os", "pathlib", "peewee", "random"),
    *("shutil", "signal", "socket", "sqlite3", "subprocess", "sys", "tempfile", "threading", "time", "uuid"),
    "watchdog",
}


@cache
def tree(module: str) -> ast.Module:
    return ast.parse((PACKAGE / f"{module}.py").read_text())


@cache
def siblings(module: str) -> frozenset[str]:
    """Modules of the package that this one imports, wherever in it the import stands."""
    found: set[str] = set()
    for node in ast.walk(tree(module)):
        if isinstance(node, ast.ImportFrom) and node.level:
            found |= {node.module} if node.module else {alias.name for alias in node.names}  # type: ignore[arg-type]
    return frozenset(found & set(MODULES))


@cache
def others(module: str) -> frozenset[str]:
    """What it imports from elsewhere, by its first name."""
    found: set[str] = set()
    for node in ast.walk(tree(module)):
        if isinstance(node, ast.Import):
            found |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and not node.level and node.module:
            found.add(node.module.partition(".")[0])
    return frozenset(found)


def reached(module: str) -> set[str]:
    """Everything that an import of a module loads, or may load later."""
    found: set[str] = set()
    ahead = [module]
    while ahead:
        new = siblings(ahead.pop()) - found
        found |= new
        ahead += new
    return found


def test_the_table_names_every_module() -> None:
    assert sorted(MAY_IMPORT) == MODULES


def test_a_module_imports_only_what_the_table_allows() -> None:
    beyond = {module: siblings(module) - set(MAY_IMPORT.get(module, "").split()) for module in MODULES}
    assert {module: names for module, names in beyond.items() if names} == {}


def test_the_table_allows_no_more_than_is_used() -> None:
    unused = {module: set(MAY_IMPORT.get(module, "").split()) - siblings(module) for module in MODULES}
    assert {module: names for module, names in unused.items() if names} == {}


def test_modules_name_each_other_by_their_place_and_so_by_the_table() -> None:
    assert [module for module in MODULES if "sidecar" in others(module)] == []


def test_no_module_reaches_itself() -> None:
    assert [module for module in MODULES if module in reached(module)] == []


@pytest.mark.parametrize("module", PURE)
def test_what_only_computes_knows_nothing_of_the_world(module: str) -> None:
    assert others(module) & WORLD == PURE[module]


@pytest.mark.parametrize("module", ["derive", "linking", "values", "compile"])
def test_derivation_reaches_only_what_computes(module: str) -> None:
    assert not {name for reach in reached(module) for name in others(reach)} & WORLD


@pytest.mark.parametrize("module", ["query", "reader", "follower"])
def test_the_reading_side_never_reaches_the_watcher_or_a_writer_of_the_index(module: str) -> None:
    assert not reached(module) & {"watch", "scan", "daemon", "ledger", "index", "catalog", "daily", "config", "fold"}


def test_watchdog_is_known_in_one_place() -> None:
    assert [module for module in MODULES if "watchdog" in others(module)] == ["inotify", "watch"]
    assert [module for module in MODULES if "inotify" in siblings(module)] == ["watch"]
    assert [module for module in MODULES if "watch" in siblings(module)] == ["daemon"]


def test_no_stage_imports_its_neighbour() -> None:
    stages = {"watch", "tail", "parse", "derive", "index"}
    for stage in stages:
        assert not siblings(stage) & stages, stage
    # `fold`, `visit` and `replay` are the way from bytes to rows; `doctor` tries a format.
    assert {module for module in MODULES if len(siblings(module) & stages) > 1} == {
        *("fold", "replay", "visit", "doctor"),
    }


def test_only_the_jobs_that_hold_the_lock_can_write_an_index() -> None:
    writers = {"index", "catalog", "daily", "load"}
    assert {module for module in MODULES if siblings(module) & {*writers}} - writers == {
        *("ledger", "crowd", "reindex", "service", "verify", "archive_days"),
    }


def test_the_writer_shares_only_the_errors_with_the_indexer() -> None:
    writers = {module for module in MODULES if module.startswith("writer")}
    assert len(writers) > 5
    assert {name for module in writers for name in reached(module)} - writers == {"errors"}


def test_a_module_says_what_it_is() -> None:
    assert [module for module in MODULES if not ast.get_docstring(tree(module))] == []


def test_a_module_is_read_in_one_sitting() -> None:
    lengths = {module: len((PACKAGE / f"{module}.py").read_text().splitlines()) for module in MODULES}
    assert {module: length for module, length in lengths.items() if length > LONGEST} == {}
