"""The day filters: one Bloom filter per day, kept in the catalog, from which a query learns without opening the day's
file that a string certainly does not occur on that day.

A filter covers every string of a day that a query can name: agents, sessions, conversations, correlations, event types,
patterns, and stems of log files. A string that does not occur is wrongly reported as possible about once in 1,500
times; one that occurs is always reported. A filter takes two bytes per string. A set of 64-bit hashes would take eight,
and one of 32-bit hashes, which errs less often, four.

A filter is divided into blocks, and all bits of a string are in the same block, so that a query reads one row per day.
It is implemented here because no library that was found keeps its bits in blocks, or in rows of a database.
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
"""A string that no ordinary log contains. It is in the filter of each day on which a request waits for its answer."""


class FilterProbe(NamedTuple):
    """The bits of a string in a filter."""

    number: int
    """Modulo the number of blocks, the index of the string's block."""
    bits: tuple[tuple[int, int], ...]
    """The string's bits in the block, each as the index of its byte and a mask."""

    def hits(self, block: bytes) -> bool:
        """Whether all bits are set in the block, so that the string may occur on the day."""
        return all(block[byte] & mask for byte, mask in self.bits)


def probe(text: str) -> FilterProbe:
    """The bits of a string, which are the same in every filter."""
    digest = blake2b(text.encode("utf-8", "surrogatepass"), digest_size=20).digest()
    rest = int.from_bytes(digest[8:], "big")
    bits = [(rest >> 12 * turn) & 0xFFF for turn in range(PROBES)]
    # 63 bits, because SQLite's integers are signed.
    number = int.from_bytes(digest[:8], "big") >> 1
    return FilterProbe(number, tuple((bit >> 3, 1 << (bit & 7)) for bit in bits))


def build_filter(texts: Iterable[str]) -> list[bytes]:
    """The blocks of a filter for these strings: at least one, of `BLOCK_BYTES` each."""
    probes = [probe(text) for text in set(texts)]
    blocks = [bytearray(BLOCK_BYTES) for _ in range(max(1, -(-len(probes) // KEYS_PER_BLOCK)))]
    for number, bits in probes:
        block = blocks[number % len(blocks)]
        for byte, mask in bits:
            block[byte] |= mask
    return [bytes(block) for block in blocks]
