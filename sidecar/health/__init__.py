"""Whether all is well: `status`, `verify` and `doctor`, as values.

Not here: their tables and words for a terminal, which are in `cli`.
"""
