"""One `Dsn`: any spelling of a connection in; asyncpg's arguments, SQLAlchemy's URL and libpq's environment out.

Parsed once, and everything resolved then (`resolve.py`): service, passfile, defaults, certificates in their usual
places. What comes out is explicit for each of the three, so that they mean the very same server, whatever else their
environment holds.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final
from urllib.parse import quote, urlencode

import msgspec

from headstart.errors import ConfigurationError
from headstart.log.secret import Secret
from headstart.settings import conninfo

# Used where no host is given: the usual folders for the socket, then TCP. libpq has one of them compiled in, which
# differs from build to build; a fixed list is the same for asyncpg and for each pg_dump.
DEFAULT_HOSTS: Final = ("/var/run/postgresql", "/run/postgresql", "/tmp", "localhost")  # noqa: S108  (a socket's place)
VERIFYING: Final = ("require", "verify-ca", "verify-full")  # the modes that look at the server's certificate, or may


class DsnError(ConfigurationError):
    """The database's address is not usable. `problems` lists every reason, each with the name to set."""


class Dsn(msgspec.Struct, frozen=True, kw_only=True):
    """Which server, which database, as whom.

    Args:
        hosts: in the order to try them: a name, an address or the absolute folder of a socket, each with its port.
        user: the role.
        password: None if none was given or found in a passfile.
        database: its name.
        params: libpq's other parameters by libpq's names, `sslmode` always among them; paths are absolute or as given.
        ignored: names of parameters that were given and have no effect on the connection that migrates.
    """

    hosts: tuple[tuple[str, int], ...]
    user: str
    password: Secret | None = None
    database: str
    params: Mapping[str, str] = {}
    ignored: tuple[str, ...] = ()

    @property
    def connect_timeout(self) -> float | None:
        """Seconds for one attempt on one host, None if the URL does not limit them."""
        seconds = int(self.params.get("connect_timeout", "0"))
        return float(seconds) if seconds > 0 else None

    @property
    def over_tcp(self) -> bool:
        """Whether any host is reached over TCP, where TLS has a meaning."""
        return not all(host.startswith("/") for host, _ in self.hosts)

    def asyncpg(self) -> dict[str, object]:
        """Give the arguments for `asyncpg.connect`, none left for it to look up in the process's environment.

        With `sslmode` of require and above this reads the certificates.

        Raises:
            ConfigurationError: a certificate or key cannot be read.
        """
        sslmode = self.params.get("sslmode", "prefer")
        arguments: dict[str, object] = {
            "host": [host for host, _ in self.hosts],
            "port": [port for _, port in self.hosts],
            "user": self.user,
            # None would send asyncpg to PGPASSWORD and ~/.pgpass again; it sends "" to the server for None, too.
            "password": "" if self.password is None else self.password.reveal(),
            "database": self.database,
            "ssl": False,
            "direct_tls": False,
            "target_session_attrs": self.params.get("target_session_attrs", "any"),
            "krbsrvname": self.params.get("krbsrvname", "postgres"),
            "gsslib": self.params.get("gsslib", "gssapi"),
            # Nothing that was not asked for: PgBouncer refuses start-up parameters that it does not know.
            "server_settings": {key: self.params[key] for key in ("application_name", "options") if key in self.params},
        }
        if self.connect_timeout is not None:
            arguments["timeout"] = self.connect_timeout
        if self.over_tcp and sslmode in VERIFYING:
            from headstart.settings.tls import context

            arguments["ssl"] = context(self.params)
            arguments["direct_tls"] = self.params.get("sslnegotiation") == "direct"
        elif self.over_tcp and sslmode != "disable":
            # Only asyncpg itself can fall back between TLS and none; it takes a client's certificate in a DSN only.
            arguments["ssl"] = sslmode
            names = ("sslcert", "sslkey", "ssl_min_protocol_version", "ssl_max_protocol_version")
            files = {name: self.params[name] for name in names if name in self.params}
            if files:
                arguments["dsn"] = f"postgresql://?{urlencode(files)}"
        return arguments

    def url(self, scheme: str = "postgresql") -> str:
        """Give the URL, password and all, that SQLAlchemy and libpq read as this very server.

        Args:
            scheme: with the driver that is to take it, if one is: `postgresql+asyncpg`.
        """
        user, database = quote(self.user, safe=""), quote(self.database, safe="")
        if self.password is not None:
            user += f":{quote(self.password.reveal(), safe='')}"
        if len(self.hosts) == 1 and not self.hosts[0][0].startswith("/"):
            return f"{scheme}://{user}@{_place(*self.hosts[0])}/{database}"
        query = urlencode({"host": ",".join(host for host, _ in self.hosts), "port": ",".join(self._ports())})
        return f"{scheme}://{user}@/{database}?{query}"

    def libpq_env(self, base: Mapping[str, str] | None = None) -> dict[str, str]:
        """Give the environment in which libpq's programs reach this very server.

        TCP keepalives have no variable and are missing from it.

        Args:
            base: the child's other variables; whatever libpq would read of them is dropped.
        """
        env = without_libpq_variables(base or {})
        env |= {conninfo.VARIABLES[key]: value for key, value in self.params.items() if key in conninfo.VARIABLES}
        env |= {
            "PGHOST": ",".join(host for host, _ in self.hosts),
            "PGPORT": ",".join(self._ports()),
            "PGUSER": self.user,
            "PGDATABASE": self.database,
            "PGSSLMODE": self.params.get("sslmode", "prefer"),
        }
        if self.password is not None:
            env["PGPASSWORD"] = self.password.reveal()
        return env

    def with_database(self, name: str) -> Dsn:
        """Give the same server with another database."""
        return msgspec.structs.replace(self, database=name)

    def with_host(self, host: str, port: int) -> Dsn:
        """Give the same database on one host alone: the one of several that answered as primary."""
        return msgspec.structs.replace(self, hosts=((host, port),))

    def display(self) -> str:
        """Give a URL to show to people: no secret, and none of the parameters."""
        start, database = f"postgresql://{quote(self.user, safe='')}@", quote(self.database, safe="")
        if tuple(host for host, _ in self.hosts) == DEFAULT_HOSTS:
            return f"{start}/{database}"
        if len(self.hosts) == 1 and self.hosts[0][0].startswith("/"):
            host, port = self.hosts[0]
            return f"{start}/{database}?host={quote(host)}&port={port}"
        return f"{start}{','.join(_place(host, port) for host, port in self.hosts)}/{database}"

    def secrets(self) -> tuple[str, ...]:
        """Give the values that must not be shown, for a `Redactor`."""
        return () if self.password is None else (self.password.reveal(),)

    def _ports(self) -> list[str]:
        return [str(port) for _, port in self.hosts]


def _place(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{quote(host, safe='')}:{port}"


def without_libpq_variables(environ: Mapping[str, str]) -> dict[str, str]:
    """Give a copy of an environment without anything by which libpq would choose or change a connection."""
    theirs = conninfo.OTHER_VARIABLES | set(conninfo.VARIABLES.values())
    return {name: value for name, value in environ.items() if name not in theirs}


def names_a_server(environ: Mapping[str, str]) -> bool:
    """Tell whether `PG*` variables alone choose a server or a database."""
    return any(environ.get(name) for name in ("PGHOST", "PGHOSTADDR", "PGSERVICE", "PGDATABASE", "PGUSER"))
