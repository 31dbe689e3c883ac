"""Three consumers that mean the same server, and none of which shows the password."""

from __future__ import annotations

import asyncio
import json
import ssl
import struct
from pathlib import Path
from typing import Any

import asyncpg
import hypothesis
import msgspec
import pytest
from hypothesis import example, given
from sqlalchemy.dialects.postgresql import asyncpg as asyncpg_dialect
from sqlalchemy.engine import make_url

from headstart.errors import ConfigurationError
from headstart.settings.dsn import without_libpq_variables
from support.spellings import NASTY, names, parse, passwords, places, problems, q, spellings, words

relaxed = hypothesis.settings(deadline=None)  # a busy machine is not a slow parser


class TestAsyncpg:
    """What asyncpg is given."""

    def test_arguments(self) -> None:
        """The driver is given every host, the password as it is, and no start-up parameter that nobody asked for."""
        arguments = parse(f"postgresql://u:{q(NASTY)}@a:1,[::1]:2/d?connect_timeout=3").asyncpg()
        assert arguments == {
            "host": ["a", "::1"],
            "port": [1, 2],
            "user": "u",
            "password": NASTY,
            "database": "d",
            "ssl": "prefer",
            "direct_tls": False,
            "target_session_attrs": "any",
            "krbsrvname": "postgres",
            "gsslib": "gssapi",
            "server_settings": {},
            "timeout": 3.0,
        }

    async def test_what_asyncpg_sends(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """The driver connects to the parsed server with the parsed names, whatever PG* its process has."""
        for name, value in {
            "PGHOST": "elsewhere.invalid",
            "PGPORT": "1",
            "PGUSER": "intruder",
            "PGDATABASE": "wrong",
            "PGPASSWORD": "wrong",
            "PGSSLMODE": "verify-full",
            "PGSSLROOTCERT": "/none",
            "PGSSLNEGOTIATION": "direct",
            "PGTARGETSESSIONATTRS": "standby",
            "PGSERVICE": "none",
            "PGKRBSRVNAME": "wrong",
        }.items():
            monkeypatch.setenv(name, value)
        seen: asyncio.Future[dict[str, str]] = asyncio.get_running_loop().create_future()
        sent: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            (length,) = struct.unpack("!i", await reader.readexactly(4))
            packet = (await reader.readexactly(length - 4))[4:].split(b"\0")
            seen.set_result(dict(zip(map(bytes.decode, packet[::2]), map(bytes.decode, packet[1::2]), strict=False)))
            writer.write(struct.pack("!cii", b"R", 8, 3))  # asks for the password in the clear
            kind, length = struct.unpack("!ci", await reader.readexactly(5))
            assert kind == b"p"
            sent.set_result((await reader.readexactly(length - 4)).rstrip(b"\0"))
            writer.close()

        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        async with server:
            port = server.sockets[0].getsockname()[1]
            url = f"postgresql://us%40er:{q(NASTY)}@127.0.0.1:{port}/d%2Fb?sslmode=disable&application_name=x"
            arguments: dict[str, Any] = parse(f"{url}&options=-c%20a%3Db").asyncpg()
            with pytest.raises((OSError, asyncpg.PostgresError, asyncpg.InterfaceError)):
                await asyncpg.connect(**arguments)
            packet = await seen
            assert await sent == NASTY.encode()
        packet.pop("client_encoding")
        packet.pop("", None)
        assert packet == {"user": "us@er", "database": "d/b", "application_name": "x", "options": "-c a=b"}

    def test_tls_has_no_meaning_on_a_socket(self) -> None:
        """On sockets alone no certificate is looked for, whatever sslmode says, as in libpq."""
        assert parse("postgresql:///d?host=/run/x&sslmode=verify-full").asyncpg()["ssl"] is False

    @pytest.mark.parametrize("sslmode", ["allow", "prefer"])
    def test_client_certificate_where_asyncpg_falls_back(self, sslmode: str) -> None:
        """For allow and prefer, which only asyncpg can do, a client's certificate goes in by asyncpg's own DSN."""
        url = f"postgresql://u@h/d?sslmode={sslmode}&sslcert=/c&sslkey=/k"
        arguments = parse(url, files={"/c": "", "/k": ""}).asyncpg()
        assert arguments["ssl"] == sslmode
        assert arguments["dsn"] == "postgresql://?sslcert=%2Fc&sslkey=%2Fk"


class TestTls:
    """What `sslmode` asks for, and where certificates come from."""

    @pytest.mark.parametrize(
        ("query", "verify_mode", "check_hostname"),
        [
            ("sslmode=require", ssl.CERT_NONE, False),
            ("sslmode=require&sslrootcert=system", None, None),
            ("sslmode=verify-full&sslrootcert=system", ssl.CERT_REQUIRED, True),
        ],
    )
    def test_modes(self, query: str, verify_mode: ssl.VerifyMode | None, *, check_hostname: bool | None) -> None:
        """Each sslmode asks of the certificate what libpq asks; system roots are for verify-full alone."""
        url = f"postgresql://u@h/d?{query}"
        if verify_mode is None:
            assert "too weak" in problems(url)
            return
        context = parse(url).asyncpg()["ssl"]
        assert isinstance(context, ssl.SSLContext)
        assert (context.verify_mode, context.check_hostname) == (verify_mode, check_hostname)
        assert context.minimum_version == ssl.TLSVersion.TLSv1_2

    def test_versions_and_direct_tls(self) -> None:
        """The versions of TLS and direct negotiation are handed on."""
        url = "postgresql://u@h/d?sslmode=require&sslnegotiation=direct&ssl_min_protocol_version=TLSv1.3"
        arguments = parse(url).asyncpg()
        assert isinstance(arguments["ssl"], ssl.SSLContext)
        assert (arguments["ssl"].minimum_version, arguments["direct_tls"]) == (ssl.TLSVersion.TLSv1_3, True)

    @pytest.mark.parametrize("key", ["sslrootcert", "sslcert", "sslkey", "sslcrl"])
    def test_a_missing_file_is_found_at_once(self, key: str) -> None:
        """A certificate that is not there is a problem with its path, before anything connects."""
        files = {f"/{name}": "" for name in ("sslrootcert", "sslcert", "sslkey", "sslcrl") if name != key}
        query = "&".join(f"{name}=/{name}" for name in ("sslrootcert", "sslcert", "sslkey", "sslcrl"))
        said = problems(f"postgresql://u@h/d?sslmode=verify-ca&{query}", files=files)
        assert said == f"DATABASE_URL: {key}: cannot read /{key}: No such file or directory"

    def test_the_usual_places(self) -> None:
        """Certificates in ~/.postgresql are found as libpq finds them, and named to every consumer."""
        files = {f"/h/.postgresql/{name}": "" for name in ("root.crt", "postgresql.crt", "postgresql.key")}
        dsn = parse("postgresql://u@h/d?sslmode=verify-ca", {"HOME": "/h"}, files)
        assert dsn.libpq_env()["PGSSLROOTCERT"] == "/h/.postgresql/root.crt"
        assert dsn.libpq_env()["PGSSLKEY"] == "/h/.postgresql/postgresql.key"

    def test_no_authority_to_verify_by(self) -> None:
        """verify-ca and verify-full without a certificate authority say what to write."""
        assert "sslrootcert=/path/to/ca.crt" in problems("postgresql://u@h/d?sslmode=verify-full")

    def test_a_key_is_needed(self) -> None:
        """A client's certificate without its key is a problem."""
        assert "sslkey=" in problems("postgresql://u@h/d?sslmode=require&sslcert=/c", files={"/c": ""})

    def test_a_file_that_is_no_certificate(self, tmp_path: Path) -> None:
        """A file that OpenSSL cannot use is a configuration error that names it."""
        wrong = tmp_path / "ca.crt"
        wrong.write_text("not a certificate")
        dsn = parse(f"postgresql://u@h/d?sslmode=verify-ca&sslrootcert={wrong}", files={str(wrong): ""})
        with pytest.raises(ConfigurationError, match=r"ca\.crt cannot be used"):
            dsn.asyncpg()


class TestConsumers:
    """What libpq's programs and SQLAlchemy are given."""

    @relaxed
    @given(places, names, words, names)
    @example([("a", 1), ("::1", 2)], "u", NASTY, "d")
    def test_libpq_reads_the_same(self, places: list[tuple[str, int]], user: str, password: str, database: str) -> None:
        """The environment for pg_dump, read back by libpq's rules, is the same Dsn."""
        dsn = parse(*spellings(places, user, password, database)[0])
        again = parse(None, dsn.libpq_env({"PGSERVICE": "none", "PGHOSTADDR": "10.9.9.9", "PGOPTIONS": "-c x=y"}))
        assert again == dsn

    @relaxed
    @given(places, names, words, names)
    @example([("a", 1), ("::1", 2)], "u", NASTY, "d")
    @example([("/srv/a b", 1)], "u", NASTY, "d/?")
    def test_sqlalchemy_reads_the_same(
        self, places: list[tuple[str, int]], user: str, password: str, database: str
    ) -> None:
        """SQLAlchemy's asyncpg dialect makes the same hosts, user, password and database of the URL."""
        dsn = parse(*spellings(places, user, password, database)[0])
        url = make_url(dsn.url("postgresql+asyncpg"))
        dialect: Any = asyncpg_dialect.dialect()  # type: ignore[no-untyped-call]
        _, arguments = dialect.create_connect_args(url)
        found, ports = arguments["host"], arguments["port"]
        both = zip(found, ports, strict=True) if isinstance(found, list) else [(found, ports)]
        assert [(host, int(port)) for host, port in both] == places
        assert (arguments["user"], arguments["database"]) == (user, database)
        assert arguments["password"] == password

    def test_nothing_of_the_environment_reaches_libpq(self) -> None:
        """What libpq would read of the parent's environment is dropped, and the rest is handed on."""
        base = {"PATH": "/bin", "PGSERVICE": "x", "PGCLIENTENCODING": "LATIN1", "PGHOSTADDR": "1.2.3.4"}
        assert without_libpq_variables(base) == {"PATH": "/bin"}
        env = parse("postgresql://u@h/d?keepalives_idle=3&application_name=x").libpq_env(base)
        assert env == {
            "PATH": "/bin",
            "PGAPPNAME": "x",
            "PGHOST": "h",
            "PGPORT": "5432",
            "PGUSER": "u",
            "PGDATABASE": "d",
            "PGSSLMODE": "prefer",
        }

    def test_another_database_and_one_host(self) -> None:
        """The database and the host can be exchanged, and everything else stays."""
        dsn = parse("postgresql://u:p@a,b/d?connect_timeout=3")
        assert dsn.with_database("e").with_host("b", 7) == msgspec.structs.replace(dsn, database="e", hosts=(("b", 7),))


class TestSecrecy:
    """Where a password must not turn up."""

    @relaxed
    @given(places, names, passwords, names)
    def test_a_dsn_does_not_show_its_password(
        self, places: list[tuple[str, int]], user: str, password: str, database: str
    ) -> None:
        """Neither the repr nor what is displayed holds the password, and JSON refuses it."""
        dsn = parse(*spellings(places, user, password, database)[0])
        assert all("ZqX" not in shown for shown in (repr(dsn), str(dsn), f"{dsn}", dsn.display()))
        with pytest.raises(TypeError):
            msgspec.json.encode(dsn)
        with pytest.raises(TypeError):
            json.dumps(msgspec.structs.asdict(dsn))
        assert dsn.secrets() == (password,)

    @pytest.mark.parametrize(
        ("url", "shown"),
        [
            ("postgresql://u:pw@h:1,[::1]:2/d", "postgresql://u@h:1,[::1]:2/d"),
            ("postgresql://u:pw@/d?host=/run/x&port=3", "postgresql://u@/d?host=/run/x&port=3"),
            ("postgresql://u:pw@/d", "postgresql://u@/d"),
        ],
    )
    def test_display(self, url: str, shown: str) -> None:
        """What is shown is a URL that psql takes, without the password."""
        assert parse(url).display() == shown
