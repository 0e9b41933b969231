"""`sidecar demo`: agents that talk, and a board that shows what the index knows of it.

Not here: anything another package needs.
"""
