"""The command `sidecar`: `app.py` holds the command group; the other modules hold the commands."""

from .app import cli as cli
from .app import main as main
