"""The one table of settings: parsing, `--help` and docs/configuration.md are made from it."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Final

import msgspec

from headstart.settings.conninfo import EXAMPLE
from headstart.settings.durations import parse_duration

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
                f"{_short(text)} is not a whole number from {least} to {most}: write for example {example}"
            )
        return number

    return parse


def _one_of(*choices: str) -> Callable[[str], str]:
    def parse(text: str) -> str:
        word = text.strip().lower()
        if word not in choices:
            raise ValueError(f"{_short(text)} is not one of {', '.join(choices)}: write for example {choices[0]}")
        return word

    return parse


def _target(text: str) -> str:
    word = text.strip()
    if re.search(r"[\s\0]", word):
        raise ValueError(f"{_short(text)} has a blank inside: write head, heads, +1 or a revision such as 1a2b3c4d")
    if word.startswith("-"):
        raise ValueError(
            f"{_short(word)} goes down, which `up` never does: write head, or run `headstart downgrade {word[:9]}`"
        )
    return word


def _share(text: str) -> tuple[int | None, int]:
    match = re.fullmatch(r"(?:([0-9]{1,6})/)?([0-9]{1,6})", text.strip())
    index, count = (match[1], int(match[2])) if match else (None, 0)
    if count < 1 or (index is not None and int(index) >= count):
        raise ValueError(
            f"{_short(text)} is no share: write for example 0/4 for the first of four (3/4 is the last),"
            " or 4 where JOB_COMPLETION_INDEX says which"
        )
    return None if index is None else int(index), count


def _names(text: str) -> tuple[str, ...]:
    names = tuple(name.strip() for name in text.split(","))
    if "" in names or "\0" in text:
        raise ValueError(f"{_short(text)} is no list of names with commas between them: write for example public")
    return names


def _folder(text: str) -> Path:
    scheme = re.match(r"([a-z0-9+.-]+)://", text, re.IGNORECASE)
    if scheme is not None:  # the rest may hold an access key: not quoted
        raise ValueError(f"a {scheme[1]} URL is not supported: write the path of a folder, for example /backups")
    if "\0" in text:
        raise ValueError("a path has no NUL: write the path of a folder, for example /backups")
    return Path(text)


def _path(text: str) -> str:
    if "\0" in text:
        raise ValueError("a path has no NUL: write for example alembic.ini")
    return text


def _short(text: str) -> str:
    return repr(text if len(text) <= 60 else f"{text[:60]}...")  # noqa: PLR2004  (enough to recognise it)


def _headstart(
    field: str,
    default: str,
    example: str,
    kind: str,
    parse: Callable[[str], object],
    meaning: str,
) -> Setting:
    name, flag = f"HEADSTART_{field.upper()}", f"--{field.replace('_', '-')}"
    return Setting(
        name=name, field=field, default=default, example=example, kind=kind, meaning=meaning, parse=parse, flag=flag
    )


def _choice(field: str, *choices: str, meaning: str) -> Setting:
    return _headstart(field, choices[0], choices[0], "|".join(choices), _one_of(*choices), meaning)


SETTINGS: Final[tuple[Setting, ...]] = (
    Setting(
        name="DATABASE_URL",
        field="dsn",
        default="none, required",
        example=EXAMPLE,
        kind="URL",
        meaning="the database, in libpq's or SQLAlchemy's spelling; PG* give what it leaves out, or replace it whole",
        file_too=True,
    ),
    Setting(
        name="DATABASE_DIRECT_URL",
        field="dsn",
        default="none",
        example=EXAMPLE,
        kind="URL",
        meaning="used instead of DATABASE_URL where that one goes through a pooler",
        file_too=True,
    ),
    _headstart(
        "wait_timeout", "60s", "60s", "DURATION", parse_duration, "how long the server may take to become ready"
    ),
    _headstart(
        "lock_timeout", "10m", "10m", "DURATION", parse_duration, "how long another runner may hold the migration lock"
    ),
    _headstart(
        "table_lock_timeout",
        "5s",
        "5s",
        "DURATION",
        _postgres_duration,
        "Postgres' lock_timeout for each statement of a revision; 0 is none",
    ),
    _headstart(
        "table_lock_retry",
        "5m",
        "5m",
        "DURATION",
        parse_duration,
        "how long a revision that lost that race is tried again",
    ),
    _headstart(
        "statement_timeout", "0", "30m", "DURATION", _postgres_duration, "Postgres' statement_timeout; 0 is none"
    ),
    _headstart("deadline", "none", "15m", "DURATION", _deadline, "for the whole run; keep it below Kubernetes' own"),
    _headstart("target", "head", "head", "REVISION", _target, "the revision to reach"),
    _choice("ahead", "fail", "allow", meaning="allow lets an older image start on a newer database"),
    _choice(
        "backup",
        "auto",
        "always",
        "off",
        meaning="auto takes one when something is pending and the database holds user tables",
    ),
    _headstart(
        "backup_dir",
        "/backups in the image, ./backups outside",
        "/backups",
        "FOLDER",
        _folder,
        "where the backups are kept",
    ),
    _headstart(
        "backup_keep",
        "7",
        "7",
        "NUMBER",
        _whole_number(1, 100_000, 7),
        "how many to keep for each database; the last good one is never deleted",
    ),
    _headstart(
        "backup_jobs",
        "cores, at most 4",
        "4",
        "NUMBER",
        _whole_number(1, 64, 4),
        "how many tables are dumped at once",
    ),
    Setting(
        name="HEADSTART_SCRATCH_URL",
        field="scratch",
        default="none: a server of its own, where Postgres or headstart[embedded] is installed",
        example="postgresql://postgres@localhost/postgres",
        kind="URL",
        meaning="a server on which `check` and the like may make and drop databases; its role needs CREATEDB",
        file_too=True,
    ),
    _headstart("tenants_file", "none", "tenants.txt", "FILE", _path, "`tenants`: a file with a tenant in each line"),
    _headstart(
        "tenants_query",
        "none",
        "select schema_name from customer",
        "SQL",
        str.strip,
        "`tenants`: a query on DATABASE_URL that gives a tenant in each row, in place of a file",
    ),
    _choice(
        "tenants_kind", "schema", "database", meaning="`tenants`: whether a tenant is a schema of its own or a database"
    ),
    _headstart(
        "tenants_search_path",
        "none",
        "public",
        "SCHEMAS",
        _names,
        "`tenants`: schemas that follow the tenant's own in its search_path, with commas between them",
    ),
    _headstart(
        "tenants_parallel", "4", "4", "NUMBER", _whole_number(1, 64, 4), "`tenants`: how many are worked on at once"
    ),
    _headstart(
        "tenants_canary",
        "none",
        "1",
        "NUMBER|NAME",
        str.strip,
        "`tenants`: how many go first, one by one, or which one; if one fails, no other is begun",
    ),
    _choice(
        "tenants_on_failure",
        "continue",
        "stop",
        meaning="`tenants`: whether others are still begun after one has failed",
    ),
    _headstart(
        "tenants_share",
        "none",
        "0/4",
        "[INDEX/]COUNT",
        _share,
        "`tenants`: one of so many shares of the list, counted from 0; JOB_COMPLETION_INDEX gives an INDEX left out",
    ),
    _headstart(
        "schema_file",
        "none: the revisions are run one by one",
        "migrations/sql_current/schema_head.sql",
        "FILE",
        _path,
        "what `schema dump` wrote: `up` loads it into an empty database if it is provably of the target",
    ),
    Setting(
        name="HEADSTART_LEDGER",
        field="ledger",
        default="auto",
        example="off",
        kind="auto|off",
        meaning="off keeps none; auto keeps none where a publication FOR ALL TABLES would replicate it",
        parse=_one_of("auto", "off"),
    ),
    _headstart("image", "none", "app:v2", "NAME", str.strip, "what the ledger calls this image: its name and tag"),
    _choice(
        "log",
        "auto",
        "json",
        "console",
        meaning="the log's form; auto is console on a terminal and json otherwise",
    ),
    Setting(
        name="ALEMBIC_CONFIG",
        field="config",
        default="alembic.ini",
        example="alembic.ini",
        kind="FILE",
        meaning="Alembic's configuration file",
        parse=_path,
        flag="--config",
    ),
)
