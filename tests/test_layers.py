"""The structure of the package: who may import whom (the contracts of pyproject.toml), how large a module is."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest
from importlinter.cli import lint_imports

import sidecar

PACKAGE = Path(sidecar.__file__).parent
PROJECT = PACKAGE.parent
MODULES = sorted(PACKAGE.rglob("*.py"))
LONGEST = 400
"""Lines. A module is read in one sitting."""


def test_the_import_contracts_hold(capfd: pytest.CaptureFixture[str]) -> None:
    failed = lint_imports(str(PROJECT / "pyproject.toml"), no_cache=True)
    assert not failed, capfd.readouterr().out


def test_every_package_lies_in_a_layer() -> None:
    pyproject = (PROJECT / "pyproject.toml").read_text()
    packages = {path.parent.name for path in MODULES if path.name == "__init__.py"} - {"sidecar"}
    assert len(packages) > 10
    assert {package for package in packages - {"writer"} if f"sidecar.{package}" not in pyproject} == set()


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_a_module_says_what_it_is(path: Path) -> None:
    assert ast.get_docstring(ast.parse(path.read_text()))


def test_a_module_is_read_in_one_sitting() -> None:
    lengths = {str(path.relative_to(PACKAGE)): len(path.read_text().splitlines()) for path in MODULES}
    assert {name: length for name, length in lengths.items() if length > LONGEST} == {}
