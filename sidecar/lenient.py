"""Read JSON leniently if it is not strict JSON in UTF-8 (`docs/derivation.md`, section 2).

Bytes that are not UTF-8 and lone surrogates become U+FFFD, control characters in strings stand for themselves, and
`NaN`, the infinities and numbers too large for a float become null. The text is repaired like that and then parsed
strictly, so that everything else, such as numbers, repeated keys and the limit on nesting, is the same as in strict
JSON.
"""

from __future__ import annotations

import re
from math import isinf
from typing import Any

import orjson

# The search takes linear time, whatever the text: every repetition is possessive, and no token begins inside another.
# For the same reason, a string that does not end extends to the end of the text. All tokens begin with the same class
# of characters, so that the engine skips all others at once, and strings that need no repair are taken many at a time.
_TOKEN = re.compile(
    r"""
    ["NI0-9-] (?:
      (?<=") [^"\\\x00-\x1f]*+ " (?:[^"NI0-9-]*+ " [^"\\\x00-\x1f]*+ ")*+           # plain strings
    | (?<=") (?P<string> [^"\\]*+ (?:\\.[^"\\]*+)*+ (?:"|\\?\Z) )                   # any other string
    | (?P<constant> (?<=N)aN | (?<=I)nfinity | (?<=-)Infinity )
    | (?<=[0-9-]) (?<![0-9.].) (?P<number>
        [0-9]*+ (?:\.[0-9]++)?+ [eE]\+?[0-9]{3,}+                                     # with a large exponent
      | [0-9]{200,}+ (?:\.[0-9]++)?+ (?:[eE][+-]?[0-9]++)?+                           # with very many digits
      )
    )
    """,
    re.VERBOSE | re.DOTALL,
)
_SURROGATE_ESCAPE = re.compile(
    r"""
      \\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}                    # a pair of surrogates
    | \\u[dD][89a-fA-F][0-9a-fA-F]{2}                                              # one alone
    | \\.                                                                          # any other escape
    """,
    re.VERBOSE | re.DOTALL,
)
_MAY_BE_SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")
LONE_SURROGATE = re.compile("[\ud800-\udfff]")
"""Half of a character of UTF-16, in a Python string. What was read leniently has U+FFFD instead."""
_ESCAPED_CONTROL = re.compile(r"(?<!\\)(?:\\\\)*+\\[\x00-\x1f]")
_CONTROLS = {code: f"\\u{code:04x}" for code in range(32)}
_REPLACEMENT = "\\ufffd"


def read_document(data: bytes) -> Any:
    """The JSON document in some bytes, read strictly, or else leniently. Raises ValueError if there is none."""
    try:
        return orjson.loads(data)
    except orjson.JSONDecodeError:
        return read_leniently(data)


def read_leniently(data: bytes) -> Any:
    """The JSON document in some bytes, read leniently. Raises ValueError if there is none.

    >>> read_leniently(b'{"score": NaN, "text": "\\\\ud83d"}')
    {'score': None, 'text': '\ufffd'}
    """
    return orjson.loads(_TOKEN.sub(_repaired, data.decode(errors="replace")))


def _repaired(token: re.Match[str]) -> str:
    text = token[0]
    match token.lastgroup:
        case "string":
            return _repaired_string(text)
        case "constant":
            return "null"
        case "number" if _begins_as_number(text) and isinf(float(text)):
            return "null"
    return text


def _repaired_string(text: str) -> str:
    if _MAY_BE_SURROGATE.search(text):
        text = _SURROGATE_ESCAPE.sub(_repaired_escape, text)
    # A backslash and a control character are not an escape sequence, so they stay, and the parser refuses them.
    return text if _ESCAPED_CONTROL.search(text) else text.translate(_CONTROLS)


def _repaired_escape(escape: re.Match[str]) -> str:
    return _REPLACEMENT if len(escape[0]) == 6 else escape[0]


def _begins_as_number(text: str) -> bool:
    """Whether a token is a JSON number, which has digits, and no zero before other digits."""
    digits = text.removeprefix("-")
    return digits[0].isdigit() and (digits[0] != "0" or not digits[1].isdigit())
