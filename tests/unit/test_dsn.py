"""One parse: whatever the spelling, it is the same Dsn, or every problem without a secret."""

from __future__ import annotations

import contextlib

import hypothesis
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from headstart.log.secret import Secret
from headstart.settings.dsn import DEFAULT_HOSTS, DsnError
from headstart.settings.resolve import parse_dsn
from support.damage import damaged
from support.spellings import NASTY, names, parse, passwords, places, problems, spellings, words

relaxed = hypothesis.settings(deadline=None)  # a busy machine is not a slow parser


SERVICES = b"[a]\nhost=h\nport=1\npassword=x\n# c\n[b]\nuser=u\nssl=true\n"
PASSFILE = b"h:5432:*:u:p\\:w\n*:*:*:*:x\n"


class TestSpellings:
    """What a text in any spelling says."""

    @relaxed
    @given(places, names, words, names)
    @example([("db", 5432)], "user", NASTY, "app")
    @example([("a", 1), ("::1", 2), ("/run/x", 3)], "us er@tenant", NASTY, "d/b?#")
    @example([("db", 5432)], "u", "%41 %2541", "d")
    def test_all_mean_the_same(self, places: list[tuple[str, int]], user: str, password: str, database: str) -> None:
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
    """What is said besides server, user, password and database."""

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
        dsn = parse("postgresql+asyncpg://u@h/d?prepared_statement_cache_size=0&pool_size=3")
        assert dsn.ignored == ("prepared_statement_cache_size", "pool_size")

    @pytest.mark.parametrize("query", ["channel_binding=require", "require_auth=scram-sha-256", "requirepeer=postgres"])
    def test_what_proves_the_server_is_kept_or_refused(self, query: str) -> None:
        """What asyncpg does not do is refused, unless a certificate proves the server."""
        for start in ("u@h/d?", "u@h/d?sslmode=require&", "u@/d?host=/run/pg&", "u@h/d?sslmode=disable&"):
            with pytest.raises(DsnError, match=query.partition("=")[0]):
                parse(f"postgresql://{start}{query}")
        dsn = parse(f"postgresql://u@h/d?sslrootcert=system&{query}")
        assert dsn.ignored == (query.partition("=")[0],)
        ca = {"/ca.crt": "-"}
        assert parse(f"postgresql://u@h/d?sslmode=verify-ca&sslrootcert=/ca.crt&{query}", files=ca).ignored
        assert parse("postgresql://u@h/d?channel_binding=prefer").ignored == ()

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

    @relaxed
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


class TestBrokenOpen:
    """Where a password that was not encoded ends up."""

    @relaxed
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

    @relaxed
    @given(passwords, st.sampled_from(["postgresql://u:", "postgresql+asyncpg://u:p@ss", "postgresql://:"]))
    @example("p@ss:/w%", "postgresql://u:")
    def test_no_piece_of_a_raw_password_is_taken_for_a_name(self, password: str, start: str) -> None:
        """A URL with an unencoded password is read whole or refused: no piece of it becomes a host or a database."""
        try:
            dsn = parse(f"{start}{password}@h/db")
        except DsnError:
            return
        assert (dsn.hosts, dsn.database) == ((("h", 5432),), "db")

    @relaxed
    @given(damaged(SERVICES), damaged(PASSFILE))
    def test_any_file_is_read_or_a_problem(self, services: bytes, passfile: bytes) -> None:
        """So is a service file or a passfile, whatever it holds."""
        files = {"services": services, "passfile": passfile}

        def read_file(path: str) -> str:
            if path not in files:
                raise FileNotFoundError
            return files[path].decode()

        environ = {"PGSERVICE": "a", "PGSERVICEFILE": "services", "PGPASSFILE": "passfile"}
        with contextlib.suppress(DsnError):
            parse_dsn(None, environ, read_file=read_file, default_user="me")

    @relaxed
    @given(st.text())
    @example("host=h password=ZqX XqZ=1 ZqXX")
    @example("postgresql://h/?password=ZqX&XqZ=1")
    @example("postgresql://%00@h")
    @example("postgresql://\udcff@h")
    @example("host='")
    def test_any_text_is_a_dsn_or_problems(self, text: str) -> None:
        """Any text is either understood or refused with one-line problems that name the variable."""
        told: tuple[str, ...] = ()
        try:
            parse(text)
        except DsnError as error:
            told = error.problems or ("none",)
        for problem in told:
            assert problem.startswith("DATABASE_URL: ")
            assert "\n" not in problem
            assert "XqZ" not in problem


class TestProblems:
    """What is told of a text that cannot be used."""

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
            ("postgresql://u@h/d?sslmod=require", "did you mean sslmode?"),
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
        assert sorted(problem.partition(": ")[0] for problem in said) == sorted(
            [
                "PGPORT",
                "DATABASE_URL",
                "service 'app' in /srv",
                "service 'app' in /srv",
                "PGCONNECT_TIMEOUT",
            ]
        )

    def test_a_passfile_that_says_two_things(self) -> None:
        """Different passwords for the hosts of one URL are refused: one connection has one password."""
        files = {"/p": "a:*:*:*:one\nb:*:*:*:two\n"}
        said = problems("postgresql://a,b/d?passfile=/p", files=files)
        assert "different passwords" in said
        assert "one" not in said.replace("one host", "").replace("one password", "")
