"""Many sources at once, read by several processes.

Here: the worker pool, the rebuild of a whole index, and the backlog of very many new files. Not here: what a line means
(`ingest`) and how rows are written (`indexer`), which is the same for one line and for a million.
"""
