"""The daemon's files, which are read and never written.

Here: finding them (scanner, watcher), reading the lines appended to them (tail), and reading one record by its pointer,
in a log or in the archive. Not here: the meaning of a record, and the index.
"""
