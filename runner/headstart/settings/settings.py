"""A mapping becomes frozen `Settings`, or every problem at once.

`table` has one row for each setting. Nothing here reads the process's environment or a file by itself: both come in as
arguments.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final, Literal

import msgspec

from headstart.errors import ConfigurationError
from headstart.log.printable import nearest
from headstart.log.secret import Redactor, Secret
from headstart.settings.conninfo import EXAMPLE, is_text, read
from headstart.settings.dsn import Dsn, DsnError, names_a_server, without_libpq_variables
from headstart.settings.files import read_once
from headstart.settings.resolve import parse_dsn
from headstart.settings.table import SETTINGS, Setting


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """How one run is to go. Durations are seconds.

    Args:
        dsn: the database.
        dsn_source: the name that the database was given under: a variable, `PG*`, or `` when nothing gave one.
        wait_timeout: how long the server may take to become ready.
        lock_timeout: how long another runner may hold the migration lock.
        table_lock_timeout: Postgres' `lock_timeout` for each statement, 0 for none.
        table_lock_retry: how long a revision that lost that race is tried again.
        blockers: what to do about sessions that are idle in a transaction and hold up a statement.
        blockers_idle: how long they may be.
        statement_timeout: Postgres' `statement_timeout`, 0 for none.
        deadline: for the whole run, None for none.
        target: the revision to reach, in Alembic's words.
        ahead: what to do when the database is newer than this history.
        backup: when to take one.
        backup_dir: the folder that holds a folder for each database.
        backup_keep: how many to keep for each database.
        backup_jobs: how many tables to dump at once.
        schema_file: what to bring an empty database to the target with; None to run the revisions.
        tenants_file: lists the tenants.
        tenants_query: or gives them.
        tenants_kind: what a tenant is.
        tenants_search_path: what follows a tenant's schema in its search_path.
        tenants_parallel: how many are worked on at once.
        tenants_canary: how many go first, or which one.
        tenants_on_failure: whether others are begun after one has failed.
        tenants_share: which share of the list (None: JOB_COMPLETION_INDEX says), of how many.
        ledger: whether to keep one; `auto` passes where a publication would replicate it.
        image: what the ledger calls this image.
        log: the form of the log.
        config: Alembic's configuration file.
        config_explicit: whether somebody named that file.
        other_secrets: secrets in the environment that the connection does not use, but a log must not show either.
        scratch: a server on which databases may be made and dropped at will; None for one of our own.
    """

    dsn: Dsn
    dsn_source: str = ""
    wait_timeout: float = 60.0
    lock_timeout: float = 600.0
    table_lock_timeout: float = 5.0
    table_lock_retry: float = 300.0
    blockers: Literal["report", "terminate"] = "report"
    blockers_idle: float = 60.0
    statement_timeout: float = 0.0
    deadline: float | None = None
    target: str = "head"
    ahead: Literal["fail", "allow"] = "fail"
    backup: Literal["auto", "always", "off"] = "auto"
    backup_dir: Path = Path("backups")
    backup_keep: int = 7
    backup_jobs: int = 1
    schema_file: str | None = None
    tenants_file: str | None = None
    tenants_query: str | None = None
    tenants_kind: Literal["schema", "database"] = "schema"
    tenants_search_path: tuple[str, ...] | None = None
    tenants_parallel: int = 4
    tenants_canary: str | None = None
    tenants_on_failure: Literal["continue", "stop"] = "continue"
    tenants_share: tuple[int | None, int] | None = None
    ledger: Literal["auto", "off"] = "auto"
    image: str | None = None
    log: Literal["auto", "json", "console"] = "auto"
    config: str = "alembic.ini"
    config_explicit: bool = False
    other_secrets: tuple[Secret, ...] = ()
    scratch: Dsn | None = None

    def secrets(self) -> tuple[str, ...]:
        """Give every value that must not be shown, for a `Redactor`."""
        scratch = () if self.scratch is None else self.scratch.secrets()
        return (*self.dsn.secrets(), *scratch, *(secret.reveal() for secret in self.other_secrets))

    def redactor(self, cwd: str) -> Redactor:
        """Make what takes the secrets out of a text, and leaves names as they are: of databases, roles, hosts, folders.

        Args:
            cwd: the working directory.
        """
        names = [cwd, str(self.backup_dir)]
        for dsn in filter(None, (self.dsn, self.scratch)):
            names += [dsn.user, dsn.database, *(host for host, _ in dsn.hosts)]
        return Redactor(self.secrets(), names)


# A Kubernetes Service whose name begins with "headstart" puts these into every pod beside it.
_SERVICE_LINK: Final = re.compile(
    r"HEADSTART_(?:\w+_)?(?:SERVICE_(?:HOST|PORT)(?:_\w+)?|PORT(?:_\d+_(?:TCP|UDP|SCTP)\w*)?)"
)


def load(
    environ: Mapping[str, str],
    flags: Mapping[str, str | None] | None = None,
    *,
    read_file: Callable[[str], str],
    in_image: bool,
    cores: int,
    default_user: str,
    require_database: bool = True,
    redact: Callable[[str], str] | None = None,
) -> Settings:
    """Read the settings: flag over variable over default.

    Args:
        environ: the variables.
        flags: by the variable's name what the command line says, None for what it does not say.
        read_file: gives a file's text or raises OSError.
        in_image: whether this is Headstart's image, where backups have a folder of their own.
        cores: how many this machine has for us.
        default_user: the operating system's user, whom libpq takes when nobody is named.
        require_database: False for verbs that can do without: libpq's defaults then stand in, with no `dsn_source`.
        redact: takes the environment's passwords out of a text; made here, if a problem needs it, where there is none.

    Raises:
        ConfigurationError: with every problem at once, each naming what to set, none holding a secret.
    """
    read_file = read_once(read_file)
    redact = redact or redactor_from(environ, read_file)
    addresses = _Addresses(environ, read_file, default_user)
    dsn, source, secrets = addresses.database(required=require_database)
    problems = addresses.problems
    values: dict[str, object] = {
        "backup_dir": Path("/backups" if in_image else "backups"),
        "backup_jobs": max(1, min(cores, 4)),
    }
    for setting in SETTINGS:
        text, name = environ.get(setting.name), setting.name
        if setting.flag is not None and (given := (flags or {}).get(setting.name)) is not None:
            text, name = given, setting.flag
        if text is None or setting.file_too:  # connections: read apart
            continue
        if not text.strip():
            remedy = f"write for example {setting.example}, or leave it out for {setting.default}"
            problems.append(f"{name}: it is set but empty: {remedy}")
            continue
        if not is_text(text):
            problems.append(f"{name}: it is not UTF-8 text: give it a {setting.kind.lower()} such as {setting.example}")
            continue
        try:
            values[setting.field] = setting.parse(text)
        except ValueError:
            problems.append(f"{name}: {_refusal(setting, redact(text))}")
    problems += _unknown(environ)
    values["scratch"] = addresses.scratch()
    if problems or dsn is None:
        raise ConfigurationError(*map(redact, problems))
    values |= {"dsn": dsn, "dsn_source": source, "config_explicit": "config" in values, "other_secrets": secrets}
    # Not convert(): each parser has given its field's very type, and convert would ask for a decoder of Secret.
    return Settings(**values)  # type: ignore[arg-type]


def redactor_from(environ: Mapping[str, str], read_file: Callable[[str], str]) -> Callable[[str], str]:
    """Make what takes the passwords of an environment out of a text, whether or not its settings can be read.

    Args:
        environ: the variables.
        read_file: as for `load`. Files are read when the first text comes.
    """

    @functools.cache
    def redactor() -> Redactor:
        from headstart.settings.secrets import redactor_of  # off the no-op path

        return redactor_of(environ, read_file)

    return lambda text: redactor()(text)  # noqa: PLW0108  (it is made when the first text comes)


def _refusal(setting: Setting, text: str) -> str:
    """Why a setting's text is refused, in words that quote no secret: the text is already without them."""
    try:
        setting.parse(text)
    except ValueError as error:
        return str(error)
    return f"it holds a password: write for example {setting.example}"


_MOUNTED: Final = "/run/secrets/database_url"


class _Addresses:
    """Reads the addresses of databases from variables and files, and records every problem."""

    def __init__(self, environ: Mapping[str, str], read_file: Callable[[str], str], default_user: str) -> None:
        self._environ = environ
        self._read_file = read_file
        self._default_user = default_user
        self.problems: list[str] = []

    def database(self, *, required: bool) -> tuple[Dsn | None, str, tuple[Secret, ...]]:
        """Find the one URL that counts, or `PG*`, and whatever else in the environment is a secret."""
        environ = self._environ
        direct = self._text("DATABASE_DIRECT_URL")
        usual_wanted = direct is None or any(environ.get(name) for name in ("DATABASE_URL", "DATABASE_URL_FILE"))
        usual = self._text("DATABASE_URL") if usual_wanted else None
        if self.problems:
            return None, "", ()
        chosen = direct or usual
        if chosen is None and required and not names_a_server(environ):
            self.problems.append(
                f"DATABASE_URL: it is not set: write for example DATABASE_URL={EXAMPLE}, or set PGHOST and PGDATABASE"
            )
            return None, "", ()
        url, source = chosen or (None, "PG*" if names_a_server(environ) else "")
        dsn = self._parsed(url, environ, source or "PG*")
        if dsn is None:
            return None, "", ()
        unused = [environ["PGPASSWORD"]] if environ.get("PGPASSWORD") else []
        if direct is not None and usual is not None:  # no connection uses it, so we need not understand all of it
            values = read(*usual).values
            unused += [values[key] for key in ("password", "sslpassword") if key in values]
        secrets = tuple(Secret(value) for value in dict.fromkeys(unused) if value not in dsn.secrets())
        return dsn, source, secrets

    def scratch(self) -> Dsn | None:
        """The server for scratch databases, by its URL alone: `PG*` are about the database that matters."""
        found = self._text("HEADSTART_SCRATCH_URL")
        return None if found is None else self._parsed(found[0], without_libpq_variables(self._environ), found[1])

    def _parsed(self, url: str | None, environ: Mapping[str, str], source: str) -> Dsn | None:
        try:
            return parse_dsn(url, environ, read_file=self._read_file, default_user=self._default_user, source=source)
        except DsnError as error:
            self.problems.extend(error.problems)
            return None

    def _text(self, name: str) -> tuple[str, str] | None:
        """Give the value of NAME or the text of the file that NAME_FILE names, and which of the two it was."""
        value, path = self._environ.get(name), self._environ.get(f"{name}_FILE")
        if value is not None and path is not None:
            self.problems.append(f"{name}: {name}_FILE is set too: leave one of the two out")
            return None
        given, origin, example = (value, name, EXAMPLE) if path is None else (path, f"{name}_FILE", _MOUNTED)
        if given is None:
            return None
        if not given.strip():
            self.problems.append(
                f"{origin}: it is set but empty: write for example {origin}={example}, or leave it out"
            )
            return None
        return (given, origin) if path is None else self._file_text(origin, path)

    def _file_text(self, name: str, path: str) -> tuple[str, str] | None:
        try:
            text = self._read_file(path)
        except UnicodeError:
            self.problems.append(f"{name}: {path} is not UTF-8 text: write one line such as {EXAMPLE} into it")
            return None
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or type(error).__name__
            self.problems.append(
                f"{name}: cannot read {path!r} ({reason}): mount the secret there, readable to this user"
            )
            return None
        text = text.removesuffix("\n").removesuffix("\r")
        if not text.strip():
            self.problems.append(f"{name}: {path} is empty: write one line such as {EXAMPLE} into it")
            return None
        return text, name


def _unknown(environ: Mapping[str, str]) -> list[str]:
    known = {setting.name for setting in SETTINGS} | {f"{each.name}_FILE" for each in SETTINGS if each.file_too}
    unknown = [name for name in environ if name.startswith("HEADSTART_") and name not in known]
    problems = []
    for name in sorted(unknown):
        if _SERVICE_LINK.fullmatch(name):
            continue
        near = nearest(name, [each for each in known if each.startswith("HEADSTART_")], 0.8)
        problems.append(f"{name} is not known{near or ': leave it out; `headstart --help` lists what there is'}")
    return problems
