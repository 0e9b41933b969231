"""Files kept open: few of many, and none twice."""

from __future__ import annotations

from io import BytesIO

from sidecar.fs import OpenFiles


def test_the_file_that_was_used_longest_ago_makes_room_for_another() -> None:
    files: OpenFiles[str, BytesIO] = OpenFiles(2)
    first, second, third = files.add("first", BytesIO()), files.add("second", BytesIO()), BytesIO()
    assert files.current("first", lambda _: True) is first
    files.add("third", third)
    assert [one.closed for one in (first, second, third)] == [False, True, False]
    assert files.current("second", lambda _: True) is None


def test_a_file_that_was_replaced_is_closed_before_the_new_one_is_opened() -> None:
    files: OpenFiles[str, BytesIO] = OpenFiles(2)
    old = files.add("name", BytesIO())
    assert files.current("name", lambda _: False) is None
    assert old.closed
    new = files.add("name", BytesIO())
    assert files.current("name", lambda _: True) is new


def test_what_was_closed_as_a_whole_can_be_used_again() -> None:
    files: OpenFiles[str, BytesIO] = OpenFiles(2)
    old = files.add("name", BytesIO())
    files.close()
    assert old.closed
    assert files.current("name", lambda _: True) is None
    assert files.add("name", BytesIO()).closed is False
