"""The board: a live picture of what the agents do, for `sidecar top` and for the demo.

Here: what is summed up for it, the picture, and the loop that keeps it up to date. Not here: the demo's agents and
processes. Everything on it is read through `Index`.
"""
