"""The command `sidecar`.

Here: arguments and options, calls of the library, and the results as tables or JSON. `app.py` has the command group,
the other modules the commands; modules named `*_views.py` print for people. Not here: what the commands do.
"""

from .app import cli as cli
from .app import main as main
