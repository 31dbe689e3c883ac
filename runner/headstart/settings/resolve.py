"""From the given texts to one `Dsn`: layers over each other, defaults, files looked up, and every problem at once.

The layers are libpq's: URL over service over `PG*` over defaults (PostgreSQL manual, "Parameter Key Words").
"""

from __future__ import annotations

import errno
import re
from collections.abc import Callable, Mapping
from typing import Final

from headstart.log.secret import Redactor, Secret
from headstart.settings import conninfo
from headstart.settings.dsn import DEFAULT_HOSTS, VERIFYING, Dsn, DsnError

DEFAULT_PORT: Final = 5432
_CHOICES: Final[Mapping[str, tuple[str, ...]]] = {
    "sslmode": ("disable", "allow", "prefer", "require", "verify-ca", "verify-full"),
    "sslnegotiation": ("postgres", "direct"),
    "sslcertmode": ("disable", "allow", "require"),
    "target_session_attrs": ("any", "primary", "read-write", "standby", "read-only", "prefer-standby"),
    "load_balance_hosts": ("disable", "random"),
    "channel_binding": ("disable", "prefer", "require"),
    "gssencmode": ("disable", "prefer", "require"),
    "gsslib": ("gssapi", "sspi"),
    "ssl_min_protocol_version": ("TLSv1", "TLSv1.1", "TLSv1.2", "TLSv1.3"),
    "ssl_max_protocol_version": ("TLSv1", "TLSv1.1", "TLSv1.2", "TLSv1.3"),
}
_NUMBERS: Final = ("connect_timeout", "keepalives_idle", "keepalives_interval", "keepalives_count", "tcp_user_timeout")
_NOT_KEPT: Final = frozenset({"service", "host", "hostaddr", "port", "user", "password", "dbname", "sslpassword"})


def parse_dsn(
    url: str | None,
    environ: Mapping[str, str],
    *,
    read_file: Callable[[str], str],
    default_user: str,
    source: str = "DATABASE_URL",
) -> Dsn:
    """Read a URL in any spelling; `PG*` give what it leaves out (PostgreSQL manual, "Environment Variables").

    Args:
        url: a URL or key=value string; None for the variables alone.
        environ: where `PG*` and `HOME` are looked up.
        read_file: gives a file's text or raises OSError (service file, passfile, certificates).
        default_user: the operating system's user, whom libpq takes when nobody is named.
        source: the name under which `url` was given, for the problems.

    Raises:
        DsnError: with every problem at once, none of which holds a secret.
    """
    return Reading(environ, read_file, source).finish(url, default_user)


class Reading:
    """One parse: the values, where each comes from, and what is wrong with them."""

    def __init__(self, environ: Mapping[str, str], read_file: Callable[[str], str], source: str) -> None:
        self.home = environ.get("HOME", "")
        self.environ = environ
        self.read_file = read_file
        self.source = source
        self.values: dict[str, str] = {}
        self.origins: dict[str, str] = {}
        self.ignored: list[str] = []
        self.problems: list[str] = []

    def finish(self, url: str | None, default_user: str) -> Dsn:
        """Read everything, or raise DsnError with every problem."""
        self.gather(url)
        hosts = self.hosts()
        user = self.values.get("user", default_user)
        database = self.values.get("dbname", user)
        self.check_words()
        self.check_tls(tcp=not all(host.startswith("/") for host, _ in hosts))
        password = self.values.get("password")
        if password is None and not self.problems:
            password = self.password_from_file(hosts, user, database)
        if self.problems:
            # No problem quotes a secret; if one also stands in a value that is quoted, this hides it. What is in
            # the example ("postgres", "password") is left, or the example would be no help.
            secrets = (self.values.get(key, "") for key in ("password", "sslpassword"))
            hide = Redactor(secret for secret in secrets if secret not in conninfo.EXAMPLE)
            raise DsnError(*map(hide, dict.fromkeys(self.problems)))
        return Dsn(
            hosts=hosts,
            user=user,
            password=None if password is None else Secret(password),
            database=database,
            params={key: value for key, value in self.values.items() if key not in _NOT_KEPT},
            ignored=tuple(dict.fromkeys(self.ignored)),
        )

    def gather(self, url: str | None) -> None:
        """Lay the URL over the service over the variables, as libpq does."""
        variables = conninfo.read_variables(self.environ)
        spelling = conninfo.Spelling(origin=self.source) if url is None else conninfo.read(url, self.source)
        layers = [spelling]
        name, origin = spelling.values.get("service"), self.source
        if name is None and "service" in variables:
            name, origin = variables["service"]
        if name is not None:
            layers.append(self.service(name, origin))
        self.take({key: value for key, (value, _) in variables.items()}, {k: o for k, (_, o) in variables.items()})
        for layer in reversed(layers):
            self.take(layer.values, dict.fromkeys(layer.values, layer.origin))
        for key in [key for key, value in self.values.items() if not conninfo.is_text(value)]:
            self.wrong(key, "it is not UTF-8 text")
            del self.values[key]
        for layer in layers:
            self.problems += layer.problems
            self.ignored += layer.ignored

    def take(self, values: Mapping[str, str], origins: Mapping[str, str]) -> None:
        """Lay values over those from before, with where each comes from."""
        self.values.update(values)
        self.origins.update(origins)

    def wrong(self, key: str, problem: str) -> None:
        """Note a problem with a parameter under the name that it came from: `PGPORT: ...`, `DATABASE_URL: port ...`."""
        origin = self.origins.get(key, self.source)
        self.problems.append(
            f"{origin}: {problem}" if origin == conninfo.VARIABLES.get(key) else f"{origin}: {key}: {problem}"
        )

    def service(self, name: str, origin: str) -> conninfo.Spelling:
        """Find a service in the user's file, then in the system's."""
        given = self.environ.get("PGSERVICEFILE")
        system = self.environ.get("PGSYSCONFDIR")
        paths = [given or f"{self.home}/.pg_service.conf", *([f"{system}/pg_service.conf"] if system else [])]
        reasons = []
        for path in paths:
            try:
                text = self.read_file(self.expand(path))
            except (OSError, UnicodeError) as error:
                reasons.append(f"{path}: {_reason(error)}")
                continue
            spelling = conninfo.read_service(text, name, f"service {name!r} in {path}")
            if spelling is not None:
                return spelling
            reasons.append(f"{path}: has no [{name}]")
        nothing = conninfo.Spelling(origin=origin)
        nothing.add_problem(
            f"service {name!r} is not found ({', '.join(reasons)}): set PGSERVICEFILE to the file that has it"
        )
        return nothing

    def hosts(self) -> tuple[tuple[str, int], ...]:
        """Pair hosts and ports: one port for all, or one for each; an empty one is 5432."""
        host_key = "hostaddr" if "hostaddr" in self.values else "host"
        names = [name.strip() for name in self.values.get(host_key, "").split(",")]
        if names == [""]:
            names = list(DEFAULT_HOSTS)
            host_key = "port"
        ports = self.values.get("port", "").split(",")
        if len(ports) == 1:
            ports *= len(names)
        if len(ports) != len(names):
            self.wrong(
                "port", f"{len(ports)} ports do not match {len(names)} hosts: give one port, or one for each host"
            )
            ports = [""] * len(names)
        if len(names) > 1 and "" in names:
            self.wrong(host_key, "a host in the list is empty: write host1,host2")
        return tuple(self.host(host_key, name, port) for name, port in zip(names, ports, strict=True))

    def host(self, key: str, name: str, port: str) -> tuple[str, int]:
        """Read one host with its port, which the host's own text may hold."""
        if match := re.fullmatch(r"(/.*)/\.s\.PGSQL\.(\d+)", name):  # the socket itself in place of its folder
            name, port = match[1], match[2]
        elif match := re.fullmatch(r"\[([^\]]+)\](?::(\d+))?|([^:/@]+):(\d+)", name):  # SQLAlchemy's ?host=a:1
            name, port = match[1] or match[3], match[2] or match[4] or port
        if name.startswith("@"):
            self.wrong(key, "asyncpg cannot reach an abstract socket: write the folder of a socket, /run/postgresql")
        elif not name.startswith("/") and re.search(r"[\s@/]", name):
            self.wrong(
                key,
                "it is neither a host's name nor the absolute folder of a socket: write db.example or /run/postgresql",
            )
        port = port.strip()
        if not port:
            return name, DEFAULT_PORT
        number = int(port) if re.fullmatch(r"[0-9]{1,5}", port) else 0
        if not 1 <= number <= 65535:  # noqa: PLR2004  (what TCP has)
            # Not quoted: where "@host" was forgotten, the password stands in the port's place.
            self.wrong("port", f"it is not a number from 1 to 65535: write {conninfo.EXAMPLE}")
        return name, number

    def check_words(self) -> None:
        """Check what has a fixed set of words or has to be a number, and what asyncpg cannot do."""
        for key, choices in _CHOICES.items():
            value = self.values.get(key)
            if value is not None and value not in choices:
                self.wrong(key, f"{value!r} is not one of {', '.join(choices)}")
        for key in _NUMBERS:
            value = self.values.get(key)
            if value is not None and not re.fullmatch(r"-?[0-9]{1,9}", value.strip()):
                self.wrong(key, f"{value!r} is not a whole number: write {key}=10")
        if self.values.get("gssencmode") == "require":
            self.wrong("gssencmode", "asyncpg cannot encrypt by GSSAPI: write sslmode=require and leave gssencmode out")
        if "hostaddr" in self.values and "host" in self.values and self.values.get("sslmode") == "verify-full":
            self.wrong(
                "hostaddr", "asyncpg cannot check a certificate for another name than it connects to: leave it out"
            )
        if "sslpassword" in self.values:
            self.wrong("sslpassword", "pg_dump takes no key's password: write an sslkey that is not encrypted")

    def check_tls(self, *, tcp: bool) -> None:
        """Find the certificates now: a missing one would look to asyncpg's caller like a missing socket."""
        system_roots = self.values.get("sslrootcert") == "system"
        mode = self.values.setdefault("sslmode", "verify-full" if system_roots else "prefer")
        if system_roots and mode != "verify-full":
            self.wrong("sslmode", f"{mode!r} is too weak for sslrootcert=system: write sslmode=verify-full")
        if self.values.get("sslnegotiation") == "direct" and mode not in VERIFYING:
            self.wrong("sslnegotiation", "direct needs sslmode=require, verify-ca or verify-full")
        if not tcp or mode == "disable":
            self.check_what_asyncpg_ignores(verified=False)
            return
        if mode in VERIFYING and not system_roots:
            found = self.file("sslrootcert", "root.crt")
            if not found and mode != "require" and "sslrootcert" not in self.values:
                self.wrong(
                    "sslrootcert", f"sslmode={mode} needs it: write sslrootcert=/path/to/ca.crt, or sslrootcert=system"
                )
            self.file("sslcrl", "root.crl")
        verified = mode in VERIFYING and (system_roots or "sslrootcert" in self.values)
        self.check_what_asyncpg_ignores(verified=verified)
        if self.values.get("sslcertmode") != "disable" and self.file("sslcert", "postgresql.crt"):
            if ":" in self.values.get("sslkey", ""):
                self.wrong("sslkey", "asyncpg cannot use a key in an OpenSSL engine: write the path of a key file")
            elif not self.file("sslkey", "postgresql.key") and "sslkey" not in self.values:
                self.wrong("sslkey", "sslcert is of no use without its key: write sslkey=/path/to/client.key")

    def check_what_asyncpg_ignores(self, *, verified: bool) -> None:
        """Refuse what would keep the password from a false server, and is not kept; a verified certificate does it too.

        PostgreSQL manual, 'Parameter Key Words': channel_binding, require_auth, requirepeer.
        """
        unsupported = {"channel_binding": "require", "require_auth": None, "requirepeer": None}
        asked = [key for key, word in unsupported.items() if key in self.values and word in {None, self.values[key]}]
        if verified:
            self.ignored += asked
            return
        for key in asked:
            self.wrong(
                key,
                "asyncpg cannot do that: let TLS prove the server instead, with sslmode=verify-full and"
                " sslrootcert=/path/to/ca.crt (or sslrootcert=system), or leave it out",
            )

    def file(self, key: str, usual: str) -> bool:
        """Tell whether a file is there: the one given, which has to be, or libpq's usual one in ~/.postgresql."""
        given = self.values.get(key)
        path = self.expand(given) if given is not None else f"{self.home}/.postgresql/{usual}"
        try:
            self.read_file(path)
        except UnicodeError:
            pass  # it is there; OpenSSL will report what is wrong with it
        except OSError as error:
            if given is not None or error.errno == errno.EINVAL:  # no file: asyncpg would wait for what comes out of it
                self.wrong(key, f"cannot read {path}: {_reason(error)}")
            return False
        self.values[key] = path
        return True

    def password_from_file(self, hosts: tuple[tuple[str, int], ...], user: str, database: str) -> str | None:
        """Look the password up ourselves: asyncpg does not undo the backslashes of a passfile.

        Its permissions are not looked at, as libpq would: a mounted secret is often readable to its group.
        """
        path = self.expand(self.values.get("passfile", f"{self.home}/.pgpass"))
        if "passfile" in self.values:
            self.values["passfile"] = path
        try:
            text = self.read_file(path)
        except FileNotFoundError:
            return None  # as good as empty, to libpq too
        except (OSError, UnicodeError) as error:
            if "passfile" in self.values:
                self.wrong("passfile", f"cannot read {path}: {_reason(error)}")
            return None
        names = self.values.get("host", "").split(",") if "hostaddr" in self.values else []
        if len(names) != len(hosts) or not all(names):  # a passfile is asked by name, where there is one
            names = [host for host, _ in hosts]
        found = [
            conninfo.find_password(text, host=host, port=port, database=database, user=user)
            for host, (_, port) in zip(names, hosts, strict=True)
        ]
        different = {password for password in found if password is not None}
        if len(different) > 1:
            self.wrong(
                "passfile", f"{path} has different passwords for the hosts: name one host, or give them one password"
            )
        return next(iter(different), None)

    def expand(self, path: str) -> str:
        """Put the home folder in the place of `~`, which libpq would leave as it is."""
        return f"{self.home}{path[1:]}" if path.startswith("~/") and self.home else path


def _reason(error: Exception) -> str:
    """Say why a file could not be read, without quoting a byte of it."""
    return error.strerror or type(error).__name__ if isinstance(error, OSError) else "it is not UTF-8 text"
