"""The index, read.

Here: `Index`, the read-only library, and what it opens. Not here: settings, the watcher, or anything that writes; a
program that imports this loads none of them.
"""
