"""The daemon's files, which are read and never written.

Here: finding them (scan, watch), reading what was appended (tail), and reading one record by its pointer, in a log or
in the archive. Not here: what a record means, and anything of the index.
"""
