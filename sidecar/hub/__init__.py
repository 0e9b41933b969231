"""The index of many machines in one PostgreSQL: each node's rows are pushed there, and read from there.

Here lives: the schema of the hub, the push of a node's index (which is only read), the proof that both are equal, the
care of a hub (status, retention), and the questions that a hub answers. The extra `hub` brings the driver.
Not here: how rows are derived, and anything that writes to an index or a log, but for the claim of a node
(`claim.py`). Nothing else in the package imports the driver. docs/hub.md tells how it is used, and what a kill leaves.
"""
