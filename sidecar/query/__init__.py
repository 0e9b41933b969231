"""Reading the index.

Here: `Index`, the read-only library, and the files that it opens. Not here: settings, the watcher, or anything that
writes; a program that imports this package loads none of them.
"""
