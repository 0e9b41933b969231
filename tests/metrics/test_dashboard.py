"""The Grafana dashboard in the documentation asks for what a sidecar gives."""

from __future__ import annotations

import json
import re
from itertools import combinations
from pathlib import Path
from typing import Any

from .test_metrics import LABELS

OF_PROMETHEUS = {"instance", "job"}
"""Labels that Prometheus adds."""


def dashboard() -> dict[str, Any]:
    found: dict[str, Any] = json.loads((Path(__file__).parents[2] / "docs/grafana.json").read_text())
    return found


def targets() -> list[tuple[str, str]]:
    """Each expression, and how its series are named."""
    return [(one["expr"], one["legendFormat"]) for panel in dashboard()["panels"] for one in panel["targets"]]


def test_every_expression_asks_for_a_metric_that_there_is_by_labels_that_it_has() -> None:
    for expression, legend in targets():
        (name, *others) = set(re.findall(r"\bsidecar_\w+", expression))
        for one in (name, *others):
            assert one in LABELS, expression
        labels = {
            *re.findall(r"{{(\w+)}}", legend),
            *re.findall(r"[{,](\w+)(?:=~|!~|!=|=)", expression),
            *(label for group in re.findall(r"\bby \((.*?)\)", expression) for label in group.split(", ")),
        }
        assert "instance" in labels and labels <= LABELS[name] | OF_PROMETHEUS, expression
        assert expression.count("(") == expression.count(")"), expression


def test_every_metric_is_shown() -> None:
    shown = {name for expression, _ in targets() for name in re.findall(r"\bsidecar_\w+", expression)}
    assert shown == set(LABELS)


def test_panels_have_their_own_numbers_and_places_and_the_data_source_that_is_chosen() -> None:
    panels = dashboard()["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    for panel in panels:
        assert panel["datasource"]["uid"] == "${datasource}"
        assert panel["gridPos"]["x"] + panel["gridPos"]["w"] <= 24
    for one, two in combinations([panel["gridPos"] for panel in panels], 2):
        beside = one["x"] + one["w"] <= two["x"] or two["x"] + two["w"] <= one["x"]
        below = one["y"] + one["h"] <= two["y"] or two["y"] + two["h"] <= one["y"]
        assert beside or below, (one, two)
    names = {variable["name"] for variable in dashboard()["templating"]["list"]}
    used = set(re.findall(r"\$\{?(\w+)", json.dumps(panels)))
    assert {name for name in used if not name.startswith("__")} == names
