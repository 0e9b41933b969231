"""The format of an index on disk.

Here: the tables of both databases, how a connection is opened and checked, where files lie and how a rebuilt index
takes the place of the old one, and how values are encoded. Not here: what is written when (`indexer`), and queries
(`query`).
"""
