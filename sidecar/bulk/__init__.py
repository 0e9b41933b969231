"""Many sources at once, read by several processes.

Here: the worker pool, the rebuild of a whole index, and the first reading of very many new files. Not here: what a line
means (`ingest`) and how rows are written (`indexer`), which are the same for one line and for a million.
"""
