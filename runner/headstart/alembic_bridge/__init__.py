"""The only importer of Alembic: drives any project's env.py, and hooks each revision and statement.

Imported when something is pending, or when the fast reading of the history finds something unusual; never by a no-op.

    scripts      a project's configuration and revision files; what is recorded
    environment  runs env.py on our loop
    workbench    gives its engines our connection, or proves theirs
    steps        hands the steps to Alembic, and watches them
    heads        Alembic's account of the heads: the version table's UPDATE
    migrate      runs them, retries, explains
    verbs        Alembic's own commands
"""
