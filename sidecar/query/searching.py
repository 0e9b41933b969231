"""`Index.search`: the arguments of a search become a filter and what is looked for."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice

from sidecar.search.hit import Hit
from sidecar.search.wanted import Expression, Wanted, Words
from sidecar.times import Time

from .arguments import checked_count, checked_limit
from .filters import Filter
from .record_finder import RecordFinder
from .search import Search, Unreadable
from .snapshot import Snapshot


class SearchQueries:
    """Search in the logs, as `Index` has it."""

    _files: Snapshot
    _records: RecordFinder

    def search(
        self,
        text: str,
        since: Time | None = None,
        until: Time | None = None,
        agent: str | None = None,
        session: str | None = None,
        event_type: str | None = None,
        pattern: str | None = None,
        conversation: str | None = None,
        correlation: str | None = None,
        limit: int | None = None,
        *,
        regex: bool = False,
        context: int = 60,
        unreadable: Unreadable | None = None,
    ) -> Iterator[Hit]:
        """Entries whose records have a text, the latest first: in a string value of the decoded record, at any depth,
        whatever its case. The logs and the archive are read for that; no text is in the index.

            >>> [hit.place for hit in index.search("NLP", agent="agent_researcher", limit=1)]
            ['data.response']

        Args:
            text: What to look for; its case is folded, by the rules of Unicode.
            regex: Whether `text` is a regular expression in Python's syntax, which ignores case.
            context: How many characters before and after the match a hit has.
            unreadable: Called with the first SourceError of each log of which a record cannot be read. Without it,
                the error is raised.

        The other arguments are those of `timeline`. Raises BadTime, BadArgument, BadSearch, and the errors of
        `read_bytes`.
        """
        asked = Filter.of(since, until, agent, session, event_type, pattern, conversation, correlation)
        wanted = Expression(text) if regex else Words(text)
        hits = self._hits(asked, wanted, checked_count(context, "context"), unreadable)
        return islice(hits, checked_limit(limit))

    def _hits(self, asked: Filter, wanted: Wanted, context: int, unreadable: Unreadable | None) -> Iterator[Hit]:
        return Search(self._files, self._records, asked, wanted, context, unreadable).hits()
