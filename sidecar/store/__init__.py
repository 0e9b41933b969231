"""What an index is on disk.

Here: the tables of both databases, how a connection is opened and checked, where files lie and how a rebuilt index
takes the place of the old one, and how values are packed. Not here: what is written when, or what is asked.
"""
