"""The files of the page: what is in them, and that they are in the wheel."""

from __future__ import annotations

import hashlib
import re
import tomllib
from pathlib import Path

import sidecar

STATIC = Path(sidecar.__file__).parent / "web" / "static"
VENDOR = STATIC / "vendor"


def test_each_library_of_others_is_the_file_that_was_published() -> None:
    text = (VENDOR / "vendor.txt").read_text()
    listed = dict(re.findall(r"^file: (\S+)\nfrom: .* \d+\.\d+\.\d+, .*\nlicence: .*\nsha256: (\w+)$", text, re.M))
    assert {path.name for path in VENDOR.glob("*.js")} == listed.keys()
    for name, digest in listed.items():
        assert hashlib.sha256((VENDOR / name).read_bytes()).hexdigest() == digest, name
    licences = set(re.findall(r"[\w-]+\.LICENSE", text))
    assert licences == {path.name for path in VENDOR.glob("*.LICENSE")}


def test_the_page_makes_no_markup_from_texts_and_names_no_other_server() -> None:
    sources = [path for kind in ("html", "css", "js") for path in STATIC.rglob(f"*.{kind}") if path.parent != VENDOR]
    assert len(sources) > 8
    for path in sources:
        text = path.read_text()
        assert not re.search(
            r"innerHTML|outerHTML|dangerously|insertAdjacent|document\.write|\beval\(|new Function", text
        )
        assert not re.search(r"https?://", text), path
        assert not re.search(r"<[a-z]+[^>]*\s(style|on[a-z]+)=\"", text), path
        assert len(text.splitlines()) <= 400, path


def test_the_page_is_a_part_of_the_package() -> None:
    settings = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())
    assert settings["tool"]["hatch"]["build"]["targets"]["wheel"] == {"packages": ["sidecar"]}
    assert not any("static" in line for line in (Path(__file__).parents[2] / ".gitignore").read_text().splitlines())
