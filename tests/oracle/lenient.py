"""JSON as the law reads it: strictly, and once more leniently what the strict reading refuses."""

from __future__ import annotations

import math
import re
from typing import Any

import orjson

NOT_JSON = object()

# A string that nothing ends is one as well, or each of its quotes would be tried. Outside of strings nothing but
# numbers is looked at: what is no JSON there stays none.
_TOKEN = re.compile(
    r'"(?:[^"\\]++|\\.)*+(?:"|\\?\Z)'
    r"|NaN|-?Infinity"
    r"|-?(?:0|[1-9][0-9]*+)(?:\.[0-9]++)?+(?:[eE][+-]?[0-9]++)?+",
    re.DOTALL,
)
_IN_STRING = re.compile(
    r"(?P<pair>\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2})"
    r"|(?P<lone>\\u[dD][89a-fA-F][0-9a-fA-F]{2})"
    r"|(?P<escape>\\.)"
    r"|(?P<control>[\x00-\x1f])",
    re.DOTALL,
)


def parsed(text: bytes, *, lenient: bool) -> tuple[Any, bool]:
    """The value, and whether only the lenient reading gave it; `NOT_JSON` where neither does."""
    try:
        return orjson.loads(text), False
    except orjson.JSONDecodeError:
        if not lenient:
            return NOT_JSON, False
    try:
        return orjson.loads(mended(text)), True
    except orjson.JSONDecodeError:
        return NOT_JSON, False


def mended(text: bytes) -> str:
    """The same in strict JSON, as far as the law forgives."""
    return _TOKEN.sub(_mended_token, text.decode(errors="replace"))


def _mended_token(token: re.Match[str]) -> str:
    whole = token[0]
    if whole.startswith('"'):
        return _IN_STRING.sub(_mended_character, whole)
    if whole.endswith(("NaN", "Infinity")) or not math.isfinite(float(whole)):
        return "null"
    return whole


def _mended_character(found: re.Match[str]) -> str:
    if found["lone"]:
        return "\ufffd"
    if found["control"]:
        return f"\\u{ord(found[0]):04x}"
    return found[0]
