"""One sidecar on one root.

Here: the lock, the loop, repair at the start, the status file of the running process, and the requests that other
commands send to it. Not here: how a line becomes a row, or what a person sees.
"""
