"""Exit codes of what is decided before a server is asked, or by one look at it: 0, 2, 3, 10, 70, 72, 99."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from acceptance.checks import BUG, LIKE_ANYBODY, ended, planted, with_password
from support.postgres import script
from support.project import fingerprint, recorded

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from support.process import Run
    from support.project import Project

pytestmark = pytest.mark.backed_up

NOBODY = "postgresql://nobody:t0psecret@127.0.0.1:1/nothing"


@pytest.mark.parametrize(
    ("words", "named"),
    [
        pytest.param([], "verb", id="no-verb"),
        pytest.param(["upp"], "did you mean up", id="unknown-verb"),
        pytest.param(["up", "--bogus"], "--bogus", id="unknown-option"),
        pytest.param(["up", "surplus"], "surplus", id="surplus-word"),
        pytest.param(
            ["up", "uvicorn", "app.main:app", "--reload"],
            "headstart up -- uvicorn app.main:app --reload",
            id="command-without-dashes",
        ),
        pytest.param(["schema"], "required: dump|load|split", id="no-action"),
        pytest.param(["tenants"], "required: up|status|list", id="no-tenants-action"),
        pytest.param(["help", "upp"], "did you mean up", id="help-of-an-unknown-verb"),
        pytest.param(["wait", "--for", "godot"], "godot", id="unknown-choice"),
        pytest.param(["status", "--", "true"], "up", id="command-after-another-verb"),
        pytest.param(["downgrade"], "revision", id="alembic-verb-without-its-word"),
        pytest.param(["history", "--bogus"], "--bogus", id="alembic-verb-with-unknown-option"),
        pytest.param(["backups", "list", "one"], "list", id="backups-list-with-a-name"),
    ],
)
def test_2_usage(words: list[str], named: str, project: Project, headstart: Callable[..., Run]) -> None:
    """A command line that makes no sense ends with 2, and says what is wrong with it."""
    run = headstart(*words, url=NOBODY)
    if not words:
        assert run.code == 2, str(run)
        assert "usage: headstart" in run.stderr
        return
    last = ended(run, 2, secrets=["t0psecret"])
    assert named in last["error"] + last["hint"], str(run)


@pytest.mark.parametrize(
    ("env", "named"),
    [
        pytest.param({"HEADSTART_WAIT_TIMEOUT": "soon"}, ["HEADSTART_WAIT_TIMEOUT"], id="duration"),
        pytest.param({"HEADSTART_LOCK_TIMEOUT": "-1s"}, ["HEADSTART_LOCK_TIMEOUT"], id="negative"),
        pytest.param({"HEADSTART_BACKUP_KEEP": "some"}, ["HEADSTART_BACKUP_KEEP"], id="number"),
        pytest.param({"HEADSTART_BACKUP_JOBS": "0"}, ["HEADSTART_BACKUP_JOBS"], id="out-of-range"),
        pytest.param({"HEADSTART_BACKUP": "maybe"}, ["HEADSTART_BACKUP", "auto"], id="choice"),
        pytest.param({"HEADSTART_BACKUP_DIR": "s3://key:t0psecret@x/y"}, ["HEADSTART_BACKUP_DIR"], id="object-store"),
        pytest.param(
            {"HEADSTART_WAIT_TIMOUT": "5s"}, ["HEADSTART_WAIT_TIMOUT", "HEADSTART_WAIT_TIMEOUT"], id="typo-suggested"
        ),
        pytest.param({"HEADSTART_LOG": "loud"}, ["HEADSTART_LOG", "console"], id="log"),
        pytest.param({"DATABASE_URL": "mysql://u:t0psecret@h/d"}, ["DATABASE_URL", "mysql"], id="scheme"),
        pytest.param({"DATABASE_URL": "postgresql://u:t0psecret@h:port/d"}, ["DATABASE_URL"], id="port"),
        pytest.param({"DATABASE_URL": "postgresql://u:t0psecret@h/d?bogus=1"}, ["bogus"], id="unknown-parameter"),
        pytest.param({"DATABASE_URL": "postgresql://u:t0psecret@h/d?sslmode=maybe"}, ["sslmode"], id="sslmode"),
        pytest.param({"DATABASE_URL": "t0psecret"}, ["DATABASE_URL"], id="no-url-at-all"),
        pytest.param({"DATABASE_URL": ""}, ["DATABASE_URL"], id="empty"),
        pytest.param({"DATABASE_URL_FILE": "url.txt"}, ["DATABASE_URL", "DATABASE_URL_FILE"], id="both"),
        pytest.param({"ALEMBIC_CONFIG": "other.ini"}, ["other.ini"], id="missing-ini"),
        pytest.param({"ALEMBIC_CONFIG": "migrations"}, ["migrations is a folder"], id="a-folder-for-the-ini"),
        pytest.param(
            {"HEADSTART_WAIT_TIMEOUT": "soon", "HEADSTART_BACKUP": "maybe", "HEADSTART_TARGT": "head"},
            ["HEADSTART_WAIT_TIMEOUT", "HEADSTART_BACKUP", "HEADSTART_TARGET"],
            id="several-at-once",
        ),
    ],
)
def test_10_configuration(
    env: Mapping[str, str], named: list[str], project: Project, headstart: Callable[..., Run]
) -> None:
    """Settings that cannot be used end the run with 10 before anything is asked; each is named."""
    project.revision("a1")
    run = headstart("up", env={"DATABASE_URL": NOBODY, **env})
    last = ended(run, 10, secrets=["t0psecret"])
    for name in named:
        assert name in last["error"], str(run)
    assert not run.events("server_not_ready"), "no server is asked"


def test_10_too_few_open_files(
    project: Project, headstart: Callable[..., Run], any_database: str, tmp_path: Path
) -> None:
    """Wherever in a run the limit is reached: it is named, and nothing is changed."""
    project.revision("a1", "create table a (id int)")
    for limit in range(8, 40):
        env = planted(tmp_path, f"import resource\nresource.setrlimit(resource.RLIMIT_NOFILE, ({limit}, {limit}))")
        run = headstart("up", url=any_database, env={**env, "HEADSTART_BACKUP": "off"})
        if run.code == 0:
            break
        assert "Too many open files" in ended(run, 10)["error"]
    else:
        pytest.fail("40 descriptors are not enough")
    assert limit > 8
    assert recorded(any_database) == ["a1"]


def test_10_without_any_database(project: Project, headstart: Callable[..., Run]) -> None:
    """Without a URL and without PG*, the message names DATABASE_URL."""
    last = ended(headstart("up"), 10)
    assert "DATABASE_URL" in last["error"]


@pytest.mark.parametrize("kind", ["missing", "a-folder", "empty", "not-text"])
def test_10_secret_file(kind: str, project: Project, headstart: Callable[..., Run], tmp_path: Path) -> None:
    """A secret file that cannot be read, or holds nothing, is named, with the reason."""
    path = tmp_path / "url.txt"
    if kind == "a-folder":
        path.mkdir()
    elif kind != "missing":
        path.write_bytes(b"" if kind == "empty" else b"\xff\xfe\x00p")
    last = ended(headstart("up", env={"DATABASE_URL_FILE": str(path)}), 10)
    assert str(path) in last["error"]
    assert "DATABASE_URL_FILE" in last["error"]


def test_10_no_project(headstart: Callable[..., Run], tmp_path: Path) -> None:
    """A folder without an Alembic project says which files were looked for."""
    last = ended(headstart("up", url=NOBODY, cwd=tmp_path), 10, secrets=["t0psecret"])
    assert "alembic.ini" in last["error"]


def test_10_no_env_py(project: Project, headstart: Callable[..., Run]) -> None:
    """A project without env.py is refused by that name."""
    project.env.unlink()
    assert "env.py" in ended(headstart("up", url=NOBODY), 10)["error"]


def test_10_multidb(project: Project, headstart: Callable[..., Run], any_database: str) -> None:
    """A project of Alembic's multidb template is refused, with what to do instead."""
    text = project.ini.read_text(encoding="utf-8")
    project.ini.write_text(text.replace("[alembic]\n", "[alembic]\ndatabases = one, two\n"), encoding="utf-8")
    project.revision("a1", "create table a (id int)")
    before = fingerprint(any_database)
    last = ended(headstart("up", url=any_database), 10)
    assert "one, two" in last["error"] + last["hint"] or "several databases" in last["error"]
    assert fingerprint(any_database) == before


def test_10_env_py_fails(project: Project, headstart: Callable[..., Run], any_database: str) -> None:
    """An env.py that raises is named with its line, and its exception, which holds the URL, shows no password."""
    project.revision("a1", "create table a (id int)")
    url = with_password(any_database, "t0psecret")
    project.in_env(f"raise RuntimeError('cannot use {url}')")
    before = fingerprint(any_database)
    run = headstart("up", url=any_database)
    last = ended(run, 10)
    assert str(project.env) in last["error"]
    assert "RuntimeError" in last["error"]
    assert fingerprint(any_database) == before


def test_10_env_py_reaches_another_database(project: Project, headstart: Callable[..., Run], any_database: str) -> None:
    """An env.py with a URL of its own that leads elsewhere is refused by name, and nothing is done at either place."""
    project.revision("a1", "create table a (id int)")
    elsewhere = any_database.rpartition("/")[0] + "/postgres"
    project.in_env(f"config.set_main_option('sqlalchemy.url', {elsewhere.replace('%', '%%')!r})")
    before = fingerprint(any_database), fingerprint(elsewhere)
    last = ended(headstart("up", url=any_database), 10, secrets=[any_database.split(":")[2].split("@", maxsplit=1)[0]])
    assert "/postgres" in last["error"]
    assert "DATABASE_URL" in last["hint"]
    assert (fingerprint(any_database), fingerprint(elsewhere)) == before


@pytest.mark.parametrize("code", [0, 3])
def test_10_env_py_exits(code: int, project: Project, headstart: Callable[..., Run], any_database: str) -> None:
    """An env.py that calls sys.exit, even with 0, does not decide headstart's exit code: nothing was migrated."""
    project.revision("a1", "create table a (id int)")
    project.in_env(f"import sys\nsys.exit({code})")
    before = fingerprint(any_database)
    last = ended(headstart("up", url=any_database), 10)
    assert "env.py" in last["error"]
    assert fingerprint(any_database) == before


def _syntax_error(project: Project) -> list[str]:
    path = project.revision("b2", "create table b (id int)")
    path.write_text(path.read_text(encoding="utf-8") + "\ndef broken(:\n", encoding="utf-8")
    return [str(path)]


def _missing_parent(project: Project) -> list[str]:
    return [str(project.revision("b2", down="gone")), "gone"]


def _duplicate_id(project: Project) -> list[str]:
    other = project.revision("b2", "create table b (id int)")
    text = other.read_text(encoding="utf-8")
    return [str(other), str(project.write("b2_again.py", text)), "b2"]


def _cycle(project: Project) -> list[str]:
    return [project.revision("b2", down="c3").name, project.revision("c3", down="b2").name]


def _dangling(project: Project) -> list[str]:
    path = project.versions / "b2.py"
    path.symlink_to("nowhere.py")
    return [str(path)]


def _not_text(project: Project) -> list[str]:
    path = project.revision("b2")
    path.write_bytes(path.read_bytes() + b"name = '\xff\xfe'\n")
    return [str(path)]


def _forbidden(project: Project) -> list[str]:
    path = project.revision("b2")
    path.chmod(0)
    return [str(path)]


def _fails_on_import(project: Project) -> list[str]:
    path = project.revision("b2", "create table b (id int)")
    path.write_text("import no_such_module\n" + path.read_text(encoding="utf-8"), encoding="utf-8")
    return [str(path), "no_such_module"]


def _exits_on_import(project: Project) -> list[str]:
    path = project.revision("b2", "create table b (id int)")
    path.write_text("import sys; sys.exit(0)\n" + path.read_text(encoding="utf-8"), encoding="utf-8")
    return [str(path)]


@pytest.mark.parametrize(
    "breaking",
    [
        _syntax_error,
        _missing_parent,
        _duplicate_id,
        _cycle,
        _dangling,
        _not_text,
        _forbidden,
        _fails_on_import,
        _exits_on_import,
    ],
    ids=lambda function: function.__name__[1:],
)
def test_70_broken_history(
    breaking: Callable[[Project], list[str]], project: Project, headstart: Callable[..., Run], any_database: str
) -> None:
    """Revision files that form no history end the run with 70; each file is named, and nothing is touched."""
    project.revision("a1", "create table a (id int)")
    named = breaking(project)
    before = fingerprint(any_database)
    env = planted(project.folder, LIKE_ANYBODY) if breaking is _forbidden else None
    run = headstart("up", url=any_database, env=env)
    last = ended(run, 70)
    for name in named:
        assert name in last["error"] + last["hint"], f"{name} is not named: {run}"
    assert fingerprint(any_database) == before


def test_72_unknown(project: Project, headstart: Callable[..., Run], any_database: str) -> None:
    """A recorded revision that is not in this history is named, and so is this history's head."""
    project.revision("a1", "create table a (id int)")
    script(
        any_database,
        "create table alembic_version (version_num varchar(32) primary key);"
        "insert into alembic_version values ('f00dfeed')",
    )
    before = fingerprint(any_database)
    last = ended(headstart("up", url=any_database), 72)
    assert "f00dfeed" in last["error"]
    assert "a1" in last["error"] + last["hint"]
    assert fingerprint(any_database) == before
    assert recorded(any_database) == ["f00dfeed"]


def test_99_bug(project: Project, headstart: Callable[..., Run], any_database: str, tmp_path: Path) -> None:
    """What nobody has foreseen ends with 99: the traceback is in the log, the password is not."""
    project.revision("a1", "create table a (id int)")
    run = headstart("up", url=any_database, env=planted(tmp_path, BUG))
    assert run.code == 99, str(run)
    assert (run.last["event"], run.last["exit_code"], run.last["outcome"]) == ("run_finished", 99, "bug")
    [bug] = run.events("bug")
    assert "Traceback" in bug["exception"]
    assert any_database.split(":")[2].split("@", maxsplit=1)[0] not in run.stderr
    assert len(run.log) == len(run.stderr.splitlines()), "every line is JSON"


def test_a_folder_that_is_gone(project: Project, headstart: Callable[..., Run], tmp_path: Path) -> None:
    """A working directory that was removed meanwhile is a configuration error like any other."""
    gone = tmp_path / "gone"
    gone.mkdir()
    run = headstart("up", url=NOBODY, cwd=gone, env=planted(tmp_path, f"import os\nos.rmdir({str(gone)!r})\n"))
    ended(run, 10, secrets=["t0psecret"])
