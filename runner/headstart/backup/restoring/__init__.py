"""A backup becomes a database again. `commands.restore` walks through the rooms here.

`choose` (which backup is meant), `room` (whether it fits), `beside` (the new database: its name, its beginning, its
proof, its end), `shape` (what it has besides its content), `pg_restore` (how that is run, and what its failures mean),
`exchange` (the new one takes the live one's name).
"""
