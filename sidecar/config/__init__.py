"""Settings, and the formats that say where in a record each attribute is.

Here: frozen settings from `config.yaml` and the command line, YAML values that know their file and line for error
messages, and formats, compiled to plain functions. Not here: anything that opens a log or an index.
"""
