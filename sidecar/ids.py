"""Ids and names that are very long: what stands for them in the index and in its answers."""

from __future__ import annotations

from hashlib import blake2b

MAX_ID_CHARACTERS = 1024
"""The largest length of an id or name, in characters. Of a longer one the index keeps the beginning and a digest, so
that neither the index nor an answer grows with it."""
_KEPT_CHARACTERS = 64


def bounded_id(text: str) -> str:
    """An id or name as the index has it: itself, or what replaces it if it has more than MAX_ID_CHARACTERS."""
    return text if len(text) <= MAX_ID_CHARACTERS else short_id(text)


def short_id(text: str) -> str:
    """What replaces an id of more than MAX_ID_CHARACTERS: its first 64 characters, an ellipsis, and 32 hexadecimal
    digits of BLAKE2b over its UTF-8 bytes."""
    digest = blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()
    return f"{text[:_KEPT_CHARACTERS]}…{digest}"
