"""The index for other programs, as files: Parquet, JSON Lines and CSV of entries, OpenTelemetry spans of requests.

A file a day, whole or not at all (`whole_file.py`), written again only if the day has changed (`days.py`). Here: what
is in such files. Not here: what entries are, and anything about logs. pyarrow (extra `arrow`) is needed for Parquet.
"""
