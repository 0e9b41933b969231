"""The compiled function of any format agrees with a plain reading of it, whatever the document."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from sidecar.config.compiler import compile_spec
from sidecar.config.formats import Format, load_formats
from sidecar.config.spec import Attributes, Condition, FormatSpec, Keep, Shape
from sidecar.config.timestamps import timestamp_of
from sidecar.places import ListStep, Named, Place, Template
from sidecar.records import Kind, Record

YEAR_10000 = 253402300800

scalars = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=4)
    | st.sampled_from(["", "completed", "x:request", "2024-12-29T19:20:00Z", 10**400, 1735500000, 1e12])
)


def objects(keys: list[str]) -> st.SearchStrategy[dict[str, Any]]:
    values = st.recursive(
        scalars,
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(keys), inner, max_size=5),
        max_leaves=12,
    )
    return st.dictionaries(st.sampled_from(keys), values, max_size=8)


# ---- the plain reading, place by place


def plain(
    spec: FormatSpec, document: dict[str, Any], named_type: str | None, names: dict[str, str]
) -> tuple[Record | None, dict[str, str]]:
    """The record, and the names after it."""
    attributes, known = spec.attributes, dict(names)
    for name, places in spec.keep:
        if name not in known:
            keep(known, name, document, places)
    for shape in spec.shapes:
        if all(holds(condition, document, known) for condition in shape.conditions):
            attributes = attributes.overridden_by(shape.attributes)
            for name, places in shape.keep:
                keep(known, name, document, places)
            break

    def values(attribute: str) -> list[Any]:
        return [value for place in attributes.places.get(attribute, ()) for value in values_at(document, place, known)]

    def first(attribute: str, take: Any) -> Any:
        taken = (take(value) for value in values(attribute))
        return next((v for v in taken if v is not None), attributes.constants.get(attribute))

    def several(attribute: str, allowed: tuple[type, ...]) -> tuple[str, ...]:
        found: list[str] = []
        for place in attributes.places.get(attribute, ()):
            of_place = values_at(document, place, known)
            if not isinstance(place, tuple) or any(isinstance(step, ListStep) for step in place):
                of_place = [of_place] if attribute == "members" or isinstance(place, tuple) else of_place
            for value in of_place:
                if type(value) in allowed:
                    found += [i for e in (value if type(value) is list else [value]) if (i := an_id(e)) is not None]
        return tuple(dict.fromkeys(found)) or attributes.constants.get(attribute, ())

    stands_alone = "event_type" in attributes.constants and not attributes.places.get("event_type")
    own_type = next((v for v in values("event_type") if type(v) is str and v), None)
    named = None if stands_alone else named_type
    event_type = own_type or named or attributes.constants.get("event_type")
    if not event_type:
        return None, names
    is_request = matches(spec.requests, event_type)
    is_answer = matches(spec.answers, event_type) and not is_request
    kind = Kind(matches(spec.completions, event_type), is_request, is_answer, matches(spec.skip, event_type))
    expects = first("requests_response", a_flag)
    record = Record(
        event_type=event_type,
        kind=kind,
        timestamp=first("timestamp", timestamp_of),
        session_id=first("session_id", an_id),
        author=first("author", an_id),
        addressees=several("addressees", (str, int, list)),
        members=several("members", (list,)),
        correlation=first("correlation", an_id),
        pattern=first("pattern", an_id),
        conversation=first("conversation", an_id),
        new_role=first("new_role", an_id),
        has_team=first("team", an_id) is not None,
        is_broadcast=first("broadcast", a_flag) is True,
        requests_response=is_request if expects is None else expects,
        is_completed="completed" in values("status") or first("status", an_id) == "completed",
        is_time_unreadable=first("timestamp", timestamp_of) is None and any(v != "" for v in values("timestamp")),
    )
    return record, known


def keep(names: dict[str, str], name: str, document: dict[str, Any], places: tuple[Place, ...]) -> None:
    for place in places:
        for value in values_at(document, place, names):
            if (text := an_id(value)) is not None:
                names[name] = text
                return


def holds(condition: Condition, document: dict[str, Any], names: dict[str, str]) -> bool:
    value = next(iter(values_at(document, condition.place, names)), None)
    if condition.begins is not None:
        return type(value) is str and any(value.startswith(text) for text in condition.begins)
    if condition.values is None:
        return value is not None
    return any(type(value) is type(v) and value == v for v in condition.values)


def values_at(document: dict[str, Any], place: Place, names: dict[str, str]) -> list[Any]:
    """All values but null at a place."""
    if isinstance(place, Named):
        return [names[place.name]] if place.name in names else []
    if isinstance(place, Template):
        made: list[str] = [""]
        lists = 0
        for part in place.parts:
            of_part = [part] if isinstance(part, str) else [an_id(v) for v in values_at(document, part, names)]
            texts = [text for text in of_part if text is not None]
            leads_into_lists = isinstance(part, tuple) and any(isinstance(step, ListStep) for step in part)
            lists += leads_into_lists
            made = [
                before + text for before in made for text in (texts if leads_into_lists and lists == 1 else texts[:1])
            ]
        return made
    found: list[Any] = [document]
    for step in place:
        if isinstance(step, ListStep):
            elements = [element for value in found if type(value) is list for element in value]
            found = [element for element in elements if step.key is None or is_picked(element, step)]
        else:
            found = [value[step] for value in found if type(value) is dict and step in value]
    return [value for value in found if value is not None]


def is_picked(element: Any, step: ListStep) -> bool:
    value = element.get(step.key) if type(element) is dict else None
    return {True: "true", False: "false"}[value] == step.value if type(value) is bool else an_id(value) == step.value


def an_id(value: Any) -> str | None:
    if type(value) is int:
        return str(value)
    return value if type(value) is str and value else None


def a_flag(value: Any) -> bool | None:
    return value if type(value) is bool else None


def matches(patterns: tuple[str, ...], event_type: str) -> bool:
    return any(
        event_type.startswith(p) if p.endswith(":") else event_type.split(":")[-1] == p.strip(":")
        if p.startswith(":") else event_type == p
        for p in patterns
    )  # fmt: skip


# ---- formats of the package, and any other


def known_keys(format: Format) -> list[str]:
    paths = [path for place in format.spec.all_places for path in ([place] if isinstance(place, tuple) else [])]
    return sorted({key for path in paths for key in path if isinstance(key, str)})


@pytest.mark.parametrize("name", sorted(load_formats()))
@settings(deadline=None)
@given(data=st.data(), named_type=st.none() | st.text(max_size=3))
def test_extract_raises_on_no_document_and_agrees_with_a_plain_reading(
    name: str, data: st.DataObject, named_type: str | None
) -> None:
    format = load_formats()[name]
    conditions = [condition for shape in format.spec.shapes for condition in shape.conditions]
    types = {v for condition in conditions for v in condition.values or ()} | {"a:result", "completion:x"}
    document = data.draw(objects([*known_keys(format), "type", "response", "other"]))
    for key in data.draw(st.sets(st.sampled_from(["event", "event_name", "type"]))):
        document[key] = data.draw(st.sampled_from(sorted(types, key=str)))
    names: dict[str, str] = {}
    record = format.extract(document, named_type, names)
    assert (record, names) == plain(format.spec, document, named_type, {})


list_steps = st.builds(ListStep, st.sampled_from("abc"), st.sampled_from(["", "x", "1", "true"])) | st.just(ListStep())
steps = st.sampled_from("abc") | list_steps
paths = st.tuples(st.sampled_from("abc"), st.lists(steps, max_size=3)).map(lambda path: (path[0], *path[1]))
named = st.builds(Named, st.sampled_from(["part", "first", "latest", "nowhere"]))
template_parts = st.lists(st.just("text:") | paths | named, min_size=1, max_size=3).map(tuple)
places = paths | named | st.builds(Template, template_parts)
place_lists = st.lists(places, max_size=3).map(tuple)
lists = st.sampled_from(["addressees", "members"])
flags = st.sampled_from(["broadcast", "requests_response"])
texts = st.sampled_from(
    ["event_type", "session_id", "author", "correlation", "pattern", "conversation", "team", "new_role", "status"]
)


def attributes(taken_back: st.SearchStrategy[None]) -> st.SearchStrategy[Attributes]:
    return st.builds(
        lambda places, one, two, three: Attributes(places, {**one, **two, **three}),
        st.dictionaries(texts | lists | flags | st.just("timestamp"), place_lists),
        st.dictionaries(texts, st.sampled_from(["completed", "x"]) | taken_back, max_size=2),
        st.dictionaries(lists, st.just(("x", "y")) | taken_back, max_size=1),
        st.dictionaries(flags, st.booleans() | taken_back, max_size=1),
    )


def keeps(name: str) -> st.SearchStrategy[Keep]:
    return st.lists(st.tuples(st.just(name), place_lists), max_size=1).map(tuple)


values = st.text(max_size=4) | st.integers() | st.booleans() | st.none()
conditions = (
    st.builds(Condition, places, st.none() | st.lists(values).map(tuple))
    | st.builds(Condition, places, begins=st.lists(st.sampled_from(["", "x", "text:"]), max_size=2).map(tuple))
)  # fmt: skip
patterns = st.lists(st.sampled_from(["a", "a:", ":a", "x", ":request", "x:"]), max_size=3).map(tuple)
shapes = st.lists(
    st.builds(
        Shape, st.lists(conditions, min_size=1, max_size=3).map(tuple), attributes(st.none()), keeps("latest")
    ),
    max_size=3,
).map(tuple)  # fmt: skip
specs = st.builds(FormatSpec, attributes(st.nothing()), shapes, *[patterns] * 4, keeps("first"))
NAMES = {"part": "p", "latest": "earlier"}


@settings(deadline=None)
@given(specs, objects(["a", "b", "c"]))
@example(FormatSpec(Attributes({"event_type": (("a",),)}, {}), (), (), (), (), ()), {"a": "x"})
def test_any_format_agrees_with_a_plain_reading(spec: FormatSpec, document: dict[str, Any]) -> None:
    for named_type in (None, "x:request"):
        names = dict(NAMES)
        record = compile_spec("any", spec)(document, named_type, names)
        assert (record, names) == plain(spec, document, named_type, NAMES)


@given(scalars | st.text() | st.lists(scalars))
def test_a_moment_is_absent_or_in_range_and_never_raises(value: object) -> None:
    found = timestamp_of(value)
    assert found is None or 0 <= found < YEAR_10000
