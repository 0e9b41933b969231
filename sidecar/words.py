"""What was said in a record: the text in it that a person would read."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

# A record's own words stand at the top or in `data`; an answer often wraps those of the model once more.
_WRAPPERS = ("data", "response", "result", "message")
_TEXTS = ("prompt", "response", "content", "message", "text", "result", "summary", "error")
_DEEPEST = 4


def words(record: Mapping[str, Any]) -> str:
    """The text of a record; where it has none, its data as compact JSON."""
    return _find(record, 0) or json.dumps(record.get("data", record), ensure_ascii=False)


def _find(value: Mapping[str, Any], depth: int) -> str | None:
    inner = [value[key] for key in _WRAPPERS if isinstance(value.get(key), dict)]
    if depth == 0 and isinstance(value.get("data"), dict):
        inner, value = [value["data"]], value["data"]
        inner = [value[key] for key in _WRAPPERS if isinstance(value.get(key), dict)]
    for key in _TEXTS:
        text = value.get(key)
        if isinstance(text, str) and text.strip():
            return text
    if depth < _DEEPEST:
        for one in inner:
            text = _find(one, depth + 1)
            if text:
                return text
    return None
