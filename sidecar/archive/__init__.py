"""`sidecar archive`: compress old logs, delete expired archives, compact old days of the index.

The only package that deletes a log. Not here: the format of an archive and reading one (`logs`), and recording in the
index what is archived (`indexer`).
"""
