"""The command `sidecar`: `app.py` is the group, each other module some commands."""

from .app import cli as cli
from .app import main as main
