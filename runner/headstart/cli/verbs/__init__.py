"""A module for each verb: from the command line to the use case, and from what that found to stdout.

What comes in: a command line that has been read, and a `Run`. What goes out: text or JSON on stdout. `job` does what
the verb is for. `add` adds its own options, `needs_database` says whether it needs one: if a module has none, there
are no options, and a database is needed. Alembic's verbs share `alembic`.

Begin with `status`.
"""
