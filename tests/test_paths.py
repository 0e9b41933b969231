"""File names: there and back, and never out of the root."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.errors import UnsafePath
from sidecar.fs import is_relative_path, path_under, resolve_under, split_path, to_os, to_text

NAMES = st.binary(min_size=1, max_size=20).filter(lambda name: b"/" not in name and b"\0" not in name)


@given(st.lists(NAMES, min_size=1, max_size=4))
def test_every_name_of_the_system_becomes_a_text_and_that_name_again(names: list[bytes]) -> None:
    path = os.fsdecode(b"/".join(names))
    text = to_text(path)
    assert text.encode().decode() == text
    assert to_os(text) == path
    assert is_relative_path(text) == {b".", b".."}.isdisjoint(names)


@given(st.lists(NAMES, min_size=2, max_size=2, unique=True))
def test_two_names_never_become_one_text(names: list[bytes]) -> None:
    assert to_text(os.fsdecode(names[0])) != to_text(os.fsdecode(names[1]))


def test_a_name_that_is_text_already_stays_as_it_is() -> None:
    assert to_text("responses/sessions/агент %20.jsonl") == "responses/sessions/агент %20.jsonl"
    assert to_text(os.fsdecode(b"a/caf\xe9 %.jsonl")) == "bytes://a/caf%E9%20%25.jsonl"


@given(st.text(max_size=30))
def test_a_path_taken_apart_is_that_path_put_together(path: str) -> None:
    folder, stem, suffix = split_path(path)
    assert folder + stem + suffix == path
    assert "/" not in stem + suffix
    assert suffix.count(".") <= 1


@pytest.mark.parametrize(
    ("path", "parts"),
    [
        ("responses/sessions/s.jsonl", ("responses/sessions/", "s", ".jsonl")),
        ("s", ("", "s", "")),
        ("a.b/evt_1.5_x.json", ("a.b/", "evt_1.5_x", ".json")),
        ("a/.hidden", ("a/", ".hidden", "")),
        ("a/", ("a/", "", "")),
    ],
)
def test_a_path_is_folder_stem_and_suffix(path: str, parts: tuple[str, str, str]) -> None:
    assert split_path(path) == parts


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A root with a link that stays within it and one that leads out."""
    folder = tmp_path_factory.mktemp("outside").resolve()
    root = folder / "root"
    (root / "a").mkdir(parents=True)
    (root / "link").symlink_to(root / "a")
    (root / "away").symlink_to(folder)
    return root


PARTS = st.sampled_from(["..", ".", "", "a", "link", "away", "bytes:", "%2e%2e", "\0"])


@given(text=st.lists(PARTS, max_size=5).map("/".join))
def test_whatever_is_asked_for_lies_below_the_root_or_is_refused(root: Path, text: str) -> None:
    try:
        path = resolve_under(root, text)
    except UnsafePath:
        return
    assert path.parent.resolve().is_relative_to(root)


def test_a_link_that_stays_below_the_root_is_a_way_like_any_other(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "a")
    assert resolve_under(tmp_path, "link/s.jsonl") == tmp_path / "link" / "s.jsonl"


def test_a_root_that_is_a_link_itself_serves(tmp_path: Path) -> None:
    (tmp_path / "logs").mkdir()
    (tmp_path / "root").symlink_to(tmp_path / "logs")
    assert resolve_under(tmp_path / "root", "s.jsonl") == tmp_path / "root" / "s.jsonl"


WAYS_OUT = [
    *("../x", "/etc/passwd", "a/../../x", "a//x", "", "a/", "./x", "a\0", "\ud800"),
    *("bytes://../x", "bytes://%00", "bytes://..%2fx", "bytes://%2e%2e/x", "bytes:///etc", "bytes://plain"),
]


@pytest.mark.parametrize("text", WAYS_OUT)
def test_a_way_out_is_refused(tmp_path: Path, text: str) -> None:
    for under in (resolve_under, path_under):
        with pytest.raises(UnsafePath):
            under(tmp_path, text)


def test_a_folder_that_is_a_link_out_of_the_root_is_refused(tmp_path: Path) -> None:
    (tmp_path / "root").mkdir()
    (tmp_path / "root" / "away").symlink_to(tmp_path)
    with pytest.raises(UnsafePath, match="through a link"):
        resolve_under(tmp_path / "root", "away/s.jsonl")
