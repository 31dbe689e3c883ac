"""The image says what it is made of, and that is what it is made of."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from support.engine import Engine

PYTHON = """
import importlib.metadata as m, json, sys
print(json.dumps({d.name.lower().replace('_', '-'): d.version for d in m.distributions(path=sys.argv[1:])}))
"""
DRIVERS = {"python3-psycopg", "python3-psycopg-c", "python3-psycopg2"}


def test_names_what_is_there(engine: Engine, runner_image: str) -> None:
    """It lists every Python distribution, every package of the base, and the packages whose files were added."""
    bill = json.loads(engine.run(runner_image, "cat", "/usr/share/headstart/bom.cdx.json").stdout)
    assert (bill["bomFormat"], bill["specVersion"]) == ("CycloneDX", "1.6")
    listed = {part["purl"].partition("@")[0]: part["version"] for part in bill["components"]}
    python = _distributions(engine, runner_image, "/usr/local/lib/python3.13/dist-packages")
    assert {"headstart", "alembic", "sqlalchemy", "asyncpg"} <= set(python)
    assert {f"pkg:pypi/{name}": version for name, version in python.items()}.items() <= listed.items()
    query = ["dpkg-query", "--show", "--showformat", "pkg:deb/debian/${Package} ${Version}\n"]
    base = dict(line.split() for line in engine.run(runner_image, *query).stdout.splitlines())
    assert base.items() <= listed.items()
    added = {name.rpartition("/")[2] for name in set(listed) - set(base) if name.startswith("pkg:deb/")}
    assert {"libpq5", "postgresql-client-15", "postgresql-client-17", "python3.13-minimal", "libreadline8t64"} <= added
    # Debian's own are listed as Debian's, whose fixes their versions carry.
    debian = _distributions(engine, runner_image, "/usr/lib/python3/dist-packages")
    assert {f"python3-{name}" for name in debian} == DRIVERS
    assert added >= DRIVERS


def test_licences(engine: Engine, runner_image: str) -> None:
    """Each package whose files were added has its record for scanners and its licence beside it."""
    recorded = engine.run(runner_image, "ls", "/var/lib/dpkg/status.d").stdout.split()
    assert {"libpq5", *DRIVERS} <= set(recorded)
    missing = [
        name for name in recorded if engine.run(runner_image, "test", "-s", f"/usr/share/doc/{name}/copyright").code
    ]
    assert missing == []


def _distributions(engine: Engine, image: str, folder: str) -> dict[str, str]:
    """The version of each Python distribution in a folder of the image."""
    found: dict[str, str] = json.loads(engine.run(image, "python3", "-c", PYTHON, folder).stdout)
    return found
