"""The one table of settings: parsing, `--help` and docs/configuration.md are made from it."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Final

import msgspec

from headstart.settings.conninfo import EXAMPLE
from headstart.settings.durations import parse_duration, quoted

_LONGEST_MS: Final = 2_147_483_647  # Postgres keeps its own timeouts in 32 bits of milliseconds


class Setting(msgspec.Struct, frozen=True, kw_only=True):
    """One row of the table.

    Args:
        name: of the variable.
        field: of `Settings`; `` for what is not a field of its own.
        default: as the documentation shows it; it is not parsed.
        example: a right value, for messages.
        kind: what a value looks like, in capitals, for `--help`.
        meaning: one line.
        parse: turns the text into the field's value; raises ValueError with what is wrong and what would be right.
        flag: on the command line; None for what may hold a secret, which has no place in an argument, and for the
            ledger, since `history --ledger` prints it.
        file_too: whether NAME_FILE may name a file that holds the value.
    """

    name: str
    field: str
    default: str
    example: str
    kind: str
    meaning: str
    parse: Callable[[str], object] = str
    flag: str | None = None
    file_too: bool = False


def _postgres_duration(text: str) -> float:
    seconds = parse_duration(text)
    if 0 < seconds < 0.001:  # noqa: PLR2004  (a millisecond)
        raise ValueError(
            f"{text!r} is below a millisecond, which Postgres would take as none: write 1ms or more, or 0 for none"
        )
    if seconds * 1000 > _LONGEST_MS:
        raise ValueError(f"{text!r} is more than Postgres can hold: write at most 24d, or 0 for none")
    return seconds


def _deadline(text: str) -> float:
    seconds = parse_duration(text)
    if seconds == 0:
        raise ValueError("0 would leave no time at all: write a duration such as 15m, or leave it out for no deadline")
    return seconds


def _whole_number(least: int, most: int, example: int) -> Callable[[str], int]:
    def parse(text: str) -> int:
        word = text.strip()
        number = int(word) if re.fullmatch(r"[0-9]{1,9}", word) else -1
        if not least <= number <= most:
            raise ValueError(
                f"{quoted(text)} is not a whole number from {least} to {most}: write for example {example}"
            )
        return number

    return parse


def _one_of(*choices: str) -> Callable[[str], str]:
    def parse(text: str) -> str:
        word = text.strip().lower()
        if word not in choices:
            raise ValueError(f"{quoted(text)} is not one of {', '.join(choices)}: write for example {choices[0]}")
        return word

    return parse


def _target(text: str) -> str:
    word = text.strip()
    if re.search(r"\s", word):
        raise ValueError(f"{quoted(text)} has a blank inside: write head, heads, +1 or a revision such as 1a2b3c4d")
    if word.startswith("-"):
        raise ValueError(
            f"{quoted(word)} goes down, which `up` never does: write head, or run `headstart downgrade {word[:9]}`"
        )
    return word


def _share(text: str) -> tuple[int | None, int]:
    match = re.fullmatch(r"(?:([0-9]{1,6})/)?([0-9]{1,6})", text.strip())
    index, count = (match[1], int(match[2])) if match else (None, 0)
    if count < 1 or (index is not None and int(index) >= count):
        raise ValueError(
            f"{quoted(text)} is no share: write for example 0/4 for the first of four (3/4 is the last),"
            " or 4 where JOB_COMPLETION_INDEX says which"
        )
    return None if index is None else int(index), count


def _names(text: str) -> tuple[str, ...]:
    names = tuple(name.strip() for name in text.split(","))
    if "" in names:
        raise ValueError(f"{quoted(text)} is no list of names with commas between them: write for example public")
    return names


def _folder(text: str) -> Path:
    scheme = re.match(r"([a-z0-9+.-]+)://", text, re.IGNORECASE)
    if scheme is not None:  # the rest may hold an access key: not quoted
        raise ValueError(f"a {scheme[1]} URL is not supported: write the path of a folder, for example /backups")
    return Path(text)


def _headstart(
    field: str, meaning: str, kind: tuple[str, Callable[[str], object]], default: str, example: str | None = None
) -> Setting:
    """A setting of ours: its variable and its flag are named after the field; its default is the usual example."""
    word, parse = kind
    return Setting(
        name=f"HEADSTART_{field.upper()}",
        field=field,
        default=default,
        example=example or default,
        kind=word,
        meaning=meaning,
        parse=parse,
        flag=f"--{field.replace('_', '-')}",
    )


def _address(name: str, field: str, meaning: str, default: str, example: str = EXAMPLE) -> Setting:
    """A database's address, which may hold a password: no flag has it, and a file may."""
    return Setting(name=name, field=field, default=default, example=example, kind="URL", meaning=meaning, file_too=True)


def _choice(field: str, meaning: str, *choices: str) -> Setting:
    return _headstart(field, meaning, ("|".join(choices), _one_of(*choices)), choices[0])


_DURATION = ("DURATION", parse_duration)
_POSTGRES_DURATION = ("DURATION", _postgres_duration)
_FILE = ("FILE", str)
_UP_TO_64 = ("NUMBER", _whole_number(1, 64, 4))
_KEPT = ("NUMBER", _whole_number(1, 100_000, 7))
_FOLDER = ("FOLDER", _folder)

SETTINGS: Final[tuple[Setting, ...]] = (
    _address(
        "DATABASE_URL",
        "dsn",
        "the database, in libpq's or SQLAlchemy's spelling; PG* give what it leaves out, or replace it whole",
        "none, required",
    ),
    _address("DATABASE_DIRECT_URL", "dsn", "used instead of DATABASE_URL where that one goes through a pooler", "none"),
    _headstart("wait_timeout", "how long the server may take to become ready", _DURATION, "60s"),
    _headstart("lock_timeout", "how long another runner may hold the migration lock", _DURATION, "10m"),
    _headstart(
        "table_lock_timeout",
        "Postgres' lock_timeout for each statement of a revision; 0 is none",
        _POSTGRES_DURATION,
        "5s",
    ),
    _headstart("table_lock_retry", "how long a revision that lost that race is tried again", _DURATION, "5m"),
    _choice(
        "blockers",
        "terminate ends sessions that hold up a revision or the dump while they are idle in a transaction",
        "report",
        "terminate",
    ),
    _headstart("blockers_idle", "how long they may be idle; a running statement is never ended", _DURATION, "1m"),
    _headstart("statement_timeout", "Postgres' statement_timeout; 0 is none", _POSTGRES_DURATION, "0", "30m"),
    _headstart("deadline", "for the whole run; keep it below Kubernetes' own", ("DURATION", _deadline), "none", "15m"),
    _headstart("target", "the revision to reach", ("REVISION", _target), "head"),
    _choice("ahead", "allow lets an older image start on a newer database", "fail", "allow"),
    _choice(
        "backup", "auto takes one when something is pending and the database holds user tables", "auto", "always", "off"
    ),
    _headstart(
        "backup_dir", "where the backups are kept", _FOLDER, "/backups in the image, ./backups outside", "/backups"
    ),
    _headstart("backup_keep", "how many to keep for each database; the last good one is never deleted", _KEPT, "7"),
    _headstart("backup_jobs", "how many tables are dumped at once", _UP_TO_64, "cores, at most 4", "4"),
    _address(
        "HEADSTART_SCRATCH_URL",
        "scratch",
        "a server on which `check` and the like may make and drop databases; its role needs CREATEDB",
        "none: a server of its own, where Postgres or headstart[embedded] is installed",
        "postgresql://postgres@localhost/postgres",
    ),
    _headstart("tenants_file", "`tenants`: a file with a tenant in each line", _FILE, "none", "tenants.txt"),
    _headstart(
        "tenants_query",
        "`tenants`: a query on DATABASE_URL that gives a tenant in each row, in place of a file",
        ("SQL", str.strip),
        "none",
        "select schema_name from customer",
    ),
    _choice("tenants_kind", "`tenants`: whether a tenant is a schema of its own or a database", "schema", "database"),
    _headstart(
        "tenants_search_path",
        "`tenants`: schemas that follow the tenant's own in its search_path, with commas between them",
        ("SCHEMAS", _names),
        "none",
        "public",
    ),
    _headstart("tenants_parallel", "`tenants`: how many are worked on at once", _UP_TO_64, "4"),
    _headstart(
        "tenants_canary",
        "`tenants`: how many go first, one by one, or which one; if one fails, no other is begun",
        ("NUMBER|NAME", str.strip),
        "none",
        "1",
    ),
    _choice("tenants_on_failure", "`tenants`: whether others are still begun after one has failed", "continue", "stop"),
    _headstart(
        "tenants_share",
        "`tenants`: one of so many shares of the list, counted from 0; JOB_COMPLETION_INDEX gives an INDEX left out",
        ("[INDEX/]COUNT", _share),
        "none",
        "0/4",
    ),
    _headstart(
        "schema_file",
        "what `schema dump` wrote: `up` loads it into an empty database if it is provably of the target",
        _FILE,
        "none: the revisions are run one by one",
        "migrations/sql_current/schema_head.sql",
    ),
    msgspec.structs.replace(
        _choice(
            "ledger",
            "off keeps none; auto keeps none where a publication FOR ALL TABLES would replicate it",
            "auto",
            "off",
        ),
        flag=None,
    ),
    _headstart("image", "what the ledger calls this image: its name and tag", ("NAME", str.strip), "none", "app:v2"),
    _choice("log", "the log's form; auto is console on a terminal and json otherwise", "auto", "json", "console"),
    Setting(
        name="ALEMBIC_CONFIG",
        field="config",
        default="alembic.ini",
        example="alembic.ini",
        kind="FILE",
        meaning="Alembic's configuration file",
        parse=str,
        flag="--config",
    ),
)
