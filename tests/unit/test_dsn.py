"""One parse, three consumers: whatever the spelling, they mean the same server."""

from __future__ import annotations

import asyncio
import json
import ssl
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote, quote_plus

import asyncpg
import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from sqlalchemy.dialects.postgresql.asyncpg import dialect as asyncpg_dialect
from sqlalchemy.engine import make_url

from headstart.dsn import DEFAULT_HOSTS, Dsn, DsnError, Secret, without_libpq_variables
from headstart.errors import ConfigurationError

NASTY = "p@ss:/w%"
AWKWARD = "@:/?#%&=+,;'\"\\[]{}()<>|*~!$^` \tä€🐘aZ09"

words = st.text(st.sampled_from(AWKWARD) | st.characters(codec="utf-8", exclude_characters="\0\r\n"), min_size=1)
names = words.filter(lambda word: word == word.strip())
# Begins and ends with what is in no message, so that a test can tell whether it is quoted.
passwords = words.map(lambda word: f"ZqX{word}XqZ")
hosts = st.sampled_from(["db", "db.example", "10.0.0.1", "::1", "fe80::1", "/run/postgresql", "/tmp/a b"])  # noqa: S108
places = st.lists(st.tuples(hosts, st.integers(1, 65535)), min_size=1, max_size=3)


def no_files(path: str) -> str:
    raise FileNotFoundError(2, "No such file or directory", path)


def parse(url: str | None, environ: Mapping[str, str] | None = None, files: Mapping[str, str] | None = None) -> Dsn:
    def read_file(path: str) -> str:
        return files[path] if files is not None and path in files else no_files(path)

    return Dsn.parse(url, environ or {}, read_file=read_file, default_user="me")


def problems(url: str | None, environ: Mapping[str, str] | None = None, files: Mapping[str, str] | None = None) -> str:
    with pytest.raises(DsnError) as caught:
        parse(url, environ, files)
    assert caught.value.problems
    assert all("\n" not in problem for problem in caught.value.problems)
    return "; ".join(caught.value.problems)


def q(text: str) -> str:
    return quote(text, safe="")


def netloc(place: tuple[str, int]) -> str:
    host, port = place
    return f"[{host}]:{port}" if ":" in host else f"{q(host)}:{port}"


def pair(key: str, value: str) -> str:
    escaped = value.replace("\\", "\\\\").replace("'", "\\'")
    return f"{key}='{escaped}'"


def spellings(places: list[tuple[str, int]], user: str, password: str, database: str) -> list[tuple[str | None, Any]]:
    """Every way to say the same, with the variables that belong to it."""
    at = ",".join(map(netloc, places))
    listed = {"host": ",".join(host for host, _ in places), "port": ",".join(str(port) for _, port in places)}
    every = "".join(f"%{byte:02x}" for byte in password.encode())
    pg = {"PGHOST": listed["host"], "PGPORT": listed["port"], "PGUSER": user}
    pg |= {"PGPASSWORD": password, "PGDATABASE": database}
    urls = [
        f"{scheme}://{q(user)}:{q(password)}@{at}/{q(database)}"
        for scheme in (
            "postgres",
            "postgresql",
            "postgresql+asyncpg",
            "postgresql+psycopg",
            "postgresql+psycopg2",
            "postgresql+psycopg_async",
            "postgresql+pg8000",
        )
    ]
    urls += [
        f"postgresql://{q(user)}:{every}@{at}/{q(database)}",
        f"postgresql:///?host={q(listed['host'])}&port={listed['port']}"
        f"&user={q(user)}&password={q(password)}&dbname={q(database)}",
        f"postgresql+asyncpg://{q(user)}:{q(password)}@/{q(database)}?"
        + "&".join(f"host={quote_plus(host)}" for host, _ in places)
        + f"&port={quote_plus(listed['port'])}",
        " ".join(
            pair(*item) for item in {**listed, "user": user, "password": password, "dbname": database}.items()
        ),
    ]
    spelled: list[tuple[str | None, Any]] = [(url, {}) for url in urls]
    spelled += [
        (None, pg),
        (f"postgresql://{at}/{q(database)}", {"PGUSER": user, "PGPASSWORD": password}),
        (f"postgresql://{q(user)}@/{q(database)}", pg | {"PGUSER": "other", "PGDATABASE": "other"}),
    ]
    return spelled


class TestSpellings:
    @given(places, names, words, names)
    @example([("db", 5432)], "user", NASTY, "app")
    @example([("a", 1), ("::1", 2), ("/run/x", 3)], "us er@tenant", NASTY, "d/b?#")
    @example([("db", 5432)], "u", "%41 %2541", "d")
    def test_all_mean_the_same(
        self, places: list[tuple[str, int]], user: str, password: str, database: str
    ) -> None:
        """A server, a user, a password and a database are the same Dsn in whatever spelling they come."""
        wanted = (tuple(places), user, Secret(password), database)
        for url, environ in spellings(places, user, password, database):
            dsn = parse(url, environ)
            assert (dsn.hosts, dsn.user, dsn.password, dsn.database) == wanted, url

    @pytest.mark.parametrize(
        ("url", "password"),
        [
            ("postgresql://u:p%w@h/d", "p%w"),
            ("postgresql://u:p#w@h/d", "p#w"),
            ("postgresql://u:a+b@h/d", "a+b"),
            ("postgresql://u:p/w@h/d", "p/w"),
            ("postgresql://u:p?w@h/d", "p?w"),
            ("postgresql://u:a:b@h/d", "a:b"),
            ("postgresql+asyncpg://u@h/d?password=a+b", "a b"),
            ("postgresql://u@h/d?password=a+b", "a+b"),
        ],
    )
    def test_raw_characters_that_libpq_or_sqlalchemy_take(self, url: str, password: str) -> None:
        """A character that was not encoded is taken where libpq or SQLAlchemy take it, and as they do."""
        dsn = parse(url)
        assert (dsn.user, dsn.hosts, dsn.password) == ("u", (("h", 5432),), Secret(password))

    def test_white_space_around_is_not_part_of_it(self) -> None:
        """The line break at the end of a secret is not part of the database's name."""
        assert parse(" postgresql://u@h/d\n").database == "d"

    def test_the_query_wins_over_the_authority(self) -> None:
        """As in libpq, a host in the query replaces the one before the path, which keeps giving the port."""
        dsn = parse("postgresql://u@localhost:5433/db?host=/run/postgresql")
        assert dsn.hosts == (("/run/postgresql", 5433),)

    @pytest.mark.parametrize(
        ("url", "hosts"),
        [
            ("postgresql://a,b:2/d", (("a", 5432), ("b", 2))),
            ("postgresql:///d?host=a,b&port=7", (("a", 7), ("b", 7))),
            ("postgresql+psycopg://u@/d?host=a:1&host=b:2", (("a", 1), ("b", 2))),
            ("postgresql+psycopg://u@/d?host=[::1]:5&host=b", (("::1", 5), ("b", 5432))),
            ("postgresql://%2Frun%2Fx/d", (("/run/x", 5432),)),
            ("postgresql:///d?host=/run/x/.s.PGSQL.5499", (("/run/x", 5499),)),
            ("host=a hostaddr=10.0.0.1", (("10.0.0.1", 5432),)),
            ("postgresql:///d", tuple((host, 5432) for host in DEFAULT_HOSTS)),
            ("postgresql://:6000/d", tuple((host, 6000) for host in DEFAULT_HOSTS)),
        ],
    )
    def test_hosts_and_ports(self, url: str, hosts: tuple[tuple[str, int], ...]) -> None:
        """Hosts are paired with their ports by libpq's rules, and none means the usual sockets, then localhost."""
        assert parse(url).hosts == hosts

    def test_names_default_to_the_user(self) -> None:
        """Without a name the system's user is taken, and without a database the user's name, as in libpq."""
        assert (parse("postgresql://h").user, parse("postgresql://h").database) == ("me", "me")
        assert parse("postgresql://u@h", {"PGUSER": "x"}).database == "u"

    def test_empty_variables_say_nothing(self) -> None:
        """A variable that is set but empty is as good as none."""
        assert parse("postgresql://u@h/d", {"PGPORT": "", "PGPASSWORD": ""}) == parse("postgresql://u@h/d")


class TestParameters:
    def test_libpq_parameters_are_kept_by_name(self) -> None:
        """What libpq knows is kept under libpq's name, from the URL first and from PG* for the rest."""
        environ = {"PGAPPNAME": "other", "PGCONNECT_TIMEOUT": "7", "PGTARGETSESSIONATTRS": "primary"}
        dsn = parse("postgresql://u@h/d?application_name=a%20b&sslmode=disable", environ)
        assert dsn.params == {
            "application_name": "a b",
            "sslmode": "disable",
            "connect_timeout": "7",
            "target_session_attrs": "primary",
        }
        assert dsn.connect_timeout == 7.0

    @pytest.mark.parametrize(
        ("query", "params"),
        [
            ("ssl=require", {"sslmode": "require"}),
            ("ssl=true", {"sslmode": "require"}),
            ("ssl=false", {"sslmode": "disable"}),
            ("sslmode=verify_full&sslrootcert=system", {"sslmode": "verify-full", "sslrootcert": "system"}),
            ("sslrootcert=system", {"sslmode": "verify-full", "sslrootcert": "system"}),
            ("timeout=5", {"connect_timeout": "5", "sslmode": "prefer"}),
            ("direct_tls=true&sslmode=require", {"sslnegotiation": "direct", "sslmode": "require"}),
            ("options=-csearch_path%3Da", {"options": "-csearch_path=a", "sslmode": "prefer"}),
            ("options=-c+a%3Db+-c+c%3Dd", {"options": "-c a=b -c c=d", "sslmode": "prefer"}),
            ("options=endpoint%3Dep-1", {"options": "endpoint=ep-1", "sslmode": "prefer"}),
            ("search_path=a,b%20c&jit=off", {"options": r"-c search_path=a,b\ c -c jit=off", "sslmode": "prefer"}),
        ],
    )
    def test_words_of_other_drivers(self, query: str, params: dict[str, str]) -> None:
        """What asyncpg, SQLAlchemy or JDBC call by another name is understood as libpq's parameter."""
        assert parse(f"postgresql+asyncpg://u@h/d?{query}").params == params

    def test_tuning_of_a_driver_is_named_and_left_aside(self) -> None:
        """Arguments that tune a driver or pool and say nothing about the server are left aside by name."""
        dsn = parse("postgresql+asyncpg://u@h/d?prepared_statement_cache_size=0&pool_size=3&channel_binding=require")
        assert dsn.ignored == ("prepared_statement_cache_size", "pool_size", "channel_binding")

    def test_service(self) -> None:
        """A service gives what the URL leaves out, and wins over PG*."""
        files = {"/srv": "# ours\n[other]\nhost=x\n\n[app]\nhost=db\nport=6000\nuser=svc\npassword=p=w\n[z]\nuser=no\n"}
        environ = {"PGSERVICEFILE": "/srv", "PGPORT": "1", "PGDATABASE": "app", "PGSERVICE": "app"}
        for url in ("postgresql://u@?service=app", "service=app user=u"):
            dsn = parse(url, environ, files)
            assert (dsn.hosts, dsn.user, dsn.password) == ((("db", 6000),), "u", Secret("p=w"))
            assert dsn.database == "app"
        assert parse(None, environ, files).user == "svc"
        assert parse(None, {"HOME": "/h", "PGSERVICE": "app"}, {"/h/.pg_service.conf": files["/srv"]}).user == "svc"

    @given(passwords)
    @example(NASTY)
    @example("a:b\\c")
    def test_passfile(self, password: str) -> None:
        """A password is found in a passfile with its colons and backslashes, on the first line that fits."""
        escaped = password.replace("\\", "\\\\").replace(":", "\\:")
        text = f"# *:*:*:*:no\nh:5432:d:other:no\nh:*:d:u\\:v:{escaped}\n*:*:*:*:late\n"
        dsn = parse("postgresql://u%3Av@h/d", {"PGPASSFILE": "/pass"}, {"/pass": text})
        if len(text.splitlines()) == text.count("\n"):  # a passfile has no way to write a line break of any kind
            assert dsn.password == Secret(password)
        assert parse("postgresql://u@x/d?passfile=~/p", {"HOME": "/h"}, {"/h/p": text}).password == Secret("late")

    def test_passfile_of_a_socket_says_localhost(self) -> None:
        """A line for localhost is for a socket, and a missing passfile is as good as an empty one."""
        files = {"/h/.pgpass": "localhost:*:*:*:pw\n"}
        assert parse("postgresql:///d?host=/run/x", {"HOME": "/h"}, files).password == Secret("pw")
        assert parse("postgresql://h/d?passfile=/none").password is None


class TestAsyncpg:
    def test_arguments(self) -> None:
        """asyncpg is given every host, the password as it is, and no start-up parameter that nobody asked for."""
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
        """asyncpg connects to the parsed server with the parsed names, whatever PG* its process has."""
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
            with pytest.raises((OSError, asyncpg.PostgresError, asyncpg.InterfaceError)):
                await asyncpg.connect(**parse(f"{url}&options=-c%20a%3Db").asyncpg())
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
        url = f"postgresql://u@h/d?sslmode={sslmode}&sslcert=/c&sslkey=/k&sslpassword=a%26b"
        arguments = parse(url, files={"/c": "", "/k": ""}).asyncpg()
        assert arguments["ssl"] == sslmode
        assert arguments["dsn"] == "postgresql://?sslcert=%2Fc&sslkey=%2Fk&sslpassword=a%26b"


class TestTls:
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
        with pytest.raises(ConfigurationError, match="ca.crt cannot be used"):
            dsn.asyncpg()


class TestConsumers:
    @given(places, names, words, names)
    @example([("a", 1), ("::1", 2)], "u", NASTY, "d")
    def test_libpq_reads_the_same(
        self, places: list[tuple[str, int]], user: str, password: str, database: str
    ) -> None:
        """The environment for pg_dump, read back by libpq's rules, is the same Dsn."""
        dsn = parse(*spellings(places, user, password, database)[0])
        again = parse(None, dsn.libpq_env({"PGSERVICE": "none", "PGHOSTADDR": "10.9.9.9", "PGOPTIONS": "-c x=y"}))
        assert again == dsn

    @given(places, names, words, names)
    @example([("a", 1), ("::1", 2)], "u", NASTY, "d")
    @example([("/tmp/a b", 1)], "u", NASTY, "d/?")
    def test_sqlalchemy_reads_the_same(
        self, places: list[tuple[str, int]], user: str, password: str, database: str
    ) -> None:
        """SQLAlchemy's asyncpg dialect makes the same hosts, user and database of the URL, which has no password."""
        dsn = parse(*spellings(places, user, password, database)[0])
        url = make_url(dsn.sqlalchemy_url())
        _, arguments = asyncpg_dialect().create_connect_args(url)
        found, ports = arguments["host"], arguments["port"]
        both = zip(found, ports, strict=True) if isinstance(found, list) else [(found, ports)]
        assert [(host, int(port)) for host, port in both] == places
        assert (arguments["user"], arguments["database"]) == (user, database)
        assert url.password is None

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
        assert dsn.with_database("e").with_host("b", 7) == msgspec.structs.replace(
            dsn, database="e", hosts=(("b", 7),)
        )


class TestSecrecy:
    @given(places, names, passwords, names)
    def test_a_dsn_does_not_show_its_password(
        self, places: list[tuple[str, int]], user: str, password: str, database: str
    ) -> None:
        """Neither the repr nor what is displayed nor SQLAlchemy's URL holds the password, and JSON refuses it."""
        dsn = parse(*spellings(places, user, password, database)[0])
        assert all("ZqX" not in shown for shown in (repr(dsn), str(dsn), f"{dsn}", dsn.display(), dsn.sqlalchemy_url()))
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

    @given(
        passwords,
        st.sampled_from(["postgresql://u:", "postgres://", "postgresql+asyncpg://u:p@ss", "u:", "mysql://u:"]),
        st.sampled_from(["", "/db", "@h/db", "@h:x/db", "@h/db?sslmode=x", "@h/db?zz=1", "@h:1,2/d"]),
    )
    @example("p@ss:/w%", "postgresql://u:", "@h/db")
    def test_no_problem_quotes_a_raw_password(self, password: str, start: str, rest: str) -> None:
        """However a URL with an unencoded password comes apart, the pieces are in no problem."""
        said = problems(f"{start}{password}{rest}", {"PGCONNECT_TIMEOUT": "x"})
        assert not any(piece in said for piece in ("ZqX", "XqZ", password))

    @given(passwords, st.sampled_from(["postgresql://u:", "postgresql+asyncpg://u:p@ss", "postgresql://:"]))
    @example("p@ss:/w%", "postgresql://u:")
    def test_no_piece_of_a_raw_password_is_taken_for_a_name(self, password: str, start: str) -> None:
        """A URL with an unencoded password is read whole or refused: no piece of it becomes a host or a database."""
        try:
            dsn = parse(f"{start}{password}@h/db")
        except DsnError:
            return
        assert (dsn.hosts, dsn.database) == ((("h", 5432),), "db")

    @given(st.text())
    @example("host=h password=ZqX XqZ=1 ZqXX")
    @example("postgresql://h/?password=ZqX&XqZ=1")
    @example("postgresql://%00@h")
    @example("postgresql://\udcff@h")
    @example("host='")
    def test_any_text_is_a_dsn_or_problems(self, text: str) -> None:
        """Any text is either understood or refused with one-line problems that name the variable."""
        try:
            parse(text)
        except DsnError as error:
            assert error.problems
            for problem in error.problems:
                assert problem.startswith("DATABASE_URL: ")
                assert "\n" not in problem
                assert "XqZ" not in problem


class TestProblems:
    @pytest.mark.parametrize(
        ("url", "said"),
        [
            ("", "neither a URL nor key=value"),
            ("db.example/app", "neither a URL nor key=value"),
            ("mysql://u@h/d", "scheme 'mysql' is not Postgres"),
            ("jdbc:postgresql://h/d", "JDBC"),
            ("'postgresql://h/d'", "quotation mark"),
            ("postgresql://u@h/d\nx", "line break"),
            ("postgresql://u:p@ss@h/d", "@ is %40"),
            ("postgresql://u:1/2@h/d", "@ is %40"),
            ("postgresql://u@h/d/e", "/ is %2F"),
            ("postgresql://u:secret/d", "port: it is not a number from 1 to 65535"),
            ("postgresql://u@h:0/d", "port: it is not a number from 1 to 65535"),
            ("postgresql://u@h:65536/d", "port: it is not a number from 1 to 65535"),
            ("postgresql://u@::1/d", "[::1]:5432"),
            ("postgresql://u@a,,b/d", "host1:5432,host2:5432"),
            ("postgresql://u@/d?host=a,b&port=1,2,3", "3 ports do not match 2 hosts"),
            ("postgresql://u@/d?host=run/x", "absolute folder of a socket"),
            ("postgresql://u@/d?host=@abstract", "abstract socket"),
            ("postgresql://u%FF@h/d", "its user is not percent-encoded UTF-8"),
            ("postgresql://u@h/d?sslmode", "part 1 of its query has no '='"),
            ("postgresql://u@h/d?a=%FF", "part 1 of its query is not percent-encoded"),
            ("postgresql://u@h/d?sslmod=require", "did you mean 'sslmode'?"),
            ("postgresql://u@h/d?sslmode=requre", "'requre' is not one of disable, allow, prefer, require"),
            ("postgresql://u@h/d?wibble=1", "the parameter 'wibble' is not known"),
            ("postgresql://u@h/d?connect_timeout=5s", "'5s' is not a whole number: write connect_timeout=10"),
            ("postgresql://u@h/d?target_session_attrs=master", "'master' is not one of any, primary"),
            ("postgresql://u@h/d?replication=database", "cannot run migrations"),
            ("postgresql://u@h/d?gssencmode=require", "GSSAPI"),
            ("postgresql://u@h/d?sslnegotiation=direct", "needs sslmode=require"),
            ("postgresql://u@h/d?service=none", "service 'none' is not found"),
            ("host=a hostaddr=10.0.0.1 sslmode=verify-full sslrootcert=system", "hostaddr"),
            ("host=h password", "pair 2 cannot be read"),
            ("host='h", "pair 1 cannot be read"),
        ],
    )
    def test_each_says_what_and_how(self, url: str, said: str) -> None:
        """Each malformed text is refused by what is wrong with it and what would be right."""
        assert said in problems(url)

    def test_all_at_once_and_by_the_name_that_said_it(self) -> None:
        """Every problem is told at once, each under the variable or file that has to be corrected."""
        files = {"/srv": "[app]\ngssencmode=no\nwhat\n"}
        environ = {"PGSERVICEFILE": "/srv", "PGPORT": "x", "PGCONNECT_TIMEOUT": "soon", "PGSSLMODE": "\udcff"}
        said = problems("postgresql://h?service=app&sslmode=maybe", environ, files).split("; ")
        assert sorted(problem.partition(": ")[0] for problem in said) == sorted([
            "PGPORT",
            "DATABASE_URL",
            "service 'app' in /srv",
            "service 'app' in /srv",
            "PGCONNECT_TIMEOUT",
        ])

    def test_a_passfile_that_says_two_things(self) -> None:
        """Different passwords for the hosts of one URL are refused: one connection has one password."""
        files = {"/p": "a:*:*:*:one\nb:*:*:*:two\n"}
        said = problems("postgresql://a,b/d?passfile=/p", files=files)
        assert "different passwords" in said
        assert "one" not in said.replace("one host", "").replace("one password", "")
