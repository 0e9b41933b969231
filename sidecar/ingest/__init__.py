"""From lines to rows: parse, derive, link.

Here: the law of derivation as pure functions, the state of a source, and one read of it that yields rows. Not here: a
clock, a database, or a thread. The same bytes give the same rows, whoever calls.
"""
