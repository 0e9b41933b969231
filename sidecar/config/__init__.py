"""Settings, and the formats that say where in a record each attribute is.

Here: frozen settings from `config.yaml` and the command line, YAML parsed with file and line for every error, and
formats compiled into plain functions. Not here: anything that opens a log or an index.
"""
