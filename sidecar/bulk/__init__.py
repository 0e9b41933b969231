"""Many sources at once, by several processes.

Here: the worker processes, the rebuild of a whole index, and the first reading of very many new files. Not here: the
law (`ingest`) and the final write (`indexer`), which are the same for one line and for a million.
"""
