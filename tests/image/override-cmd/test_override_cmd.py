"""A verb or an option goes to headstart; anything else is run as it is."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

from headstart import __version__
from headstart.cli.arguments import VERBS
from support.engine import ROOT

if TYPE_CHECKING:
    from support.engine import Engine

ENTRYPOINT = (ROOT / "docker-entrypoint.sh").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("command", "said"),
    [
        (["--version"], f"headstart {__version__}\n"),
        (["help"], "usage: headstart VERB"),
        (["backups", "--help"], "usage: headstart backups"),
        (["psql", "--version"], "psql (PostgreSQL) 17"),
        (["pg_dump", "--version"], "pg_dump (PostgreSQL) 17"),
        (["/usr/lib/postgresql/15/bin/pg_dump", "--version"], "pg_dump (PostgreSQL) 15"),
        (["sh", "-c", 'printf %s "$1"', "sh", "two words; $HOME"], "two words; $HOME"),
        (["python3", "-c", "import alembic; print('alembic')"], "alembic\n"),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)
def test_command(engine: Engine, runner_image: str, command: list[str], said: str) -> None:
    """Words after the image's name are headstart's, or a program's, and reach it unchanged."""
    done = engine.run(runner_image, *command)
    assert done.code == 0, done
    assert done.stdout.startswith(said)


def test_no_such_program(engine: Engine, runner_image: str) -> None:
    """A program that is not there gives what a shell gives, 127, and names it."""
    done = engine.run(runner_image, "no-such-program")
    assert done.code == 127
    assert "no-such-program" in done.stderr


def test_entrypoint_knows_every_verb() -> None:
    """The entrypoint's list of verbs is the program's own; it has at most 40 lines and no eval."""
    [patterns] = re.findall(r"case .*? in\n(.*?)\)", ENTRYPOINT, re.DOTALL)
    listed = {word for word in re.split(r"[\s|\\]+", patterns) if word}
    assert listed == {*VERBS, "help", "version", "-*"}
    assert len(ENTRYPOINT.splitlines()) <= 40
    assert "eval" not in ENTRYPOINT
