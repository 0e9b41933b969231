"""The index for agents: ten read-only tools over the Model Context Protocol (extra `mcp`, the official package).

Here: what the tools return (`answers.py`), how they find it (`tools.py`), and the server (`server.py`). Every answer is
bounded. Not here: definitions, and anything that writes.
"""
