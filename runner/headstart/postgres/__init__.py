"""One Postgres server: reach it, know it, lock it, read its catalog. Nothing here knows Alembic.

`readiness` waits for the server and gives a session; `server` has what is asked and set on a session; `connection` is
asyncpg's connection, which also takes whole scripts; `lock` is the migration lock; `activity` sees other sessions;
`version_table` reads Alembic's table safely; `scratch` makes databases that are thrown away, `embedded` whole servers;
`engine` is SQLAlchemy's, for services.

Begin with `readiness`.
"""
