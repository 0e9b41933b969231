"""The day filters: one Bloom filter per day, in the catalog, tells without opening the day's file that a string is
certainly not on that day.

A filter holds every string of a day that a query can name: agents, sessions, conversations, correlations, event types,
patterns, and stems of log files. For a string that is not there it wrongly says "maybe" about once in 1,500 times; for
one that is there it never says no. It takes two bytes per string, where a set of 64-bit hashes takes eight, and one of
32-bit hashes, which is wrong less often, four.

A filter is divided into blocks, and all bits of a string are in the same block, so that a query reads one row per day.
It is written here, in forty lines, because no library at hand keeps its bits in blocks or in rows of a database.
"""

from __future__ import annotations

from collections.abc import Iterable
from hashlib import blake2b
from typing import NamedTuple

BLOCK_BYTES = 512

KEYS_PER_BLOCK = 256
"""Strings per block on average, which makes 16 bits per string."""

PROBES = 8
"""Bits that are set for a string."""

PENDING = "\0pending"
"""Added to the filter of a day on which a request waits for its answer; no name of an ordinary log."""


class FilterProbe(NamedTuple):
    """The place of a string in a filter."""

    number: int
    """Modulo the number of blocks, this is the index of the block."""
    bits: tuple[tuple[int, int], ...]
    """The string's bits in the block, each as the index of its byte and a mask."""

    def hits(self, block: bytes) -> bool:
        """Whether all bits are set in the block, so that the string may be on the day."""
        return all(block[byte] & mask for byte, mask in self.bits)


def probe(text: str) -> FilterProbe:
    """The place of a string in any filter."""
    digest = blake2b(text.encode("utf-8", "surrogatepass"), digest_size=20).digest()
    rest = int.from_bytes(digest[8:], "big")
    places = [(rest >> 12 * turn) & 0xFFF for turn in range(PROBES)]
    number = int.from_bytes(digest[:8], "big") >> 1  # 63 bits, because SQLite's integers are signed
    return FilterProbe(number, tuple((place >> 3, 1 << (place & 7)) for place in places))


def build_filter(texts: Iterable[str]) -> list[bytes]:
    """The blocks of a filter that holds these strings: at least one, of `BLOCK_BYTES` each."""
    probes = [probe(text) for text in set(texts)]
    blocks = [bytearray(BLOCK_BYTES) for _ in range(max(1, -(-len(probes) // KEYS_PER_BLOCK)))]
    for number, bits in probes:
        block = blocks[number % len(blocks)]
        for byte, mask in bits:
            block[byte] |= mask
    return [bytes(block) for block in blocks]
