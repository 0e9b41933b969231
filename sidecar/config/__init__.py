"""Settings, and the formats that say where in a record each attribute stands.

Here: `config.yaml` and the command line turned into frozen settings, YAML read with file and line for every error,
formats compiled into plain functions. Not here: anything that opens a log or an index.
"""
