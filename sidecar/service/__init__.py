"""One sidecar on one root.

Here: the lock, the loop, repair at the start, the status file of the running process, and the requests that
`sidecar archive` sends to it. Not here: how a line becomes a row, and what people see.
"""
