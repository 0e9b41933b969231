"""What the README and the pages in docs/ show is executed here, in a copy of the repository's example; what they name
exists."""

from __future__ import annotations

import doctest
import importlib
import inspect
import os
import re
import shutil
import subprocess
import sys
import tomllib
from html import unescape
from pathlib import Path

import pytest

import sidecar
from sidecar import Index
from sidecar.cli import cli
from sidecar.config import formats, settings
from sidecar.config.settings import load_settings
from sidecar.service.supervisor import run_once

PACKAGE = Path(sidecar.__file__).parent
REPOSITORY = PACKAGE.parent
DOCS = REPOSITORY / "docs"
PAGES = [REPOSITORY / "README.md", REPOSITORY / "CONTRIBUTING.md", *sorted(DOCS.glob("*.md"))]
FILES = (".py", ".yaml", ".json", ".lock")
PACKAGES = {path.parent.name for path in PACKAGE.glob("*/__init__.py")} | {path.stem for path in PACKAGE.glob("*.py")}


def blocks(page: Path, language: str) -> list[str]:
    """The code blocks of a page in a language, in their order."""
    return re.findall(rf"^```{language}\n(.*?)^```$", page.read_text(), re.MULTILINE | re.DOTALL)


def with_blocks(language: str) -> pytest.MarkDecorator:
    pages = [page for page in PAGES if blocks(page, language)]
    return pytest.mark.parametrize("page", pages, ids=lambda page: page.name)


@pytest.fixture
def example(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The configuration and the example logs, without an index, as the working folder; and the home of somebody who
    runs agents."""
    shutil.copy(REPOSITORY / "config.yaml", tmp_path)
    shutil.copytree(REPOSITORY / "var", tmp_path / "var", ignore=shutil.ignore_patterns("index", "archive"))
    bin_folder = tmp_path / "bin"
    bin_folder.mkdir()
    script = bin_folder / "sidecar"
    script.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m sidecar "$@"\n')
    script.chmod(0o755)
    monkeypatch.setenv("PATH", f"{bin_folder}{os.pathsep}{os.environ['PATH']}")
    shutil.copytree(REPOSITORY / "tests" / "samples" / "home", tmp_path / "home")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    for name in ("XDG_STATE_HOME", "CLAUDE_CONFIG_DIR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("COLUMNS", "120")
    monkeypatch.setenv("PYTHONPATH", str(REPOSITORY))
    monkeypatch.chdir(tmp_path)
    return tmp_path


# ---- what is shown


@with_blocks("console")
def test_the_sessions_on_a_page_print_what_it_shows(page: Path, example: Path) -> None:
    for block in blocks(page, "console"):
        check_sessions(block, example)


def check_sessions(block: str, folder: Path) -> None:
    """Type what a block shows behind each `$`, and compare what is printed."""
    for session in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
        line, _, shown = session.partition("\n")
        done = subprocess.run(line, shell=True, capture_output=True, text=True, cwd=folder, check=False)
        assert done.returncode == 0, (line, done.stderr)
        assert fits(shown, done.stdout + done.stderr), (line, done.stdout, done.stderr)


def fits(shown: str, printed: str) -> bool:
    """Whether the lines shown are the lines printed; `...` stands for anything. Spaces at line ends do not count."""
    pattern = ".*".join(map(re.escape, trimmed(shown).split("...")))
    return re.fullmatch(pattern, trimmed(printed), re.DOTALL) is not None


def trimmed(text: str) -> str:
    return "\n".join(line.rstrip() for line in text.strip().splitlines())


@with_blocks("python")
def test_the_python_on_a_page_runs(page: Path, example: Path) -> None:
    run_once(load_settings(root=example / "var" / "logs", preset="reference"), lambda _: None)
    names: dict[str, object] = {}
    for block in blocks(page, "python"):
        exec(compile(block, page.name, "exec"), names)


@pytest.mark.parametrize(
    "module",
    [
        *("sidecar.query.index", "sidecar.records"),
        *("sidecar.analyze.requests", "sidecar.analyze.role_use", "sidecar.analyze.circles"),
        "sidecar.analyze.statistics",
    ],
)
def test_the_examples_in_docstrings_return_what_they_show(module: str, example: Path) -> None:
    run_once(load_settings(root=example / "var" / "logs", preset="reference"), lambda _: None)
    with Index("var/logs") as index:
        done = doctest.testmod(
            importlib.import_module(module), extraglobs={"index": index}, optionflags=doctest.NORMALIZE_WHITESPACE
        )
    assert done.attempted and not done.failed


def test_the_format_that_is_built_step_by_step_prints_at_each_step_what_the_page_shows(example: Path) -> None:
    page = DOCS / "formats.md"
    (lines,) = blocks(page, "json")
    additions = blocks(page, "yaml")
    shown = [block for block in blocks(page, "text") if block.startswith("$ ")]
    log = example / "logs" / "bus" / "core-monday.jsonl"
    log.parent.mkdir(parents=True)
    log.write_text(lines)
    (example / "config.yaml").write_text("")
    assert len(additions) == len(shown) > 3
    for addition, block in zip(additions, shown, strict=True):
        with (example / "config.yaml").open("a") as config:
            config.write(addition)
        check_sessions(block, example)


def test_the_units_in_the_docs_are_ones_that_systemd_accepts(tmp_path: Path) -> None:
    if shutil.which("systemd-analyze") is None:
        pytest.skip("no systemd here")
    units = []
    for unit in blocks(DOCS / "operations.md", "ini"):
        name = unit.partition("\n")[0].rpartition("/")[2]
        units.append(tmp_path / name)
        units[-1].write_text(unit.replace("/opt/sidecar/bin/sidecar", sys.executable))
    command = ["systemd-analyze", "verify", "--man=no", *units]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    complaints = [line for line in done.stderr.splitlines() if any(unit.name in line for unit in units)]
    assert units and not complaints, done.stderr


# ---- the picture


def picture_text(svg: str) -> list[str]:
    """What the picture says, piece by piece."""
    return [unescape(text) for text in re.findall(r"<text[^>]*>(.*?)</text>", svg, re.DOTALL)]


def test_the_picture_is_the_one_that_its_script_draws(tmp_path: Path) -> None:
    drawn = []
    for name in ("one.svg", "two.svg"):
        command = [sys.executable, str(DOCS / "picture.py"), str(tmp_path / name)]
        subprocess.run(command, check=True, env={**os.environ, "PYTHONPATH": str(REPOSITORY)})
        drawn.append((tmp_path / name).read_text())
    kept = (DOCS / "demo.svg").read_text()
    assert drawn[0] == drawn[1]
    # Not byte by byte: another version of rich may draw the same frame in other words.
    assert picture_text(drawn[0]) == picture_text(kept), "python docs/picture.py draws it again"
    assert any("oracle" in text for text in picture_text(kept))


def test_the_picture_needs_nothing_from_elsewhere() -> None:
    kept = (DOCS / "demo.svg").read_text()
    assert set(re.findall(r"https?://[^\s\"]+", kept)) == {"http://www.w3.org/2000/svg"}
    assert not re.search(r"@font-face|@import|<script|href|/tmp|/home", kept)


# ---- what is named


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_on_a_page_lead_somewhere(page: Path) -> None:
    for target, anchor in re.findall(r"\]\(([^)#]*)(#[^)]*)?\)", page.read_text()):
        assert "://" not in target, target
        file = (page.parent / target).resolve() if target else page
        assert file.exists(), target
        if anchor:
            assert anchor[1:] in {anchor_of(line) for line in file.read_text().splitlines() if line.startswith("#")}


def anchor_of(heading: str) -> str:
    return re.sub(r"[^\w -]", "", heading.lstrip("# ").lower()).replace(" ", "-")


def names_on(page: Path) -> set[str]:
    """Everything in code font that is not in a block."""
    prose = re.sub(r"^```.*?^```$", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)
    return set(re.findall(r"`([^`\n]+)`", prose))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_files_that_a_page_names_exist(page: Path) -> None:
    named = {name for name in names_on(page) if re.fullmatch(r"(sidecar|tests|docs)/[\w./-]*", name)}
    assert {name for name in named if not (REPOSITORY / name).exists()} == set()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_modules_and_functions_that_a_page_names_exist(page: Path) -> None:
    named = {name for name in names_on(page) if re.fullmatch(r"[a-z_]+(\.\w+)+", name)}
    ours = {name for name in named if name.partition(".")[0] in PACKAGES and not name.endswith(FILES)}
    assert {name for name in ours if not exists(name)} == set()


def exists(name: str) -> bool:
    """Whether `package.module.Class.method` is there."""
    return resolve(name) is not None


def resolve(name: str) -> object | None:
    parts = name.split(".")
    for length in range(len(parts), 0, -1):
        try:
            found: object = importlib.import_module(".".join(("sidecar", *parts[:length])))
        except ModuleNotFoundError:
            continue
        for part in parts[length:]:
            if not hasattr(found, part):
                return annotated(found, part)
            found = getattr(found, part)
        return found
    return None


def annotated(owner: object, name: str) -> object | None:
    """A field that only instances have."""
    return name if isinstance(owner, type) and name in getattr(owner, "__annotations__", {}) else None


def test_every_command_is_on_the_page_of_commands() -> None:
    page = (DOCS / "cli.md").read_text()
    assert {name for name in cli.commands if f"| `{name}" not in page} == set()
    queries: dict[str, object] = cli.commands["query"].commands  # type: ignore[attr-defined]
    assert {name for name in queries if f"| `{name}" not in page} == set()


def test_every_setting_and_every_key_of_a_format_is_described() -> None:
    assert {key for key in settings._KEYS if f"| `{key}` |" not in (DOCS / "operations.md").read_text()} == set()
    keys = ("extends", *formats._ATTRIBUTES, *formats._EVENT_TYPES, "set", "shapes")
    assert {key for key in keys if f"`{key}`" not in (DOCS / "formats.md").read_text()} == set()


# ---- the map of the code


def test_the_layers_on_the_map_are_those_of_the_contracts() -> None:
    contracts = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    (layers,) = [contract["layers"] for contract in contracts if contract["type"] == "layers"]
    (shown,) = blocks(DOCS / "architecture.md", "text")
    assert shown.split("\n")[:-1] == layers


def test_every_package_is_on_the_map() -> None:
    named = names_on(DOCS / "architecture.md")
    assert {name for name in PACKAGES if name not in ("__init__", "__main__") and not is_on_map(name, named)} == set()


def is_on_map(name: str, named: set[str]) -> bool:
    return f"sidecar/{name}/" in named or f"sidecar/{name}.py" in named


def steps() -> list[tuple[str, str]]:
    """Each step of the walks that is part of another, with that one."""
    found = []
    above: list[tuple[int, str]] = []
    for line in (DOCS / "architecture.md").read_text().splitlines():
        step = re.match(r"( *)- `([a-z_]+(?:\.\w+)+)`", line)
        if step is None:
            if line.startswith("#"):
                above = []
            continue
        depth = len(step[1])
        above = [(other, name) for other, name in above if other < depth]
        if above:
            found.append((above[-1][1], step[2]))
        above.append((depth, step[2]))
    return found


@pytest.mark.parametrize(("caller", "called"), steps())
def test_a_step_of_a_walk_is_called_where_the_map_says(caller: str, called: str) -> None:
    function = resolve(caller)
    source = inspect.getsource(getattr(function, "callback", function))  # type: ignore[arg-type]
    name = called.rpartition(".")[2]
    assert exists(called)
    assert re.search(rf"\b{name}\b", source), f"{caller} does not name {name}"
