"""The format of an index on disk.

Here: the tables of both kinds of database, how a connection is opened and checked, where the files are and how a
rebuilt index takes the place of the old one, and how values are encoded. Not here: what is written and when
(`indexer`), and queries (`query`).
"""
