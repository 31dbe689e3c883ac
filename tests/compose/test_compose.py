"""compose/ with a real engine: what `docker compose up` does the first time, again, and when something is wrong."""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
from typing import TYPE_CHECKING, Protocol

import pytest

from compose.conftest import ROOT
from compose.stack import Stack
from compose.test_app import SIGNAL
from support.documents import blocks
from support.engine import PASSWORD, POSTGRES
from support.reference import history
from support.waiting import eventually

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from support.engine import Engine

pytestmark = [pytest.mark.container, pytest.mark.timeout(600), pytest.mark.slow]

BEFORE_SIGNALS = "20250210_083347912"


class NewStack(Protocol):
    """Make a compose project."""

    def __call__(self, *overlays: str, **env: str) -> Stack:
        """With these overlays and variables. It goes with the test."""


@pytest.fixture
def stack(engine: Engine, stock_image: str, app_image: str, tmp_path: Path) -> Iterator[NewStack]:
    """Compose projects of the images that were built."""
    engine.stand_in("debian:trixie-slim", POSTGRES)
    made: list[Stack] = []

    def new(*overlays: str, **env: str) -> Stack:
        folder = tmp_path / f"project {len(made)}"
        folder.mkdir()
        made.append(Stack(engine, folder, *overlays, **env))
        return made[-1]

    yield new
    for one in made:
        one.down()


def identities(stack: Stack, *services: str) -> list[str]:
    """The containers' ids and when each was started."""
    found = [container for service in services for container in stack.containers(service)]
    return [f"{container['Id']} {container['State']['StartedAt']}" for container in found]


def no_op(stack: Stack) -> None:
    """The last run of `migrate` has found nothing to do, and has done nothing."""
    last = stack.log("migrate", "run_finished")[-1]
    assert (last["outcome"], last["applied"], last["backup"]) == ("done", [], None)
    of_it = [line["event"] for line in stack.log("migrate") if line["run_id"] == last["run_id"]]
    assert of_it == ["run_started", "server_ready", "nothing_pending", "run_finished"]


# -- up ---------------------------------------------------------------------------------------------------------------


def test_up_and_up_again(stack: NewStack) -> None:
    """`up` migrates and serves; the second changes nothing, restarts nothing and takes no backup; `stop` is clean."""
    project = stack()
    project("up", "--wait")
    head = project.log("migrate", "run_finished")[0]["revision_after"]
    assert project.ask("/health") == (200, {"status": "ok", "revision": head})
    assert project.ask("/signals", SIGNAL).status == 201
    before = identities(project, "db", "app")
    project("up", "--wait")
    no_op(project)
    assert identities(project, "db", "app") == before
    assert project.backups() == []
    assert project.ask("/signals", SIGNAL).status == 200
    project("stop", "app")
    assert project.state("app")["ExitCode"] == 0


def test_a_broken_revision(stack: NewStack) -> None:
    """The app is not started, `up` names the revision and the exit code, and the database is as it was."""
    project = stack("dev")
    project("run", "--rm", "-T", "migrate")
    head = project.query("select version_num from alembic_version")
    revision = project.break_history()
    up = project("up", check=False)
    said = up.stdout + up.stderr
    assert up.code == 1
    assert re.search(r'service "migrate" didn\'t complete successfully: exit 60', said), said
    assert f"revision {revision} failed: relation" in said
    assert "no_such_table" in said
    assert project.state("migrate")["ExitCode"] == 60
    app = project.state("app")
    assert (app["Status"], app["StartedAt"][:4]) == ("created", "0001")
    assert project.query("select version_num from alembic_version") == head
    assert project.query("select count(*) from information_schema.columns where column_name = 'note'") == ["0"]
    assert len(project.backups()) == 1


def test_a_database_that_comes_late(stack: NewStack) -> None:
    """A runner whose database comes twenty seconds after it waits, then migrates; the rest of `up` finds it done."""
    project = stack()
    project("up", "--detach", "--no-deps", "migrate")

    def twenty_seconds_on() -> bool:
        return any(line["left_seconds"] < 40 for line in project.log("migrate", "server_not_ready"))

    eventually(twenty_seconds_on, "the runner has waited for twenty seconds", seconds=60)
    assert project.state("migrate")["Running"]
    project("up", "--detach", "--no-deps", "db")
    eventually(lambda: not project.state("migrate")["Running"], "the runner has ended", seconds=60)
    (finished,) = project.log("migrate", "run_finished")
    assert (finished["exit_code"], len(finished["applied"])) == (0, len(history()))
    assert finished["wait_seconds"] > 20
    project("up", "--wait")
    no_op(project)
    assert project.ask("/health").status == 200


def test_a_wrong_password(stack: NewStack) -> None:
    """A password that is not the volume's ends the run at once with 21: nothing is waited for, nothing is started."""
    project = stack()
    project("up", "--wait", "db")
    eventually(lambda: project.query("select 1"), "the database answers")
    wrong = {"POSTGRES_PASSWORD": "Wr0ngSecret"}
    up = project("up", "--detach", "--wait", env=wrong, check=False)
    assert up.code == 1, up
    assert "exit 21" in up.stdout + up.stderr
    (finished,) = project.log("migrate", "run_finished")
    ready = [line for line in project.log("migrate") if line["event"] == "server_not_ready"]
    assert all(line["sqlstate"] in {None, "57P03"} for line in ready)  # it was asked once it answered, and once only
    assert (finished["exit_code"], finished["outcome"]) == (21, "refused")
    assert project.state("app")["Status"] == "created"
    assert "Wr0ngSecret" not in project("logs", "migrate").stdout


def test_three_runners_and_three_apps(stack: NewStack) -> None:
    """Of three runners at once one takes one backup, each revision is applied once, all end with 0, and three serve."""
    project = stack()
    project("run", "--rm", "-T", "migrate", "upgrade", BEFORE_SIGNALS)
    taken = len(project.backups())
    project("up", "--wait", "--scale", "migrate=3", "--scale", "app=3")
    runners = project.containers("migrate")
    assert [runner["State"]["ExitCode"] for runner in runners] == [0, 0, 0]
    applied = [line["revision"] for line in project.log("migrate", "revision_applied")]
    assert sorted(applied) == history()[history().index(BEFORE_SIGNALS) + 1 :]
    assert len(project.log("migrate", "backup_taken")) == 1
    assert len(project.backups()) == taken + 1
    apps = project.containers("app")
    assert [app["State"]["Health"]["Status"] for app in apps] == ["healthy"] * 3


# -- overlays ---------------------------------------------------------------------------------------------------------


def test_secrets_in_files(stack: NewStack, tmp_path: Path) -> None:
    """With secrets in files no container's configuration holds the password, and everything works."""
    secrets = tmp_path / "my secrets"
    secrets.mkdir(mode=0o700)
    quoted = PASSWORD.replace("%", "%25").replace("@", "%40").replace(":", "%3A").replace("/", "%2F")
    texts = {"postgres_password": PASSWORD, "database_url": f"postgresql://app:{quoted}@db:5432/app"}
    for name, text in texts.items():
        path = secrets / name
        path.write_text(f"{text}\n", encoding="utf-8")
        path.chmod(0o444)
    project = stack("secrets", SECRETS=str(secrets), POSTGRES_PASSWORD="not-this-one")
    project("up", "--wait")
    assert project.ask("/signals", SIGNAL).status == 201
    for service in ("db", "migrate", "app"):
        (container,) = project.containers(service)
        for secret in (PASSWORD, quoted, "not-this-one"):
            assert secret not in str(container), service
    assert PASSWORD not in project("logs").stdout


def test_hardened(stack: NewStack) -> None:
    """Read-only, without capabilities and without root, everything works: migration, backup, app."""
    project = stack("hardened")
    project("run", "--rm", "-T", "migrate", "upgrade", BEFORE_SIGNALS)
    project("up", "--wait")
    assert len(project.backups()) == 1
    assert project.ask("/signals", SIGNAL).status == 201
    for service in ("db", "migrate", "app"):
        (container,) = project.containers(service)
        host = container["HostConfig"]
        assert host["ReadonlyRootfs"], service
        assert host["CapDrop"] == ["ALL"], service
        assert "no-new-privileges:true" in host["SecurityOpt"], service
        assert host["PidsLimit"] > 0, service
        assert host["Memory"] > 0, service
        assert container["Config"]["User"] not in {"", "root", "0"}, service
    for service in ("db", "app"):
        status = project("exec", "-T", service, "cat", "/proc/1/status").stdout
        assert re.search(r"^Uid:\s+[1-9]", status, re.MULTILINE), status
        assert re.search(r"^CapEff:\s+0+$", status, re.MULTILINE), status
        assert re.search(r"^NoNewPrivs:\s+1$", status, re.MULTILINE), status


def test_dev(stack: NewStack) -> None:
    """`revision --autogenerate` writes into the host's folder, as the host's user, what the next `up` applies."""
    uid = os.getuid() or 12345
    gid = os.getgid() or 23456
    project = stack("dev", HOST_UID=str(uid), HOST_GID=str(gid))
    versions = project.folder / "migrations" / "versions"
    if os.getuid() == 0:
        shutil.chown(versions, uid, gid)
    project("up", "--wait")
    market = project.folder / "migrations" / "schema" / "public" / "market.py"
    text = market.read_text(encoding="utf-8")
    market.write_text(
        text.replace('sa.Column("action"', 'sa.Column("note", sa.Text),\n    sa.Column("action"'), encoding="utf-8"
    )
    before = set(project.revisions())
    project("run", "--rm", "-T", "headstart", "revision", "--autogenerate", "-m", "note on signals")
    (new,) = set(project.revisions()) - before
    assert "note_on_signals" in new.name
    assert (new.stat().st_uid, new.stat().st_gid) == (uid, gid)
    assert "op.add_column(" in new.read_text(encoding="utf-8")
    assert {path.stat().st_uid for path in (project.folder / "migrations").rglob("*.pyc")} <= {uid}
    project("up", "--wait")
    assert project.query("select count(*) from information_schema.columns where column_name = 'note'") == ["1"]
    assert len(project.backups()) == 1


# -- what is written --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", range(3))
def test_the_commands_of_the_readme_here(stack: NewStack, number: int) -> None:
    """Every block of compose/README.md can be typed as it is, in this folder."""
    block = blocks(ROOT / "compose" / "README.md")[number]
    typed(stack(), block, folder="compose")


def test_a_restore_as_the_readme_here_says(stack: NewStack) -> None:
    """compose/README.md: a backup takes the database's place, and the app starts on it."""
    (block,) = blocks(ROOT / "compose" / "README.md", "Restoring a backup")
    before = "docker compose up --wait\ndocker compose run --rm migrate backup\n"
    # The only version that there is here stands in for the one before.
    printed = typed(stack(), before + block.replace("VERSION=v1 ", ""), folder="compose")
    assert "before    app_before_restore_" in printed


def test_the_commands_of_the_readme(stack: NewStack) -> None:
    """The block of the README's "In Compose" can be typed as it is, at the root of the repository."""
    (block,) = blocks(ROOT / "README.md", "In Compose")
    assert '"status":"ok"' in typed(stack(), block, folder=".")


def typed(project: Stack, block: str, *, folder: str) -> str:
    """Type a block into a shell, with a port that is free in place of 8000, and return what it prints."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    for name in ("COMPOSE_FILE", "POSTGRES_PASSWORD"):
        del project.env[name]
    done = subprocess.run(
        ["sh", "-euc", block.replace(":8000", f":{port}")],
        env={**os.environ, **project.env, "APP_PORT": port},
        cwd=project.folder / folder,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    return done.stdout


def test_no_file_is_obsolete() -> None:
    """No compose file has a `version:` key, and nobody is told to type `docker-compose`."""
    files = sorted((ROOT / "compose").glob("*.yaml"))
    assert len(files) == 4
    for file in [*files, ROOT / "compose" / "README.md", ROOT / "README.md"]:
        text = file.read_text(encoding="utf-8")
        assert not re.search(r"(?m)^version:", text), file
        assert "docker-compose" not in text, file
