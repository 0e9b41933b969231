"""What a type checker sees of the package, from the program of a user."""

from __future__ import annotations

import inspect
import subprocess
import sys
from importlib import resources

import pytest

import sidecar
from sidecar import errors
from sidecar import writer as writer_package

RIGHT = """\
from sidecar import Entry, Index, RootLocked, SidecarError, SourceMissing, __version__
from sidecar.writer import SessionWriter, create_session

with Index("var/logs") as index:
    reveal_type(index)
    reveal_type(index.timeline(agent="a"))
    reveal_type(index.read_bytes(index.get("s:0")))
reveal_type(SidecarError("no").hint)
reveal_type(create_session("var/logs", "a", "b"))
reveal_type(__version__)


def says(error: SourceMissing | RootLocked) -> str:
    return error.hint


def path_of(entry: Entry) -> str:
    return reveal_type(entry.file_path)
"""
REVEALED = [
    "sidecar.query.index.Index",
    "typing.Iterator[sidecar.records.Entry]",
    "bytes",
    "str",
    "sidecar.writer.session.SessionWriter",
    "str",
    "str",
]
WRONG = """\
from sidecar import Indexx
from sidecar import SourceMising
from sidecar.writer import SesionWriter
import sidecar

sidecar.Entri
"""


@pytest.fixture(scope="module")
def reported(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[str]]:
    """What `mypy --strict` says about a right and a wrong program."""
    folder = tmp_path_factory.mktemp("user")
    (folder / "right.py").write_text(RIGHT)
    (folder / "wrong.py").write_text(WRONG)
    command = [sys.executable, "-m", "mypy", "--strict", "--no-error-summary", "--hide-error-context", "--no-pretty"]
    run = subprocess.run([*command, "right.py", "wrong.py"], cwd=folder, capture_output=True, text=True, check=False)
    assert not run.stderr
    lines = [line for line in run.stdout.splitlines() if not line.endswith("maybe you meant")]
    return {name: [line for line in lines if line.startswith(name)] for name in ("right.py", "wrong.py")}


def test_the_public_names_have_their_types(reported: dict[str, list[str]]) -> None:
    found = [line.partition("Revealed type is ")[2].strip('"') for line in reported["right.py"]]
    assert [name.replace("builtins.", "") for name in found] == REVEALED


def test_a_misspelt_name_fails_the_type_check(reported: dict[str, list[str]]) -> None:
    lines = [(int(line.split(":")[1]), "[attr-defined]" in line) for line in reported["wrong.py"] if "error:" in line]
    assert lines == [(1, True), (2, True), (3, True), (6, True)]


def test_every_error_can_be_imported_from_the_package() -> None:
    named = {name for name, one in vars(errors).items() if inspect.isclass(one) and one.__module__ == errors.__name__}
    assert set(sidecar.__all__) == {*named, "Entry", "Index"}
    assert all(getattr(sidecar, name) is getattr(errors, name) for name in named)
    assert set(dir(sidecar)) == set(sidecar.__all__)


@pytest.mark.parametrize("package", [sidecar, writer_package], ids=lambda package: package.__name__)
def test_every_name_in_all_is_there(package: object) -> None:
    assert all(hasattr(package, name) for name in package.__all__)  # type: ignore[attr-defined]


def test_the_package_says_that_it_is_typed() -> None:
    assert resources.files(sidecar).joinpath("py.typed").is_file()
