"""The index, written by one thread.

Here: rows into the daily files, then offsets and source states into the catalog, in an order that survives a kill at
any point. Everything that writes to `catalog.db` and `daily/*.db` goes through here. Not here: where lines come from,
and which process holds the lock.
"""
