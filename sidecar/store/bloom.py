"""Whether anything of a name is on a day, told without opening the day's file: a Bloom filter a day, in the catalog.

A filter holds every string of a day that a question can name: agents, sessions, conversations, correlations, event
types, patterns, names of log files. It may say yes to a name that is not there, once in some 1,500 times; it never says
no to one that is. Two bytes a string; an exact set of 64-bit hashes takes eight, and one of 32 bits, which is wrong
less often, four.

It is cut into blocks, and all bits of a string lie in one of them: a question reads one row a day. Forty lines here
instead of a library: none of those at hand keeps its bits in rows of a database, or in blocks.
"""

from __future__ import annotations

from collections.abc import Iterable
from hashlib import blake2b
from typing import NamedTuple

BLOCK_BITS = 512
"""Bytes of a block."""

KEYS_PER_BLOCK = 256
"""Sixteen bits a string."""

PROBES = 8

PENDING = "\0pending"
"""A string that no log holds: on days on which a request waits for its answer."""


class FilterProbe(NamedTuple):
    """Where a filter has to be looked at for a string."""

    number: int
    """Modulo the number of blocks: which block."""
    bits: tuple[tuple[int, int], ...]
    """Byte in the block, and bit in it."""

    def hits(self, block: bytes) -> bool:
        """Whether the string may be there."""
        return all(block[byte] & bit for byte, bit in self.bits)


def probe(text: str) -> FilterProbe:
    """Where to look for a string."""
    digest = blake2b(text.encode("utf-8", "surrogatepass"), digest_size=20).digest()
    rest = int.from_bytes(digest[8:], "big")
    places = [(rest >> 12 * turn) & 0xFFF for turn in range(PROBES)]
    number = int.from_bytes(digest[:8], "big") >> 1  # SQLite's integers have a sign
    return FilterProbe(number, tuple((place >> 3, 1 << (place & 7)) for place in places))


def build_filter(texts: Iterable[str]) -> list[bytes]:
    """The blocks of a filter that holds these strings."""
    probes = [probe(text) for text in set(texts)]
    blocks = [bytearray(BLOCK_BITS) for _ in range(max(1, -(-len(probes) // KEYS_PER_BLOCK)))]
    for number, bits in probes:
        block = blocks[number % len(blocks)]
        for byte, bit in bits:
            block[byte] |= bit
    return [bytes(block) for block in blocks]
