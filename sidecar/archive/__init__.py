"""`sidecar archive`: compress old logs, delete expired archives, compact old days of the index.

This is the only package that deletes a log. Not here: the format of archives and reading them (`logs`), and recording
in the index what is archived (`indexer`).
"""
