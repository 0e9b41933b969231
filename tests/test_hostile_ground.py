"""Only `guarded.py` opens, lists, makes, replaces or deletes anything in the index and archive folders.

Whoever else calls the file system by itself stands in the table below with the reason. A new call belongs into
`guarded.py`, or into the table if it never reaches these folders.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import sidecar

PACKAGE = Path(sidecar.__file__).parent

GUARDED = "guarded.py"

ALLOWED = {
    # ---- the logs, which are somebody else's
    "logs/scanner.py": {"os.scandir": "walks the root"},
    "logs/tail.py": {"os.open": "a log, read-only, not through a link"},
    "service/supervisor.py": {"os.scandir": "looks whether the root is empty"},
    "health/status.py": {"os.scandir": "looks whether the root is empty"},
    "logs/parts.py": {"os.scandir": "lists the folder of a log"},
    "health/coverage.py": {"os.walk": "walks the root"},
    "health/survey.py": {
        ".open": "a log that the caller names",
        ".read_bytes": "the files beside it",
        ".iterdir": "its folder",
    },
    "health/doctor.py": {
        "os.walk": "counts the folders of the root",
        "shutil.disk_usage": "asks for free space",
        ".iterdir": "/proc",
        ".read_text": "/proc",
    },
    "archive/remove.py": {
        "os.open": "a log and its lock, in their folder by descriptor",
        "os.link": "a log gets its name back, by descriptor",
        "os.unlink": "a log and its lock, by descriptor",
    },
    "archive/job.py": {"os.rmdir": "an empty folder of logs, by descriptor"},
    "writer/": {"*": "the daemon's side: it writes logs, and knows no index"},
    "demo/": {"*": "writes logs of its own, and starts the command"},
    "cli/demo.py": {"*": "makes the root of the demo"},
    # ---- the machine and the configuration
    "fs.py": {"os.open": "a folder, to be synced", ".read_text": "/proc"},
    "store/holders.py": {".read_text": "/proc"},
    "config/yaml_nodes.py": {".read_text": "config.yaml"},
    "tool_logs.py": {".read_text": "the presets of the package"},
    "access.py": {".read_text": "the file with the token"},
    "config/formats.py": {".read_text": "formats of the package"},
    "cli/app.py": {"os.open": "/dev/null"},
    # ---- the folders themselves
    "archive/folder.py": {".mkdir": "makes the archive folder, which is then opened and checked"},
    "service/faults.py": {"os.open": "opens the index folder to see whether that works, and nothing in it"},
    "health/verify.py": {"tempfile.TemporaryDirectory": "the folder of an index that is thrown away"},
    # ---- SQLite, which opens by path only: what holds for it is in store/database_files.py
    "store/connection.py": {"SqliteDatabase": "databases that were checked"},
    "store/schema_check.py": {"SqliteDatabase": "a database in memory"},
    "archive/compact.py": {"sqlite3.connect": "databases that were checked"},
    "bulk/rebuild.py": {"sqlite3.connect": "an old catalog that was checked, read-only"},
    "hub/retention.py": {".mkdir": "the folder that a person names for an export"},
    "export/": {"*": "the folder that a person names for an export, outside the root and the index"},
    "hub/claim.py": {".read_text": "/etc/machine-id"},
    "indexer/tamper.py": {"os.utime": "a time alone, of a database that is open here, and never through a link"},
}

_OS = {
    *("open", "unlink", "remove", "removedirs", "rename", "renames", "replace", "rmdir", "mkdir", "makedirs", "mkfifo"),
    *("mknod", "link", "symlink", "scandir", "listdir", "walk", "fwalk", "truncate", "chmod", "chown", "lchown"),
    *("utime", "mkdtemp", "setxattr"),
}
_MODULES = {"shutil", "tempfile", "io", "dbm", "shelve", "fileinput"}
_PATH = {
    *("unlink", "rmdir", "mkdir", "touch", "symlink_to", "hardlink_to", "read_bytes", "read_text", "write_bytes"),
    *("write_text", "iterdir", "glob", "rglob", "walk", "chmod", "lchmod"),
}
_OF_OUR_OWN = {"create", "open_file"}
"""Methods of GuardedFolder that return a descriptor."""


def calls(source: str) -> Iterator[str]:
    """The calls in a module that reach the file system by a path, or by a descriptor with a name."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Call):
            yield from _named(node)
        elif isinstance(node, ast.ImportFrom) and node.module in {"os", "sqlite3", *_MODULES}:
            # By their names alone they would not be seen.
            yield from (
                f"from {node.module}" for name in node.names if name.name in {*_OS, "FileIO", "connect", "rmtree"}
            )


def _named(call: ast.Call) -> Iterator[str]:
    match call.func:
        case ast.Name("open") if not _is_descriptor(call.args[0]):
            yield "open"
        case ast.Name("SqliteDatabase"):
            yield "SqliteDatabase"
        case ast.Attribute(ast.Name("os"), name) if name in _OS:
            yield f"os.{name}"
        case ast.Attribute(ast.Name(module), name) if module in _MODULES:
            yield f"{module}.{name}"
        case ast.Attribute(ast.Name("sqlite3"), "connect"):
            yield "sqlite3.connect"
        case ast.Attribute(_, name) if name in _PATH and not _is_ours(call):
            yield f".{name}"
        case ast.Attribute(_, "open") if call.args and isinstance(call.args[0], ast.Constant):
            yield ".open"  # of a path: its first argument is the mode
        case ast.Attribute(_, "rename" | "replace" as name) if len(call.args) == 1 and not call.keywords:
            yield f".{name}"  # of a path: texts, moments and guarded folders take two, or keywords


def _is_descriptor(argument: ast.expr) -> bool:
    if isinstance(argument, ast.Call) and isinstance(argument.func, ast.Attribute):
        return argument.func.attr in _OF_OUR_OWN
    return isinstance(argument, ast.Name) and argument.id == "fd"


def _is_ours(call: ast.Call) -> bool:
    """`Index.read_bytes` takes an entry, and no path has a method of this name with an argument."""
    return isinstance(call.func, ast.Attribute) and call.func.attr == "read_bytes" and bool(call.args)


def allowed(module: str) -> dict[str, str]:
    return {name: why for prefix, names in ALLOWED.items() if module.startswith(prefix) for name, why in names.items()}


def reaching() -> dict[str, set[str]]:
    modules = {path.relative_to(PACKAGE).as_posix(): path for path in PACKAGE.rglob("*.py")}
    return {module: set(calls(path.read_text())) for module, path in modules.items() if module != GUARDED}


def test_nothing_but_the_guarded_folders_touches_what_lies_in_the_index_and_the_archive() -> None:
    stray = {
        module: sorted(names - allowed(module).keys())
        for module, names in reaching().items()
        if "*" not in allowed(module) and names - allowed(module).keys()
    }
    assert stray == {}, "go through sidecar/guarded.py, or say in ALLOWED why these folders are not reached"


def test_every_exception_is_still_needed() -> None:
    found = reaching()
    needless = [
        (prefix, name)
        for prefix, names in ALLOWED.items()
        for name in names
        if not any(
            module.startswith(prefix) and (name in its_names or (name == "*" and its_names))
            for module, its_names in found.items()
        )
    ]
    assert needless == []


def test_a_call_that_reaches_the_file_system_is_seen() -> None:
    seen = set(
        calls(
            "open(path); path.open('rb'); os.unlink(path, dir_fd=fd); shutil.rmtree(path); path.write_text('x')\n"
            "one.replace(other); one.rename(other); sqlite3.connect(path); path.glob('*.db'); tempfile.mkdtemp()\n"
            "from os import unlink\n"
            "text.replace('a', 'b'); open(folder.create(name), 'wb'); folder.rename(name, new); os.fsync(fd)"
        )
    )
    assert seen == {
        *("open", ".open", "os.unlink", "shutil.rmtree", ".write_text", ".replace", ".rename", "sqlite3.connect"),
        *(".glob", "tempfile.mkdtemp", "from os"),
    }


def test_a_path_of_an_index_is_handed_to_the_system_by_what_checks_it_alone() -> None:
    """`to_os` is for looking at a path. What asks the system for it, asks `path_under` or `resolve_under`."""
    joined = [
        path.name
        for path in PACKAGE.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Div) and ast.unparse(node.right).startswith("to_os(")
    ]
    assert joined == ["fs.py"]
