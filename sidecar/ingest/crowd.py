"""Requests that are addressed to very many agents, in little memory: a record may name as many as a line holds.

The names of a crowd are packed, because all that is asked later is whether somebody is among them. Who answers is
looked up in `Crowds`, at 12 bytes for each name of each open request, where a dictionary would take 300.
"""

from __future__ import annotations

import zlib
from collections.abc import Collection, Iterator, Mapping
from struct import Struct
from typing import Any

import orjson

MAX_LISTED = 32
"""Addressees up to which a request keeps them as a tuple."""
_MAX_PLAIN_BYTES = 1 << 28
"""Bytes up to which a crowd is unpacked. A record is not as long."""
_FULL_BYTES = 2048
"""Bytes of a bucket, on average, from which there are twice as many."""
_MAX_STARTS = 10_000
_MIN_GONE = 10_000
"""Names of closed requests up to which nothing is swept."""
_PAIR = Struct("<qI")
"""The hash of a name, and the number of a request."""
_STEP = _PAIR.size


class Crowd(Collection[str]):
    """The names of the addressees of one request, packed."""

    __slots__ = ("_count", "packed")

    def __init__(self, packed: bytes) -> None:
        """`packed` is from an earlier one. What it holds is not looked at here: `names` does."""
        self.packed = packed
        self._count = int.from_bytes(packed[:4], "big")

    @classmethod
    def of(cls, names: tuple[str, ...]) -> Crowd:
        """The crowd of these names."""
        return cls(len(names).to_bytes(4, "big") + zlib.compress(orjson.dumps(names), 1))

    @property
    def names(self) -> list[str]:
        """The names, in their order. Raises ValueError, TypeError or zlib.error for bytes from elsewhere."""
        names = orjson.loads(zlib.decompressobj().decompress(self.packed[4:], _MAX_PLAIN_BYTES))
        if names.__class__ is not list or len(names) != self._count or not {str}.issuperset(map(type, names)):
            raise TypeError("a crowd is not an array of so many strings")
        found: list[str] = names
        return found

    def __iter__(self) -> Iterator[str]:
        return iter(self.names)

    def __len__(self) -> int:
        return self._count

    def __contains__(self, name: object) -> bool:
        return name in self.names


class Crowds:
    """The open requests that are addressed to crowds, by addressee and oldest first.

    A hash table of fixed pairs: each bucket holds its pairs in the order in which they came, so the first that is found
    is the oldest. Hashes are those of this process, and differ in the next: they are never saved, and nobody who writes
    a log can choose names that have the same. (Two that have it by chance, one in 18 quintillion, would be one agent.)
    """

    def __init__(self, open_: Mapping[int, Any]) -> None:
        """`open_` are the open requests by byte offset, from which a request is removed before it is removed here."""
        self._open = open_
        self._buckets = [bytearray()]
        self._pairs = 0
        self._gone = 0
        """Pairs of requests that are no longer open."""
        self._keys: list[int] = []
        """The byte offset of each request, by its number."""
        self._starts: dict[int, int] = {}
        """For hashes that were looked up, where in its bucket an open request comes first."""

    def add(self, key: int, names: Collection[str]) -> None:
        """Add the open request with the byte offset `key`, which is behind all before."""
        count = len(self._buckets)
        while (self._pairs + len(names)) * _STEP > count * _FULL_BYTES:
            count *= 4
        if count > len(self._buckets):
            self._spread(count)
        number = len(self._keys)
        self._keys.append(key)
        self._pairs += len(names)
        buckets, last, pack = self._buckets, len(self._buckets) - 1, _PAIR.pack
        for name in names:
            hashed = hash(name)
            buckets[hashed & last] += pack(hashed, number)

    def remove(self, names: Collection[str]) -> None:
        """Note that one request, with so many names, is no longer open."""
        self._gone += len(names)
        if self._gone > self._pairs // 2 + _MIN_GONE:
            self._spread(len(self._buckets))

    def first(self, name: str) -> int | None:
        """The byte offset of the oldest open request that is addressed to `name`; None if there is none."""
        hashed = hash(name)
        bucket = self._buckets[hashed & (len(self._buckets) - 1)]
        wanted = _PAIR.pack(hashed, 0)[:8]
        at = self._starts.get(hashed, 0)
        found = None
        while (at := bucket.find(wanted, at)) >= 0:
            if at % _STEP:
                at += 1
                continue
            key = self._keys[_PAIR.unpack_from(bucket, at)[1]]
            if key in self._open:
                found = key
                break
            at += _STEP
        if len(self._starts) >= _MAX_STARTS:
            self._starts.clear()
        self._starts[hashed] = at if at >= 0 else len(bucket)
        return found

    def _spread(self, count: int) -> None:
        """Put the pairs of open requests into so many buckets, a power of two."""
        old, keys, open_ = self._buckets, self._keys, self._open
        is_open = [key in open_ for key in keys]
        number_of = {}
        self._keys = []
        for number, key in enumerate(keys):
            if is_open[number]:
                number_of[number] = len(self._keys)
                self._keys.append(key)
        buckets = self._buckets = [bytearray() for _ in range(count)]
        self._pairs = 0
        for position, bucket in enumerate(old):
            old[position] = bytearray()
            for hashed, number in _PAIR.iter_unpack(bucket):
                if is_open[number]:
                    buckets[hashed & (count - 1)] += _PAIR.pack(hashed, number_of[number])
                    self._pairs += 1
        self._gone = 0
        self._starts.clear()
