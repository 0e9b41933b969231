"""The structure of the package: who may import whom (the contracts of pyproject.toml), how large a module is."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import grimp
import pytest

import sidecar

PACKAGE = Path(sidecar.__file__).parent
PROJECT = PACKAGE.parent
MODULES = sorted(PACKAGE.rglob("*.py"))
LONGEST = 400
"""Lines. A module is read in one sitting."""


def test_the_import_contracts_hold() -> None:
    # A process of its own: import-linter sets `logging` up anew, which silences the loggers of the other tests.
    lint_imports = Path(sys.executable).with_name("lint-imports")
    done = subprocess.run([lint_imports, "--no-cache"], cwd=PROJECT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_package_lies_in_a_layer() -> None:
    pyproject = (PROJECT / "pyproject.toml").read_text()
    packages = {path.parent.name for path in MODULES if path.name == "__init__.py"} - {"sidecar"}
    assert len(packages) > 10
    assert {package for package in packages - {"writer"} if f"sidecar.{package}" not in pyproject} == set()


def test_watchdog_is_imported_by_the_watcher_and_its_inotify_reader_alone() -> None:
    graph = grimp.build_graph("sidecar", include_external_packages=True, cache_dir=None)
    assert graph.find_modules_that_directly_import("watchdog") == {"sidecar.logs.inotify", "sidecar.logs.watcher"}


def test_no_module_reaches_itself() -> None:
    graph = grimp.build_graph("sidecar", cache_dir=None)
    circles = {
        (module, other)
        for module in graph.modules
        for other in graph.find_modules_directly_imported_by(module)
        if graph.chain_exists(other, module)
    }
    assert circles == set()


def test_no_two_public_classes_share_a_name() -> None:
    found = [
        node.name
        for path in MODULES
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.ClassDef) and not node.name.startswith("_") and node.name != "Meta"
    ]
    assert sorted({name for name in found if found.count(name) > 1}) == []


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_a_module_says_what_it_is(path: Path) -> None:
    assert ast.get_docstring(ast.parse(path.read_text()))


def test_a_module_is_read_in_one_sitting() -> None:
    lengths = {str(path.relative_to(PACKAGE)): len(path.read_text().splitlines()) for path in MODULES}
    assert {name: length for name, length in lengths.items() if length > LONGEST} == {}
