"""Alembic runs as Alembic runs: in a process of its own, which the supervisor starts, hears and ends.

`tasks` is what the supervisor asks for, `messages` what it is answered: all that the two sides share. On the
supervisor's side `supervise` starts the worker and has it fork, and `process` has one task after the other done by a
`fork`. Everything else here is the worker's own, and is imported there alone: `child` forks, `serve` does what a fork
is asked for and reports through its `port`, `dialect` leads env.py's engines to our database, `sessions` proves their
connections, `statements` reports what they execute, `migration` hands the revisions to Alembic, `recording` writes
the ledger.

Begin with `tasks`.
"""
