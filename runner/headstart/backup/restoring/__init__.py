"""A backup becomes a database again.

What comes in: a backup, and a connection to another database of the server. What goes out: a new database beside the
live one, or in its place. `choose` finds the backup, `shape` reads the properties of the live one, `pg_restore` fills
the new one, and `exchange` gives it the live one's name.

Begin with `beside`; `commands/restore.py` has the steps in their order.
"""
