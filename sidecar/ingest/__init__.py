"""From lines to rows: parse, derive, link.

Here: the law of derivation (`docs/derivation.md`) as pure functions, the state of a source, and `read_next`, which
reads a chunk of a source and returns its rows. Not here: clocks, databases and threads. The same bytes always yield the
same rows, whoever asks for them.
"""
