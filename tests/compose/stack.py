"""A compose project of a test's own: a copy of the files, a name and a port that nobody else has."""

from __future__ import annotations

import json
import re
import shutil
from typing import TYPE_CHECKING, Any

from compose.conftest import ROOT, Answer, request
from support.engine import PASSWORD, Done

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from support.engine import Engine

BROKEN = '''"""Add a note to signals, and then something that cannot be."""

from alembic import op

revision = "20990101_000000000"
down_revision = "{down}"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("alter table signals add column note text")
    op.execute("alter table no_such_table add column note text")


def downgrade() -> None:
    op.execute("alter table signals drop column note")
'''


class Stack:
    """`docker compose` in a copy of the repository's compose/, migrations/ and alembic.ini.

    Args:
        engine: runs it.
        folder: empty; holds the copy.
        overlays: names of overlays, such as `dev`.
        env: variables beside VERSION, POSTGRES_PASSWORD and APP_PORT.
    """

    def __init__(self, engine: Engine, folder: Path, *overlays: str, **env: str) -> None:
        self.engine = engine
        self.folder = folder
        for name in ("compose", "migrations"):
            shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__", "secrets", ".env"))
        shutil.copy(ROOT / "alembic.ini", folder)
        self.env = {"VERSION": "test", "POSTGRES_PASSWORD": PASSWORD, "APP_PORT": "0", **env}
        self.env["COMPOSE_PROJECT_NAME"] = self.name = engine.name("compose")
        files = ["compose.yaml", *(f"compose.{overlay}.yaml" for overlay in overlays)]
        self.env["COMPOSE_FILE"] = ":".join(files)

    def __call__(self, *words: str, check: bool = True, env: dict[str, str] | None = None) -> Done:
        """Run `docker compose` with these words."""
        words = ("compose", "--ansi", "never", *words)
        return self.engine.docker(*words, check=check, env=self.env | (env or {}), cwd=self.folder / "compose")

    def down(self) -> None:
        """Remove everything of it."""
        self("--profile", "*", "down", "--volumes", "--remove-orphans", "--timeout", "1", check=False)

    def containers(self, service: str) -> list[dict[str, Any]]:
        """What the engine knows of a service's containers."""
        return [self.engine.inspect(name) for name in self("ps", "--all", "--quiet", service).stdout.split()]

    def state(self, service: str) -> dict[str, Any]:
        """The state of a service's one container."""
        (container,) = self.containers(service)
        state: dict[str, Any] = container["State"]
        return state

    def log(self, service: str, event: str | None = None) -> list[dict[str, Any]]:
        """The JSON lines that a service's containers have written: of one event, or of all."""
        lines = self("logs", "--no-log-prefix", "--no-color", service).stdout.splitlines()
        parsed = [json.loads(line[line.index("{") :]) for line in lines if '"event"' in line]
        return [line for line in parsed if event in {None, line["event"]}]

    def ask(self, path: str, body: object = None) -> Answer:
        """Ask the app by the port that it has on the host."""
        address = self("port", "app", "8000").stdout.strip()
        return request(f"http://{address}{path}", body)

    def query(self, sql: str) -> list[str]:
        """The rows of a query, as psql in the database's container prints them."""
        words = ("exec", "-T", "db", "psql", "-qXAt", "-v", "ON_ERROR_STOP=1", "-U", "app", "-d", "app", "-c", sql)
        return self(*words).stdout.splitlines()

    def backups(self) -> list[str]:
        """The backups that Headstart lists."""
        listed = self("run", "--rm", "--no-deps", "-T", "migrate", "backups", "list", "--json").stdout
        return [each["path"] for each in json.loads(listed)]

    def break_history(self) -> str:
        """Add a revision that fails, and return its id."""
        head = re.findall(r'(?m)^revision: str = "(.+)"', self.revisions()[-1].read_text(encoding="utf-8"))[0]
        path = self.folder / "migrations" / "versions" / "20990101_000000_broken.py"
        path.write_text(BROKEN.format(down=head), encoding="utf-8")
        return "20990101_000000000"

    def revisions(self) -> Sequence[Path]:
        """The revision files, oldest first."""
        return sorted((self.folder / "migrations" / "versions").glob("*.py"))
