"""Checks of the index and of its surroundings: `status`, `verify` and `doctor`, as values.

Not here: how they are printed, which is in `cli`.
"""
