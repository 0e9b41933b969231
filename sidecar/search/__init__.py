"""Search in what records say: folding of case, what is looked for, the scan of logs for candidates, and hits.

Here: rules about bytes and texts, and the scan of one log. Not here: which entries are searched, and in what order
(`query/search.py`), and how the bytes of a log are read (`logs/record_reader.py`). Nothing of a log is stored.
"""
