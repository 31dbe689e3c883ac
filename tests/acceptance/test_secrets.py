"""No password is shown, whatever characters it has: neither in stdout and stderr, nor in files and arguments."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from acceptance.checks import BUG, Session, ended, leaks_nothing, make_role, path_of, planted, spellings, with_password
from headstart.postgres.lock import GATE
from support.postgres import psql, script
from support.project import Project

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from support.postgres import Postgres
    from support.process import Run

pytestmark = pytest.mark.backed_up

PASSWORDS = {
    "percent": "p@ss:/w%",
    "encoded-already": "%41%2F%zz+plus&a=b?#[]",
    "quotes": 'it\'s "quoted" `too` $HOME',
    "backslashes": "back\\slash\\n\\u0041\\",
    "blanks": "  blanks  inside ",
    "unicode": "pässwörd-数据-🔒",
    "looks-like-options": "-c evil=1 --host=x {0} %(here)s",
    "line-break": "line\nbreak\ttab",
}
NASTY = ["percent", "quotes"]

SHOW = """\
import json, logging, os, sys, warnings
from urllib.parse import unquote, urlsplit
url = os.environ["DATABASE_URL"]
password = unquote(urlsplit(url).password)
for text in (url, password, repr(password), json.dumps({"password": password})):
    print(text)
    print(text, file=sys.stderr)
    logging.getLogger("theirs").error(text)
    warnings.warn(text, stacklevel=1)
op.execute("select '" + password.replace("'", "''").replace(":", "\\\\:").replace("%", "%%") + "'")
"""
ELSEWHERE = "postgresql://shop:secret@h:5432/d redis://:secret@shop amqp://u:secret%40@h/%2f host=shop password=secret"
RAISE = "raise RuntimeError(url + ' and ' + repr(password))"

# Notes what it can be seen by, and goes on as the real one.
RECORDER = """\
#!/bin/sh
tr '\\0' '\\n' < /proc/$$/cmdline >> "{notes}.cmdline"
tr '\\0' '\\n' < /proc/$PPID/cmdline >> "{notes}.cmdline"
printf %s "$PGPASSWORD" > "{notes}.password"
exec "{real}" "$@"
"""
LOUD = """\
#!/bin/sh
[ "$1" = --version ] && exec "{real}" "$@"
echo "{name}: error: connection to $PGHOST failed with $PGPASSWORD" >&2
exit 1
"""


@pytest.fixture
def login(any_server: Postgres, any_database: str) -> Callable[[str], str]:
    """Give a password to a role of its own, and make the URL with it, of a database that holds something."""

    def make(kind: str) -> str:
        make_role(any_server, f"role {kind}", PASSWORDS[kind], "superuser")
        script(any_database, "create table if not exists precious (id int)")
        return with_password(any_database, PASSWORDS[kind], user=f"role {kind}")

    return make


@pytest.mark.parametrize("kind", PASSWORDS)
def test_success_and_failure(
    kind: str,
    project: Project,
    run_headstart: Callable[..., Run],
    login: Callable[[str], str],
    any_server: Postgres,
    tmp_path: Path,
) -> None:
    """A revision may print, log and raise the URL: a run with its backup, and the failure after it, show nothing."""
    password = PASSWORDS[kind]
    url = login(kind)
    programs = wrapped(tmp_path, any_server, RECORDER)
    env = {"PATH": f"{programs}:{path_of(any_server)}"}
    project.revision("a1", body=SHOW)
    last = ended(run_headstart("up", url=url, env=env), 0, secrets=[password])
    seen = (tmp_path / "pg_dump.cmdline").read_text(encoding="utf-8")
    assert "--format=directory" in seen
    assert (tmp_path / "pg_dump.password").read_text(encoding="utf-8") == password, "it reaches pg_dump unharmed"
    manifest = (tmp_path / last["backup"] / "manifest.json").read_text(encoding="utf-8")
    for spelling in spellings(password):
        assert spelling not in seen
        assert spelling not in manifest
        assert not [path for path in (tmp_path / "backups").rglob("*") if spelling in path.name]
    project.revision("b2", body=f"{SHOW}{RAISE}")
    last = ended(run_headstart("up", url=url, env=env), 60, secrets=[password])
    assert "RuntimeError" in last["error"]


@pytest.mark.parametrize("kind", PASSWORDS)
def test_wrong_password(
    kind: str, project: Project, headstart: Callable[..., Run], login: Callable[[str], str], any_server: Postgres
) -> None:
    """A password that the server does not take is not shown either, in the log for a person as in the JSON."""
    url = login(kind)
    make_role(any_server, f"role {kind}", "another one")
    project.revision("a1")
    ended(headstart("up", url=url), 21, secrets=[PASSWORDS[kind]])
    if kind in NASTY:
        leaks_nothing(headstart("up", "--log", "console", url=url), [PASSWORDS[kind]])


@pytest.mark.parametrize("kind", NASTY)
@pytest.mark.parametrize("log", ["json", "console"])
def test_env_py_fails(
    kind: str, log: str, project: Project, headstart: Callable[..., Run], login: Callable[[str], str]
) -> None:
    """An env.py that shows the URL and fails with it in its text."""
    project.revision("a1")
    project.in_env(SHOW.rpartition("op.execute")[0] + RAISE)
    run = headstart("up", "--log", log, url=login(kind))
    assert run.code == 10, str(run)
    assert "RuntimeError" in run.stderr
    leaks_nothing(run, [PASSWORDS[kind]])


@pytest.mark.parametrize("log", ["json", "console"])
@pytest.mark.parametrize("fails", ["env.py", "revision", "a bug", "the command line"])
def test_a_password_of_another_server(
    log: str, fails: str, project: Project, headstart: Callable[..., Run], any_database: str, tmp_path: Path
) -> None:
    """What an app prints and raises of its other servers is shown without the passwords, which no setting names."""
    code = f"print({ELSEWHERE!r})\nraise RuntimeError({ELSEWHERE!r})"
    project.revision("a1", body=code if fails == "revision" else "pass")
    if fails == "env.py":
        project.in_env(code)
    env: dict[str, str] = {}
    more: list[str] = []
    if fails == "a bug":
        env = planted(tmp_path, BUG.replace("os.environ['DATABASE_URL']", repr(ELSEWHERE)))
    if fails == "the command line":
        more = [f"--ulr={ELSEWHERE.partition(' ')[0]}"]
    run = headstart("up", "--log", log, *more, url=any_database, env=env)
    assert run.code == {"env.py": 10, "revision": 60, "a bug": 99, "the command line": 2}[fails], str(run)
    assert "secret" not in run.stdout + run.stderr
    assert "shop" in run.stderr, "the rest is shown"


@pytest.mark.parametrize("kind", NASTY)
def test_backup_fails(
    kind: str,
    project: Project,
    run_headstart: Callable[..., Run],
    login: Callable[[str], str],
    any_server: Postgres,
    tmp_path: Path,
) -> None:
    """A pg_dump that fails and puts the password into its message."""
    project.revision("a1")
    env = {"PATH": str(wrapped(tmp_path, any_server, LOUD))}
    last = ended(run_headstart("up", url=login(kind), env=env), 40, secrets=[PASSWORDS[kind]])
    assert "***" in last["error"]


@pytest.mark.parametrize("kind", NASTY)
def test_lock_held(kind: str, project: Project, headstart: Callable[..., Run], login: Callable[[str], str]) -> None:
    """A lock holder whose application_name is the password, as from a confused URL."""
    project.revision("a1")
    url = login(kind)
    with Session(url, PASSWORDS[kind]) as somebody:
        somebody.execute(f"select pg_advisory_lock({GATE})")
        ended(headstart("up", "--lock-timeout", "300ms", url=url), 30, secrets=[PASSWORDS[kind]])


@pytest.mark.parametrize("kind", NASTY)
def test_doctor_of_a_failing_env_py(
    kind: str, project: Project, headstart: Callable[..., Run], login: Callable[[str], str]
) -> None:
    """What doctor prints, for a person or as JSON, comes from errors that may quote the URL."""
    project.revision("a1")
    text = project.env.read_text(encoding="utf-8").replace(
        "context.configure(", "context.configure(version_table=str.lower('Mine'), "
    )
    project.env.write_text(text, encoding="utf-8")
    project.in_env(SHOW.rpartition("op.execute")[0] + RAISE)
    for words in (["doctor"], ["doctor", "--json"]):
        run = headstart(*words, url=login(kind))
        assert run.code == 10, str(run)
        assert "RuntimeError" in run.stdout
        leaks_nothing(run, [PASSWORDS[kind]])


@pytest.mark.parametrize("kind", NASTY)
def test_a_bug(
    kind: str, project: Project, headstart: Callable[..., Run], login: Callable[[str], str], tmp_path: Path
) -> None:
    """A traceback that quotes the URL."""
    project.revision("a1")
    run = headstart("up", url=login(kind), env=planted(tmp_path, BUG))
    assert run.code == 99, str(run)
    leaks_nothing(run, [PASSWORDS[kind]])


@pytest.mark.parametrize("log", ["json", "console"])
@pytest.mark.parametrize(
    ("words", "code"),
    [
        (["up", "--deadline", "S3cr3t"], 10),
        (["up", "--deadline", "S3cr3t" * 20], 10),
        (["up", "--backup=S3cr3t"], 10),
        (["S3cr3t"], 2),
        (["up", "S3cr3t"], 2),
        (["up", "--S3cr3t=1"], 2),
        (["backups", "S3cr3t"], 2),
        (["explain", "S3cr3t"], 2),
        (["history", "--S3cr3t"], 2),
        (["current", "--config=/S3cr3t/x.ini"], 10),
        (["restore", "S3cr3t"], 10),
    ],
    ids=str,
)
def test_a_password_on_the_command_line(
    words: list[str], code: int, log: str, project: Project, headstart: Callable[..., Run], any_database: str
) -> None:
    """What somebody has pasted in the wrong place is refused without being shown, in the log and by Alembic's verbs."""
    project.revision("a1")
    password = "S3cr3t" * (20 if "S3cr3t" * 20 in words else 1)
    for env in ({"PGPASSWORD": password}, {"HEADSTART_SCRATCH_URL": f"postgresql://u:{password}@h/d"}):
        run = headstart(*words, url=any_database, env={"HEADSTART_LOG": log, **env})
        assert run.code == code, str(run)
        leaks_nothing(run, [password])
        assert "S3cr3t" not in run.stdout + run.stderr


@pytest.mark.parametrize("name", ["HEADSTART_DEADLINE", "HEADSTART_LOG", "HEADSTART_BACKUP", "HEADSTART_AHEAD"])
def test_a_password_as_another_setting(name: str, project: Project, headstart: Callable[..., Run]) -> None:
    """A value that is refused is not shown where it is the password."""
    project.revision("a1")
    run = headstart("up", url="postgresql://app:S3cr3t@h/d", env={name: "S3cr3t"})
    assert name in ended(run, 10, secrets=["S3cr3t"])["error"]


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://u:t0p%zzsecret@h/d",
        "postgresql://u:t0psecret@h:x/d",
        "postgresql://u:t0psecret@h/d?sslmode=t0psecret",
        "postgresql://u:t0psecret@h/d?password=t0psecret&bogus=t0psecret",
        "postgresql://u:t0p@secret@h:5432x/d",
        "postgresql//u:t0psecret@h/d",
        "u:t0psecret@h/d",
        "host=h password=t0psecret bogus",
        "host=h password='t0psecret",
        "mysql+pymysql://u:t0psecret@h/d",
    ],
)
def test_a_url_that_cannot_be_read(url: str, project: Project, headstart: Callable[..., Run]) -> None:
    """A URL that is malformed is explained without being quoted."""
    project.revision("a1")
    run = headstart("up", url=url, env={"HEADSTART_WAIT_TIMEOUT": "300ms"})
    assert run.code in {10, 20}, str(run)
    ended(run, run.code)
    assert "secret" not in run.stdout + run.stderr, str(run)


def test_every_reading_verb(
    project: Project, headstart: Callable[..., Run], login: Callable[[str], str], any_server: Postgres
) -> None:
    """What the reading verbs print for people and for machines holds no password, however wordy they are."""
    project.revision("a1", "create table a (id int)")
    url, password = login("percent"), PASSWORDS["percent"]
    ended(headstart("up", url=url), 0, secrets=[password])
    for words in (
        ["status"],
        ["status", "--json"],
        ["doctor"],
        ["doctor", "--json"],
        ["current", "-v"],
        ["history", "-i", "-v"],
        ["backups", "list", "--json"],
        ["sql"],
        ["wait", "--for", "head"],
    ):
        run = headstart(*words, url=url)
        assert run.code == 0, str(run)
        leaks_nothing(run, [password])
        if "--json" in words:
            json.loads(run.stdout)


def wrapped(folder: Path, server: Postgres, text: str) -> Path:
    """A folder with a pg_dump and a pg_restore that do what `text` says, around the server's own."""
    programs = folder / "programs"
    programs.mkdir()
    for name in ("pg_dump", "pg_restore"):
        program = programs / name
        real = server.bindir / name
        program.write_text(text.format(notes=folder / name, real=real, name=name), encoding="utf-8")
        program.chmod(0o755)
    return programs


@pytest.mark.parametrize(
    "password",
    ["'{}'", "E'{}'", "U&'{}'", "$${}$$", "/* c */ '{}'", "-- c\n '{}'", "'abc'\n'{}'"],
)
def test_a_constant_of_a_statement(
    password: str, project: Project, headstart: Callable[..., Run], any_database: str
) -> None:
    """A string constant of a statement is not shown, however it is written."""
    statement = f"create role postgres password {password.format('S3cretOfARole')}"
    project.revision("a1", body=f"op.execute({statement!r})")
    run = headstart("up", url=any_database, env={"HEADSTART_BACKUP": "off"})
    last = ended(run, 60, secrets=["S3cretOfARole"])
    assert last["statement"].endswith("'...'")


@pytest.mark.parametrize(
    ("conforming", "statement", "shown"),
    [
        ("on", "do $$ begin perform 'S3cretOfARole'; end $$", "do '...'"),
        ("off", r"select '\' S3cretOfARole ', ''", "select '...' ..."),
    ],
)
def test_a_constant_of_another_session(
    conforming: str, statement: str, shown: str, project: Project, headstart: Callable[..., Run], any_database: str
) -> None:
    """Nor is one of a session that is in the way, whatever a backslash means to it."""
    script(any_database, "create table busy (a int)")
    project.revision("a1", "alter table busy add column b int")
    patience = {"HEADSTART_TABLE_LOCK_TIMEOUT": "300ms", "HEADSTART_TABLE_LOCK_RETRY": "1s", "HEADSTART_BACKUP": "off"}
    with Session(any_database) as somebody:
        somebody.execute(f"set standard_conforming_strings = {conforming}")
        somebody.execute("begin; lock table busy")
        somebody.execute(statement)
        run = headstart("up", url=any_database, env=patience)
    last = ended(run, 62, secrets=["S3cretOfARole"])
    assert shown in last["blockers"][0]


@pytest.mark.parametrize(
    "body",
    {
        "cast": """op.execute("select 'S3cretValue'::int")""",
        "script": """op.execute("select 1; select 'S3cretValue'::timestamptz")""",
        "block": """op.execute("do $$ begin perform 'S3cretValue'::int; end $$")""",
        "parameter": """op.get_bind().execute(sa.text("select cast(:a as int)"), {"a": "S3cretValue"})""",
        "rows": """op.bulk_insert(sa.table("t", sa.column("a")), [{"a": "S3cretValue"}, {"a": "S3cretValue"}])""",
        "unique": """op.execute("insert into t values ('S3cretValue'), ('S3cretValue')")""",
        "unterminated": """op.execute("select 'S3cretValue")""",
        "short": """op.execute("select 'S3c'::int")""",
        "program": """op.execute("copy t from program 'false -H \\"Bearer S3cretValue\\"'")""",
        "file": """op.execute("copy t from '/nowhere/S3cretValue'")""",
        "raise": """op.execute("select refuse('S3cretValue')")""",
        "view": """op.execute("insert into v values ('S3cretValue')")""",
        "relation": """op.execute("select nextval('S3cret-Value')")""",
        "escapes": """op.execute("select E'S3cretVal\\\\x75e'::int")""",
        "not conforming": """op.execute("set standard_conforming_strings = off")
op.execute("select '\\\\' S3cretValue ', 1/0")""",
    }.values(),
)
def test_a_constant_in_the_server_s_words(
    body: str, project: Project, headstart: Callable[..., Run], any_database: str
) -> None:
    """What the server quotes of a statement's constants and parameters is not shown either."""
    script(
        any_database, "create table t (a text unique); create view v as select a from t where a = '' with check option"
    )
    script(
        any_database,
        "create function refuse(a text) returns int language plpgsql as $$begin raise 'bad token %', a; end$$",
    )
    body = body.replace("op.get_bind().execute", "import sqlalchemy as sa\nop.get_bind().execute")
    project.revision("a1", body=body.replace("op.bulk", "import sqlalchemy as sa\nop.bulk"))
    run = headstart("up", url=any_database, env={"HEADSTART_BACKUP": "off"})
    last = ended(run, 60, secrets=["S3c"])
    assert last["sqlstate"].startswith(("22", "23", "42601", "38000", "58P01", "P0001", "44000", "42P01")), str(run)


def test_names_stay_in_the_server_s_words(project: Project, headstart: Callable[..., Run], any_database: str) -> None:
    """A name that a statement has as a constant is what the reader needs."""
    project.revision("a1", body="""op.execute("select nextval('users_id_seq')")""")
    run = headstart("up", url=any_database, env={"HEADSTART_BACKUP": "off"})
    assert 'relation "users_id_seq" does not exist' in ended(run, 60)["error"]


def test_a_constant_of_env_py(project: Project, headstart: Callable[..., Run], any_database: str) -> None:
    """Nor is one of a statement that env.py itself executes."""
    env = project.env.read_text(encoding="utf-8")
    before = "    context.configure(connection=connection"
    assert before in env
    statement = "    connection.exec_driver_sql(\"select 'S3cretValue'::int\")\n"
    project.env.write_text(env.replace(before, statement + before, 1), encoding="utf-8")
    run = headstart("up", url=any_database, env={"HEADSTART_BACKUP": "off"})
    assert "22P02" in ended(run, 10, secrets=["S3cretValue"])["error"]


def test_names_stay_whatever_the_password_is(
    headstart: Callable[..., Run], any_server: Postgres, tmp_path: Path
) -> None:
    """Database, role, password and folder have one name: a restore and a failure can be read, and typed."""
    name = "shop"
    make_role(any_server, name, name, "superuser")
    url = any_server.create_database(name, owner=name)
    try:
        url = with_password(url, name, user=name)
        project = Project(tmp_path / name)
        project.revision("a1", "create table item (id int)")
        env = {"HEADSTART_BACKUP": "always"}
        ended(headstart("up", url=url, env=env, cwd=project.folder), 0)
        run = headstart("restore", "latest", "--swap", url=url, cwd=project.folder)
        ended(run, 0)
        [line] = run.events("databases_exchanged")
        assert line["database"] == name
        assert f'alter database "{name}" rename to' in line["go_back"]
        assert f"postgresql://{name}@" in line["go_back"]
        path = project.revision("b2", "alter table shopp add x int")
        last = ended(headstart("up", url=url, env=env, cwd=project.folder), 60)
        assert str(path) in last["error"]
    finally:
        for (database,) in psql(any_server.url(), "select datname::text from pg_database where datname ~ '^shop'"):
            any_server.drop_database(database)
