"""A mapping becomes Settings, or every problem at once."""

from __future__ import annotations

import contextlib
import math
import subprocess
import sys
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote

import hypothesis
import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from headstart.errors import ConfigurationError
from headstart.log.secret import Secret
from headstart.settings.conninfo import EXAMPLE
from headstart.settings.durations import parse_duration
from headstart.settings.settings import Settings, load
from headstart.settings.table import SETTINGS

relaxed = hypothesis.settings(deadline=None)  # a busy machine is not slow code
URL = "postgresql://app:pw@db/app"
FLAGGED = [setting for setting in SETTINGS if setting.flag is not None]
DURATIONS = [setting for setting in SETTINGS if setting.kind == "DURATION"]


def written(milliseconds: int) -> str:
    """A duration as people write it, such as `1h30m`."""
    parts = []
    for unit, size in (("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1000), ("ms", 1)):
        number, milliseconds = divmod(milliseconds, size)
        parts += [f"{number}{unit}"] if number else []
    return "".join(parts) or "0s"


def settings(
    environ: Mapping[str, str] | None = None,
    flags: Mapping[str, str | None] | None = None,
    files: Mapping[str, str | Exception] | None = None,
    **options: Any,
) -> Settings:
    """Load settings from variables, flags and files."""

    def read_file(path: str) -> str:
        found = (files or {}).get(path, FileNotFoundError(2, "No such file or directory"))
        if isinstance(found, Exception):
            raise found
        return found

    usual = {"in_image": False, "cores": 8, "default_user": "me"}
    variables = {"DATABASE_URL": URL} if environ is None else environ
    return load(variables, flags, read_file=read_file, **{**usual, **options})


def problems(environ: Mapping[str, str], **options: Any) -> list[str]:
    """Give every problem of these variables."""
    with pytest.raises(ConfigurationError) as caught:
        settings(environ, **options)
    assert caught.value.exit == 10
    assert all("\n" not in problem for problem in caught.value.problems)
    return list(caught.value.problems)


def problem(environ: Mapping[str, str], **options: Any) -> str:
    """Give the one problem of these variables."""
    (only,) = problems(environ, **options)
    return only


class TestTable:
    """The table that parsing, help and docs are made from."""

    def test_it_describes_the_settings(self) -> None:
        """Each setting has a variable and a field of Settings; most have a flag of the same name."""
        fields = {field.name for field in msgspec.structs.fields(Settings)}
        assert {setting.field for setting in SETTINGS} | {"dsn_source", "config_explicit", "other_secrets"} == fields
        for setting in FLAGGED:
            name = setting.name.removeprefix("HEADSTART_").removeprefix("ALEMBIC_")
            assert setting.flag == f"--{name.lower().replace('_', '-')}"
        unflagged = ["DATABASE_URL", "DATABASE_DIRECT_URL", "HEADSTART_SCRATCH_URL", "HEADSTART_LEDGER"]
        assert [setting.name for setting in SETTINGS if setting.flag is None] == unflagged

    @pytest.mark.parametrize("setting", FLAGGED, ids=lambda setting: setting.name)
    def test_defaults_and_examples_are_right_values(self, setting: Any) -> None:
        """The example of each setting is understood, and the default that is shown is the one that is used."""
        setting.parse(setting.example)
        used = getattr(settings(), setting.field)
        if setting.field in {"backup_dir", "backup_jobs"}:
            assert used == {"backup_dir": Path("backups"), "backup_jobs": 4}[setting.field]
        elif setting.default.startswith("none"):
            assert used is None
        else:
            assert setting.parse(setting.default) == used == getattr(Settings(dsn=settings().dsn), setting.field)

    def test_a_meaning_is_one_line(self) -> None:
        """Each row says in one line what it is for."""
        assert all(setting.meaning and "\n" not in setting.meaning for setting in SETTINGS)


class TestPrecedence:
    """Who wins."""

    def test_flag_over_variable_over_default(self) -> None:
        """A flag wins over the variable, which wins over the default."""
        environ = {"DATABASE_URL": URL, "HEADSTART_WAIT_TIMEOUT": "5s", "HEADSTART_LOCK_TIMEOUT": "1h30m"}
        made = settings(environ, {"HEADSTART_WAIT_TIMEOUT": "0", "HEADSTART_LOCK_TIMEOUT": None})
        assert (made.wait_timeout, made.lock_timeout, made.table_lock_timeout) == (0.0, 5400.0, 5.0)

    def test_a_problem_is_told_by_the_name_that_it_came_from(self) -> None:
        """A wrong flag is told as the flag, and the variable that it replaces does not matter."""
        environ = {"DATABASE_URL": URL, "HEADSTART_WAIT_TIMEOUT": "junk"}
        assert settings(environ, {"HEADSTART_WAIT_TIMEOUT": "1s"}).wait_timeout == 1.0
        assert problem(environ, flags={"HEADSTART_WAIT_TIMEOUT": "x"}).startswith(
            "--wait-timeout: 'x' is not a duration"
        )

    def test_image_and_machine(self) -> None:
        """In the image backups have a folder of their own, and jobs follow the cores, four at most."""
        inside = settings(in_image=True, cores=2)
        assert (inside.backup_dir, inside.backup_jobs) == (Path("/backups"), 2)
        assert settings(cores=0).backup_jobs == 1

    def test_alembic_config(self) -> None:
        """Alembic's own variable names its file, and it is known whether anybody named one."""
        assert (settings().config, settings().config_explicit) == ("alembic.ini", False)
        named = settings({"DATABASE_URL": URL, "ALEMBIC_CONFIG": "db/a.ini"})
        assert (named.config, named.config_explicit) == ("db/a.ini", True)


class TestDatabase:
    """Where the database's URL comes from."""

    def test_direct_url_is_used_instead(self) -> None:
        """DATABASE_DIRECT_URL is used instead of DATABASE_URL, which may then be empty."""
        direct = {"DATABASE_DIRECT_URL": "postgresql://direct/app"}
        for other in ({"DATABASE_URL": URL}, {"DATABASE_URL": ""}, {}):
            made = settings({**direct, **other})
            assert (made.dsn.hosts, made.dsn_source) == ((("direct", 5432),), "DATABASE_DIRECT_URL")

    def test_variables_alone(self) -> None:
        """Without a URL the PG* variables say everything."""
        made = settings({"PGHOST": "db", "PGUSER": "u", "PGPASSWORD": "p"})
        assert (made.dsn.display(), made.dsn.password, made.dsn_source) == (
            "postgresql://u@db:5432/u",
            Secret("p"),
            "PG*",
        )

    @pytest.mark.parametrize("ending", ["", "\n", "\r\n"])
    def test_a_file(self, ending: str) -> None:
        """A URL is read from the file that DATABASE_URL_FILE names, without its one line break at the end."""
        made = settings({"DATABASE_URL_FILE": "/run/secrets/url"}, files={"/run/secrets/url": URL + ending})
        assert (made.dsn, made.dsn_source) == (settings().dsn, "DATABASE_URL_FILE")

    @pytest.mark.parametrize(
        ("environ", "said"),
        [
            ({}, "DATABASE_URL: it is not set: write for example DATABASE_URL=postgresql://user:password@host:5432/"),
            ({"PGPASSWORD": "x"}, "DATABASE_URL: it is not set"),
            ({"DATABASE_URL": " "}, "DATABASE_URL: it is set but empty: write for example DATABASE_URL=postgresql://"),
            ({"DATABASE_DIRECT_URL": "", "DATABASE_URL": URL}, "DATABASE_DIRECT_URL: it is set but empty"),
            ({"DATABASE_URL": URL, "DATABASE_URL_FILE": "/x"}, "DATABASE_URL: DATABASE_URL_FILE is set too"),
            ({"DATABASE_URL_FILE": ""}, "DATABASE_URL_FILE: it is set but empty"),
            ({"DATABASE_URL_FILE": "/none"}, "DATABASE_URL_FILE: cannot read '/none' (No such file or directory)"),
            ({"DATABASE_URL_FILE": "/empty"}, "DATABASE_URL_FILE: /empty is empty: write one line"),
            ({"DATABASE_URL_FILE": "/secret"}, "DATABASE_URL_FILE: cannot read '/secret' (Permission denied)"),
            ({"DATABASE_URL_FILE": "/bytes"}, "DATABASE_URL_FILE: /bytes is not UTF-8 text"),
            ({"DATABASE_URL_FILE": "/two"}, "DATABASE_URL_FILE: it has a line break"),
            ({"DATABASE_URL": "mysql://h/d"}, "DATABASE_URL: its scheme 'mysql' is not Postgres"),
            ({"DATABASE_DIRECT_URL": "what"}, "DATABASE_DIRECT_URL: it is neither a URL nor key=value pairs"),
            ({"PGHOST": "h", "PGPORT": "x"}, "PGPORT: it is not a number from 1 to 65535"),
        ],
    )
    def test_what_is_wrong_with_it(self, environ: dict[str, str], said: str) -> None:
        """A database that is missing, empty, told twice, unreadable or malformed is told with the name to set."""
        files = {
            "/empty": "\n",
            "/secret": PermissionError(13, "Permission denied"),
            "/bytes": UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid start byte"),
            "/two": f"{URL}\n{URL}\n",
        }
        assert problem(environ, files=files).startswith(said)

    def test_verbs_that_can_do_without(self) -> None:
        """A verb that needs no database gets libpq's defaults, which nobody named; a wrong URL is still told."""
        made = settings({}, require_database=False)
        assert (made.dsn.database, made.dsn_source) == ("me", "")
        assert problem({"DATABASE_URL": "x"}, require_database=False)

    def test_a_key_with_a_password(self) -> None:
        """A key's password, which pg_dump cannot be given, is refused, and not shown."""
        files = {"/c": "", "/k": ""}
        environ = {"DATABASE_URL": "postgresql://h/d?sslmode=require&sslcert=/c&sslkey=/k&sslpassword=ZqX"}
        said = problem(environ, files=files)
        assert "not encrypted" in said
        assert "ZqX" not in said

    def test_unused_secrets_are_known(self) -> None:
        """Secrets that the connection does not use are known, since env.py may use and show them."""
        made = settings({
            "DATABASE_DIRECT_URL": "postgresql://a:ZqX1@h/d",
            "DATABASE_URL": "postgresql://a:ZqX2@h/d?nonsense=1",
            "PGPASSWORD": "ZqX3",
        })  # fmt: skip
        assert set(made.secrets()) == {"ZqX1", "ZqX2", "ZqX3"}
        assert not any(secret in repr(made) for secret in made.secrets())


class TestProblems:
    """What is told of values that cannot be used."""

    @pytest.mark.parametrize(
        ("name", "value", "said"),
        [
            ("HEADSTART_WAIT_TIMEOUT", "30x", "'30x' is not a duration: write 30s, 5m, 1h30m"),
            ("HEADSTART_LOCK_TIMEOUT", "-1s", "'-1s' is not a duration"),
            ("HEADSTART_DEADLINE", "0", "0 would leave no time at all"),
            ("HEADSTART_STATEMENT_TIMEOUT", "0.1ms", "below a millisecond"),
            ("HEADSTART_TABLE_LOCK_TIMEOUT", "30d", "more than Postgres can hold"),
            ("HEADSTART_TARGET", "a b", "has a blank inside"),
            ("HEADSTART_TARGET", "-1", "run `headstart downgrade -1`"),
            ("HEADSTART_AHEAD", "maybe", "'maybe' is not one of fail, allow"),
            ("HEADSTART_BACKUP", "false", "'false' is not one of auto, always, off"),
            ("HEADSTART_BACKUP_DIR", "s3://key:ZqX@bucket", "a s3 URL is not supported"),
            ("HEADSTART_BACKUP_KEEP", "0", "'0' is not a whole number from 1"),
            ("HEADSTART_BACKUP_JOBS", "two", "'two' is not a whole number from 1 to 64"),
            ("HEADSTART_BACKUP_JOBS", "1e3", "'1e3' is not a whole number"),
            ("HEADSTART_LOG", "xml", "'xml' is not one of auto, json, console"),
            ("HEADSTART_LOG", "", "it is set but empty: write for example auto"),
            ("HEADSTART_TARGET", "", "it is set but empty: write for example head"),
            ("HEADSTART_BACKUP_DIR", "/b\udcff", "it is not UTF-8 text"),
            ("ALEMBIC_CONFIG", "  ", "it is set but empty: write for example alembic.ini"),
        ],
    )
    def test_each_says_what_and_how(self, name: str, value: str, said: str) -> None:
        """A value that cannot be used is told with its variable, what is wrong and what would be right."""
        told = problem({"DATABASE_URL": URL, name: value})
        assert told.startswith(f"{name}: ")
        assert said in told
        assert "ZqX" not in told

    def test_all_at_once(self) -> None:
        """Every problem is told at once."""
        told = problems({
            "DATABASE_URL": "postgresql://h:x/d?sslmode=y",
            "HEADSTART_WAIT_TIMEOUT": "x",
            "HEADSTART_LOG": "x",
            "HEADSTART_WAIT_TIMOUT": "1s",
        })  # fmt: skip
        assert [each.split()[0].rstrip(":") for each in told] == [
            "DATABASE_URL",
            "DATABASE_URL",
            "HEADSTART_WAIT_TIMEOUT",
            "HEADSTART_LOG",
            "HEADSTART_WAIT_TIMOUT",
        ]

    def test_an_unknown_name_is_told_with_the_nearest(self) -> None:
        """A name that is nearly right is told with the right one."""
        said = problem({"DATABASE_URL": URL, "HEADSTART_WAIT_TIMOUT": "5s"})
        assert said == "HEADSTART_WAIT_TIMOUT is not known: did you mean HEADSTART_WAIT_TIMEOUT?"
        assert "leave it out" in problem({"DATABASE_URL": URL, "HEADSTART_XYZZY": "1"})

    @pytest.mark.parametrize(
        "name",
        [
            "HEADSTART_SERVICE_HOST",
            "HEADSTART_DEMO_SERVICE_PORT_HTTP",
            "HEADSTART_PORT",
            "HEADSTART_PORT_5432_TCP_ADDR",
        ],
    )
    def test_what_kubernetes_puts_there(self, name: str) -> None:
        """Variables that Kubernetes makes of a Service named headstart are not taken for mistakes."""
        assert settings({"DATABASE_URL": URL, name: "tcp://10.0.0.1:5432"}) == settings()

    @relaxed
    @given(st.dictionaries(st.sampled_from([setting.name for setting in FLAGGED]), st.text()))
    def test_any_text_is_a_setting_or_a_problem(self, environ: dict[str, str]) -> None:
        """Any text is either understood or a one-line problem that names its variable."""
        told: tuple[str, ...] = ()
        try:
            settings({"DATABASE_URL": URL, **environ})
        except ConfigurationError as error:
            told = error.problems or ("none",)
        assert len(told) <= len(environ)
        assert all(any(each.startswith(f"{name}: ") for name in environ) for each in told)
        assert all("\n" not in each for each in told)


class TestDurations:
    """How long people mean."""

    @pytest.mark.parametrize(
        ("text", "seconds"),
        [
            ("30s", 30.0),
            ("5m", 300.0),
            ("1h30m", 5400.0),
            ("90", 90.0),
            ("1.5s", 1.5),
            ("250ms", 0.25),
            ("1d", 86400.0),
            (" 2m30s ", 150.0),
            ("0", 0.0),
            ("0s", 0.0),
        ],
    )
    def test_as_people_write_them(self, text: str, seconds: float) -> None:
        """A duration is read in the units that people write."""
        assert parse_duration(text) == pytest.approx(seconds)

    @pytest.mark.parametrize(
        "text",
        [
            "",
            "s",
            "-5s",
            "+5s",
            "nan",
            "inf",
            "1e3",
            "5 m",
            "30m1h",
            "5s5s",
            "1,5s",
            "5S",
            "\u0665s",
            "9" * 400,
            "5s\0",
        ],
    )
    def test_what_is_none(self, text: str) -> None:
        """Anything else is refused with examples of right ones."""
        with pytest.raises(ValueError, match=r"write 30s, 5m, 1h30m"):
            parse_duration(text)

    @relaxed
    @given(st.integers(0, 10**11))
    @example(0)
    @example(86_400_000 + 1)
    def test_written_and_read_again(self, milliseconds: int) -> None:
        """A duration written to the millisecond is read as the same."""
        assert round(parse_duration(written(milliseconds)) * 1000) == milliseconds

    @relaxed
    @given(st.text())
    def test_any_text_is_a_duration_or_refused(self, text: str) -> None:
        """Any text gives a finite number of seconds, not below zero, or a ValueError."""
        try:
            seconds = parse_duration(text)
        except ValueError:
            return
        assert math.isfinite(seconds)
        assert seconds >= 0


class TestSecrets:
    """No refusal shows a password that the environment holds, though a setting has it for its value."""

    PASSWORDS = ("S3cr3t", "p@ss/w0rd", "x" * 100, "1m5s0")

    @pytest.mark.parametrize("password", PASSWORDS)
    @pytest.mark.parametrize(
        "found",
        [
            {"DATABASE_URL": "postgresql://app:{}@db/app"},
            {"DATABASE_DIRECT_URL": "postgresql://app:{}@db/app", "DATABASE_URL": URL},
            {"DATABASE_URL": URL, "HEADSTART_SCRATCH_URL": "postgresql://app:{}@db/app"},
            {"DATABASE_URL": "host=db password={} bogus"},
            {"DATABASE_URL": "mysql://app:{}@db/app"},
            {"DATABASE_URL": "app:{}@db/app"},
            {"DATABASE_URL": "'postgresql://app:{}@db/app'"},
            {"DATABASE_URL": "postgresql://app:{}@db/app", "DATABASE_URL_FILE": "/url"},
            {"DATABASE_URL_FILE": "/url"},
            {"DATABASE_URL": "postgresql:///?sslmode=bogus&password={}"},
            {"DATABASE_URL": URL, "PGPASSWORD": "{}"},
            {"DATABASE_URL": "postgresql://app@db/app", "PGPASSFILE": "/passfile"},
            {"DATABASE_URL": "postgresql://app@db/app", "HOME": "/home/me"},
            {"DATABASE_URL": "postgresql:///?service=x", "PGSERVICEFILE": "/services"},
        ],
        ids=str,
    )
    def test_of_the_environment(self, found: dict[str, str], password: str) -> None:
        """Wherever the password comes from, and though what holds it cannot be read."""
        files = {
            "/url": f"postgresql://app:{quote(password, safe='')}@db/app\n",
            "/passfile": f"*:*:*:other:{password}\n",
            "/home/me/.pgpass": f"db:5432:app:app:{password}\n",
            "/services": f"[x]\nhost=db\npassword={password}\n",
        }
        environ = {name: value.format(quote(password, safe="")) for name, value in found.items()}
        if "PGPASSWORD" in found:
            environ["PGPASSWORD"] = password
        names = ["HEADSTART_DEADLINE", "HEADSTART_LOG", "HEADSTART_AHEAD", "HEADSTART_BACKUP_KEEP"]
        told = "\n".join(problems(environ | dict.fromkeys(names, f" {password}"), files=files))
        assert password not in told
        assert password[:20] not in told, "nor is it shown where a long value is cut"
        assert all(name in told for name in names)
        told = "\n".join(problems(environ, files=files, flags={"HEADSTART_DEADLINE": f"{password} "}))
        assert password not in told
        assert "--deadline" in told

    def test_the_rest_of_a_refusal_stays(self) -> None:
        """Names of settings, examples and other values are shown, whatever the password is."""
        told = "\n".join(
            problems({"DATABASE_URL": "postgresql://app:backup@db", "HEADSTART_BACKUP": "x", "HEADSTART_BACKUPS": "1"})
        )
        assert "'x' is not one of auto, always, off" in told
        assert "HEADSTART_BACKUPS is not known: did you mean HEADSTART_BACKUP?" in told
        told = "\n".join(problems({"DATABASE_URL": "postgresql://user:password@x:y", "HEADSTART_BACKUP": "x"}))
        assert EXAMPLE in told

    @relaxed
    @given(st.text(max_size=60), st.text(max_size=60))
    def test_any_environment(self, url: str, other: str) -> None:
        """Whatever the variables hold, there are settings, or problems."""
        with contextlib.suppress(ConfigurationError):
            settings({"DATABASE_URL": url, "HEADSTART_DEADLINE": other, "PGSERVICE": other, "PGPASSFILE": url})


def test_nothing_heavy_is_imported() -> None:
    """Settings and the Dsn, which every start pays for, import nothing but msgspec and small parts of the library."""
    code = (
        "import sys; import headstart.settings.settings, headstart.settings.dsn, headstart.settings.resolve;"
        "print(*sorted({name.partition('.')[0] for name in sys.modules}))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    heavy = {"ssl", "socket", "asyncio", "asyncpg", "sqlalchemy", "alembic", "difflib", "configparser", "email"}
    assert not heavy & set(done.stdout.split())


@pytest.mark.parametrize(
    "failure", [TimeoutError(110, "nobody has closed it"), UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid")]
)
def test_a_file_is_read_once(failure: Exception) -> None:
    """However many problems there are, a file is asked for once: a pipe that nobody closes takes its time."""
    asked: Counter[str] = Counter()

    def read_file(path: str) -> str:
        asked[path] += 1
        raise failure

    environ = {"DATABASE_URL_FILE": "/dev/stdin", "HEADSTART_FOO": "1", "HEADSTART_WAIT_TIMEOUT": "soon"}
    with pytest.raises(ConfigurationError) as refused:
        load(environ, read_file=read_file, in_image=False, cores=1, default_user="me")
    assert len(refused.value.problems) == 3
    assert asked["/dev/stdin"] == 1
    assert set(asked.values()) == {1}
