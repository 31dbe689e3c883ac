"""Throw-away Postgres servers, for demos, tests and benchmarks.

    with Embedded.start(installations()[0]) as server:
        print(server.url())

Nothing is left behind, however the program ends: a small shell waits at the far end of a pipe that only this process
holds. When the pipe breaks (an exit, SIGTERM, SIGKILL, a crash), the shell ends the server and removes its folder.
Handlers and `atexit` would miss the hard ends, and Linux' parent-death signal is Linux' alone.

Begin with `server`; `installation` finds the programs.
"""

from headstart.postgres.embedded.installation import EmbeddedServerError, Installation, installations
from headstart.postgres.embedded.server import Embedded

__all__ = ["Embedded", "EmbeddedServerError", "Installation", "installations"]
