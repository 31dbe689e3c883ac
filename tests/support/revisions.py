"""Revision files, written as Alembic's template writes them."""

from __future__ import annotations

import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from headstart.history import Project
from headstart.history import source as source_module

if TYPE_CHECKING:
    from collections.abc import Iterator

    from headstart.history.graph import Revision

TEMPLATE = '''"""{doc}

Revision ID: {ident}
Revises: {down}
Create Date: 2024-05-06 07:08:09.101112

"""
from typing import Sequence, Union

from alembic import op
import sqlalchemy as sa


# revision identifiers, used by Alembic.
revision: str = {ident!r}
down_revision: Union[str, Sequence[str], None] = {down!r}
branch_labels: Union[str, Sequence[str], None] = {labels!r}
depends_on: Union[str, Sequence[str], None] = {depends_on!r}


def upgrade() -> None:
    """Upgrade schema."""
    pass


def downgrade() -> None:
    """Downgrade schema."""
    pass
'''


def project(*folders: Path, recursive: bool = False, sourceless: bool = False) -> Project:
    """A project that has its revision files in these folders."""
    return Project(
        ini=None,
        toml=None,
        section="alembic",
        here=str(folders[0]),
        script_location=str(folders[0]),
        version_locations=tuple(map(str, folders)),
        recursive=recursive,
        sourceless=sourceless,
    )


def write(folder: Path, name: str, text: str | bytes) -> Path:
    """Write a file."""
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def revision_text(
    ident: str,
    down: str | tuple[str, ...] | None = None,
    *,
    labels: tuple[str, ...] | None = None,
    depends_on: str | tuple[str, ...] | None = None,
    doc: str = "a change",
) -> str:
    """A revision file as Alembic's template writes it."""
    return TEMPLATE.format(ident=ident, down=down, labels=labels, depends_on=depends_on, doc=doc)


@contextmanager
def temporary_folder() -> Iterator[Path]:
    """A folder for one example of hypothesis."""
    with tempfile.TemporaryDirectory() as name:
        yield Path(name).resolve()


@contextmanager
def no_tree() -> Iterator[None]:
    """Make sure that the regular expression alone is enough."""

    def refuse(path: str, data: bytes) -> Revision:
        raise AssertionError(f"{path} was parsed: {data!r}")

    patch = pytest.MonkeyPatch()
    with patch.context() as patched:
        patched.setattr(source_module, "_parse", refuse)
        yield
