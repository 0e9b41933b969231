"""The daemon's files, which are read and never written.

Here: finding them (scanner, watcher), reading the lines that are appended to them (tail), and reading one record by its
pointer, from a log or from the archive. Not here: what a record means, and the index.
"""
