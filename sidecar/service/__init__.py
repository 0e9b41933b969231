"""One sidecar on one root.

Here: the lock, the loop, what is repaired at a start, the status file of the running process and the requests other
commands hand to it. Not here: how a line becomes a row, or what a person sees.
"""
