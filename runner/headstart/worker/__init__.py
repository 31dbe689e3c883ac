"""Alembic runs as Alembic runs: in a process of its own, which the supervisor starts, hears and ends.

`supervise` is the supervisor's side: it starts the worker, has it fork for each task, and reads what the fork reports.
`messages` is all that the two sides share. Everything else here is the worker's own, and is imported there alone:
`child` forks, `tasks` does what a fork was asked for and reports through its `port`, `dialect` leads env.py's engines
to our database, `sessions` proves their connections, `statements` reports what they execute, `migration` hands the
revisions to Alembic, `recording` writes the ledger.

Begin with `messages`.
"""
