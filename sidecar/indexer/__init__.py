"""The index, written by one thread.

Here: rows and the offsets up to which a source was read, committed together. Everything that writes `catalog.db` and
`daily/*.db` goes through here. Not here: where lines come from, and which process holds the lock.
"""
