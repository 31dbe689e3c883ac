"""A workbench on a scratch database: whatever URL env.py has of its own, its engines are led there and nowhere else."""

from __future__ import annotations

from typing import Any

from headstart.alembic_bridge.workbench import Workbench

_LIBPQ = frozenset({"psycopg2", "psycopg2cffi", "psycopg", "psycopg_async"})


class Sandbox(Workbench):
    """Lends a scratch database's connection to every engine that env.py makes.

    An engine with a `creator` of its own gets past this, and is then refused like one that reaches another database.
    """

    def _on_connect(self, dialect: Any, record: object, args: Any, params: dict[str, Any]) -> None:  # noqa: ANN401
        super()._on_connect(dialect, record, args, params)
        if dialect.name != "postgresql" or dialect.driver == "asyncpg":
            return
        host, port = self.dsn.hosts[0]
        password = self.dsn.password.reveal() if self.dsn.password is not None else None
        named = "dbname" if dialect.driver in _LIBPQ else "database"
        args.clear()
        params.clear()
        params.update({"host": host, "port": port, "user": self.dsn.user, named: self.dsn.database})
        params.update({"password": password} if password is not None else {})

    async def _means_us(self, wanted: dict[str, Any]) -> bool:
        del wanted
        return True
