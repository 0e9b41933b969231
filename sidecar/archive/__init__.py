"""`sidecar archive`: whole days of logs packed, and old archives deleted.

The only package that moves or deletes a log. Not here: reading an archive (`logs`), and the index's own bookkeeping
(`indexer`).
"""
