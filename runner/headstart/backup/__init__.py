"""The backup before a migration: pg_dump, verified, published by one rename. Off the no-op path.

What comes in: a connection that holds the migration lock, and a folder. What goes out: a `Backup`, a folder with the
dump and its manifest, or an error; an incomplete backup never gets a backup's name. `clients` finds pg_dump, `dump`
runs it, `folder` and `manifest` hold the result, `verify` reads it again, `retention` deletes what is not to be kept,
and `restoring` has the way back.

Begin with `take`.
"""

from headstart.backup.folder import list_backups
from headstart.backup.manifest import Backup
from headstart.backup.take import Request, take

__all__ = ["Backup", "Request", "list_backups", "take"]
