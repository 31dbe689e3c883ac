"""The spellings of a connection: URL, key=value string, service file, passfile, `PG*`. Text in, libpq's parameters out.

This module finds out which parameters are given; `dsn.py` decides what they mean. The rules are libpq's (PostgreSQL
manual, "Connection Strings", "The Connection Service File", "The Password File"), wider where SQLAlchemy's URLs are.

A text that cannot be read may have its password anywhere: nothing of it is quoted in a problem, apart from names of
parameters where no password can have come apart into them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Final
from urllib.parse import unquote_to_bytes

import msgspec

from headstart.log.printable import nearest

EXAMPLE: Final = "postgresql://user:password@host:5432/database"
ENCODING_HELP: Final = (
    "a special character in user, password, database or a value has to be percent-encoded "
    "(@ is %40, : is %3A, / is %2F, ? is %3F, # is %23, % is %25)"
)

# libpq's parameters and the variable that may give each; those without one can be given in a URL only.
VARIABLES: Final[Mapping[str, str]] = {
    name: f"PG{name.replace('_', '').upper()}"
    for name in (
        "service", "host", "hostaddr", "port", "user", "password", "passfile", "options",
        "target_session_attrs", "load_balance_hosts",
        "sslmode", "sslnegotiation", "sslcompression", "sslrootcert", "sslcert", "sslkey", "sslcertmode", "sslcrl",
        "sslcrldir", "sslsni", "ssl_min_protocol_version", "ssl_max_protocol_version",
        "min_protocol_version", "max_protocol_version",
        "requirepeer", "require_auth", "channel_binding", "gssencmode", "gssdelegation", "gsslib", "krbsrvname",
    )
} | {"dbname": "PGDATABASE", "application_name": "PGAPPNAME", "connect_timeout": "PGCONNECT_TIMEOUT"}  # fmt: skip
WITHOUT_VARIABLE: Final = frozenset({
    "sslpassword", "keepalives", "keepalives_idle", "keepalives_interval", "keepalives_count", "tcp_user_timeout",
})  # fmt: skip
# What libpq reads besides: none of it may reach a child that is meant to see our parameters only.
OTHER_VARIABLES: Final = frozenset({
    "PGSERVICEFILE", "PGSYSCONFDIR", "PGCLIENTENCODING", "PGDATESTYLE", "PGTZ", "PGGEQO", "PGREALM", "PGREQUIRESSL",
})  # fmt: skip

_SYNONYMS: Final = {
    "database": "dbname",  # asyncpg
    "username": "user",
    "ssl": "sslmode",  # asyncpg through SQLAlchemy, and JDBC's ssl=true, which libpq reads too
    "requiressl": "sslmode",
    "timeout": "connect_timeout",  # asyncpg
    "direct_tls": "sslnegotiation",  # asyncpg
    "fallback_application_name": "application_name",
}
# Tuning of one driver or pool. It does not choose the server, so it is ignored, and reported by name.
_NOT_OURS: Final = frozenset({
    "async_fallback", "prepared_statement_cache_size", "prepared_statement_name_func", "statement_cache_size",
    "max_cached_statement_lifetime", "max_cacheable_statement_size", "command_timeout", "prepare_threshold",
    "client_encoding", "native_inet_types", "json_serializer", "binary_parameters", "tcp_keepalive",
    "pgbouncer", "connection_limit", "pool_timeout", "pool_size", "max_overflow", "pool_recycle", "pool_pre_ping",
    "uselibpqcompat", "supa", "sslkeylogfile",
})  # fmt: skip
# Server settings that people write as if they were parameters, as asyncpg lets them: they become `options`.
_SERVER_SETTINGS: Final = frozenset({
    "search_path", "role", "jit", "timezone", "datestyle", "statement_timeout", "lock_timeout", "work_mem",
    "maintenance_work_mem", "idle_in_transaction_session_timeout", "idle_session_timeout", "transaction_timeout",
    "default_transaction_isolation", "default_transaction_read_only", "default_tablespace", "synchronous_commit",
    "tcp_keepalives_idle", "tcp_keepalives_interval", "tcp_keepalives_count", "row_security",
})  # fmt: skip
_UNSUPPORTED: Final = {
    "replication": "a replication connection cannot run migrations: leave it out",
    "scram_client_key": "asyncpg cannot log in with SCRAM keys: give the password",
    "scram_server_key": "asyncpg cannot log in with SCRAM keys: give the password",
    "oauth_issuer": "asyncpg cannot log in with OAuth: use a password or a certificate",
    "oauth_client_id": "asyncpg cannot log in with OAuth: use a password or a certificate",
    "oauth_client_secret": "asyncpg cannot log in with OAuth: use a password or a certificate",
    "oauth_scope": "asyncpg cannot log in with OAuth: use a password or a certificate",
}


class Spelling(msgspec.Struct, kw_only=True):
    """What one text gives: parameters by libpq's names, those that are ignored, and what is wrong with it."""

    origin: str
    values: dict[str, str] = {}
    ignored: list[str] = []
    problems: list[str] = []

    def add_problem(self, problem: str) -> None:
        """Note a problem, with the name of what has to be corrected before it."""
        self.problems.append(f"{self.origin}: {problem}")

    def take(self, key: str, value: str, *, nth: int, quotable: bool) -> None:
        """Take one parameter under any of its names; `quotable`: its name cannot be a piece of a password."""
        if key in _UNSUPPORTED:
            self.add_problem(f"{key}: {_UNSUPPORTED[key]}")
        elif key in _NOT_OURS:
            self.ignored.append(key)
        elif key.lower() in _SERVER_SETTINGS or re.fullmatch(r"[a-z_]\w*\.\w+", key, re.IGNORECASE | re.ASCII):
            escaped = value.replace("\\", "\\\\").replace(" ", "\\ ")
            self.values["options"] = f"{self.values.get('options', '')} -c {key}={escaped}".strip()
        elif (name := _SYNONYMS.get(key, key)) not in VARIABLES and name not in WITHOUT_VARIABLE:
            self.add_problem(_unknown(key, nth, quotable=quotable))
        elif value and not (key == "fallback_application_name" and "application_name" in self.values):
            value = _in_libpq_words(key, value)
            if name == "options" and "options" in self.values:
                value = f"{self.values['options']} {value}"
            self.values[name] = value


def read(text: str, origin: str) -> Spelling:
    """Read a URL or a key=value string.

    Args:
        text: as it was given, blanks around it included.
        origin: the name that the text was given under, for the problems.
    """
    text = text.strip()
    spelling = Spelling(origin=origin)
    if not is_text(text):
        spelling.add_problem(f"it is not UTF-8 text: write {EXAMPLE}, and percent-encode what is not ASCII")
    elif "\0" in text or "\n" in text or "\r" in text:
        spelling.add_problem(f"it has a line break or a NUL inside: write one line such as {EXAMPLE}")
    elif text[:1] in {"'", '"'}:
        spelling.add_problem(
            "it begins with a quotation mark, which an env file keeps: write the URL without quotation marks"
        )
    elif text.lower().startswith("jdbc:"):
        spelling.add_problem(f"a JDBC URL is not understood: write {EXAMPLE}")
    elif match := re.match(r"([A-Za-z][A-Za-z0-9+._-]*)://", text):
        dialect, _, driver = match[1].partition("+")
        if dialect.lower() not in {"postgresql", "postgres"}:
            spelling.add_problem(f"its scheme {dialect!r} is not Postgres: write {EXAMPLE}")
        else:
            _read_url(text[match.end() :], spelling, blanks_as_plus=bool(driver))
    elif re.match(r"\w+\s*=", text):
        _read_pairs(text, spelling)
    else:
        spelling.add_problem(f"it is neither a URL nor key=value pairs: write {EXAMPLE}")
    return spelling


def _read_url(rest: str, spelling: Spelling, *, blanks_as_plus: bool) -> None:
    """Read what follows `scheme://`: [user[:password]@][host[:port][,...]][/database][?key=value[&...]]."""
    user_part, rest = _split_user(rest)
    place, question, query = rest.partition("?")
    hosts, slash, database = place.partition("/")
    if user_part is None or "@" in place or "/" in database:
        spelling.add_problem(f"it cannot be taken apart: {ENCODING_HELP}, as in {EXAMPLE}")
        return
    user, _, password = user_part.partition(":")
    parts = {"user": user, "password": password, "dbname": database if slash else ""}
    parts["host"], parts["port"] = _split_hosts(hosts, spelling)
    for key, value in parts.items():
        if (decoded := _decode(value)) is None:
            spelling.add_problem(f"its {key} is not percent-encoded UTF-8 without NUL: {ENCODING_HELP}")
        elif decoded:  # a port of "," is two empty ones, which are both 5432, as in libpq
            spelling.values[key] = decoded
    if question:
        _read_query(query, spelling, blanks_as_plus=blanks_as_plus)
    if spelling.problems and "@" in query:
        # A raw @ this late may be the end of a password that came apart: names of parameters may be pieces of it.
        spelling.problems = [f"{spelling.origin}: it cannot be taken apart: {ENCODING_HELP}, as in {EXAMPLE}"]


def _split_user(rest: str) -> tuple[str | None, str]:
    """Split at the @ that ends the credentials; None for credentials that could be read in two ways."""
    before, at, after = rest.partition("@")
    if not at:
        return "", rest
    user, colon, password = before.partition(":")
    if "/" in user or "?" in user:  # that @ belongs to the path or the query
        return "", rest
    if re.match(r"[\d,]*[/?]", password):  # user:123/4@host, or host:5432/db?user=me@tenant?
        return None, ""
    if not colon and not user:
        return "", after
    return before, after


def _split_hosts(text: str, spelling: Spelling) -> tuple[str, str]:
    """Split `a:1,[::1]:2,%2Frun` into the hosts and the ports, still encoded, joined by commas as libpq takes them."""
    if not text:
        return "", ""
    hosts, ports = [], []
    for item in text.split(","):
        match = re.fullmatch(r"\[([^\]]+)\](?::(.*))?|([^:\[\]]*)(?::([^:]*))?", item)
        if match is None:
            spelling.add_problem("a host in it is not well formed: write host:5432, or [::1]:5432 for an IPv6 address")
            return "", ""
        hosts.append(match[1] or match[3] or "")
        ports.append(match[2] or match[4] or "")
    if len(hosts) > 1 and "" in hosts:
        spelling.add_problem("a host in its list is empty: write host1:5432,host2:5432")
    return ",".join(hosts), ",".join(ports)


def _read_query(query: str, spelling: Spelling, *, blanks_as_plus: bool) -> None:
    hosts: list[str] = []
    quotable = True
    for nth, item in enumerate(filter(None, query.split("&")), 1):
        raw_key, equals, raw_value = item.partition("=")
        key, value = _decode(raw_key), _decode(raw_value.replace("+", " ") if blanks_as_plus else raw_value)
        if not equals:
            spelling.add_problem(f"part {nth} of its query has no '=': write ?sslmode=require&connect_timeout=10")
        elif key is None or value is None:
            spelling.add_problem(f"part {nth} of its query is not percent-encoded UTF-8 without NUL: {ENCODING_HELP}")
        else:
            if key == "options":  # `-c+a=b`, with a plus for the blank, is written under any scheme
                value = re.sub(r"(?<=-c)\+|\+(?=-)", " ", value)
            if key == "host" and value:  # SQLAlchemy repeats it: ?host=a:1&host=b:2
                hosts.append(value)
                value = ",".join(hosts)
            spelling.take(key, value, nth=nth, quotable=quotable)
            quotable = quotable and "password" not in key


def is_text(value: str) -> bool:
    """Tell whether an environment's value was UTF-8: Python turns other bytes into lone surrogates."""
    return not re.search(r"[\ud800-\udfff]", value)


def _decode(text: str) -> str | None:
    """Undo percent-encoding; a % that encodes nothing stays, as in SQLAlchemy. None if the outcome is no text."""
    if "%" not in text:
        return text
    try:
        decoded = unquote_to_bytes(text).decode()
    except (UnicodeDecodeError, UnicodeEncodeError):
        return None
    return None if "\0" in decoded else decoded


def _read_pairs(text: str, spelling: Spelling) -> None:
    r"""Read `host=a password='with blanks' user=it\'s`."""
    pair = re.compile(r"\s*(\w+)\s*=\s*(?:'((?:\\.|[^'\\])*)'(?=\s|$)|((?:\\.|[^\s'\\])*)(?=\s|$))\s*")
    place, nth, quotable = 0, 0, True
    while place < len(text):
        nth += 1
        match = pair.match(text, place)
        if match is None:
            spelling.add_problem(
                f"pair {nth} cannot be read: write key=value pairs with blanks between them, a value that has blanks "
                r"in quotes ('two words'), with \' and \\ inside"
            )
            return
        value = match[2] if match[2] is not None else match[3]
        spelling.take(match[1], re.sub(r"\\(.)", r"\1", value), nth=nth, quotable=quotable)
        quotable = quotable and "password" not in match[1]
        place = match.end()


def read_variables(environ: Mapping[str, str]) -> dict[str, tuple[str, str]]:
    """Give the parameters that `PG*` variables set, each with the variable's name."""
    found = {key: (environ[name], name) for key, name in VARIABLES.items() if environ.get(name)}
    if environ.get("PGREQUIRESSL") == "1" and "sslmode" not in found:
        found["sslmode"] = ("require", "PGREQUIRESSL")
    return found


def read_service(text: str, name: str, origin: str) -> Spelling | None:
    """Read one service of a pg_service.conf; None if the file does not have it."""
    spelling: Spelling | None = None
    for number, line in enumerate(text.splitlines(), 1):
        entry = line.strip()
        if not entry or entry.startswith("#"):
            continue
        if entry.startswith("["):
            if spelling is not None:
                break
            if entry == f"[{name}]":
                spelling = Spelling(origin=origin)
        elif spelling is not None:
            key, equals, value = entry.partition("=")
            if not equals or key.strip() in {"service", "servicefile"}:
                spelling.add_problem(f"line {number} is not one of its key=value settings: write host=db.example")
            else:
                spelling.take(key.strip(), value.strip(), nth=number, quotable=False)
    return spelling


def find_password(text: str, *, host: str, port: int, database: str, user: str) -> str | None:
    """Give the password of the first line of a passfile that matches; a socket's line may have `localhost`."""
    for *asked, password in _passfile_lines(text):
        names = {host, "localhost"} if host.startswith("/") else {host}
        known = ({"*"} | names, {"*", str(port)}, {"*", database}, {"*", user})
        if all(field in fits for field, fits in zip(asked, known, strict=True)):
            return password or None
    return None


def passwords_of(text: str) -> list[str]:
    """Give every password of a passfile."""
    return [password for *_, password in _passfile_lines(text)]


def _passfile_lines(text: str) -> Iterator[list[str]]:
    """Give host, port, database, user and password of each line that has them."""
    for line in text.splitlines():
        if line.startswith("#"):
            continue
        fields = re.findall(r"((?:\\.|[^:\\]|\\$)*)(?::|$)", line)[:5]
        if len(fields) == 5:  # noqa: PLR2004
            yield [re.sub(r"\\(.)", r"\1", field) for field in fields]


def _in_libpq_words(key: str, value: str) -> str:
    """Turn a driver's own word for a thing into libpq's."""
    word = value.strip().lower()
    if key in {"ssl", "requiressl"}:
        return {"true": "require", "1": "require", "on": "require", "false": "disable", "0": "prefer"}.get(word, word)
    if key == "direct_tls":
        return "direct" if word in {"true", "1", "on"} else "postgres"
    return value.replace("_", "-") if key == "sslmode" else value


def _unknown(key: str, nth: int, *, quotable: bool) -> str:
    near = nearest(key, [*VARIABLES, *WITHOUT_VARIABLE, *_SYNONYMS], 0.75)
    if near:
        return f"the parameter {key!r} is not known{near}"
    name = repr(key) if quotable and re.fullmatch(r"[A-Za-z_][\w.-]{0,40}", key) else f"number {nth}"
    return f"the parameter {name} is not known: leave it out; a server setting is written options=-c%20name%3Dvalue"
