"""`sidecar demo`: simulated agents, and a board that shows what the index knows about them.

Not here: anything another package needs.
"""
