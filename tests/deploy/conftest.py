"""A Raspberry Pi in a folder: a git repository with an app's versions, deployed by deploy.sh with a real engine."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import subprocess
import threading
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import pytest

from support.engine import PASSWORD, ROOT, RUNNER, Done, Engine
from support.project import Project
from support.waiting import eventually

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

SCRIPT = ROOT / "deploy" / "raspberry-pi" / "deploy.sh"
SECONDS = 240
STAGES = ("begin", "stop", "backup", "copy", "migrate", "verify", "start", "health")

COMPOSE = """\
name: {name}
services:
  db:
    image: postgres:17
    command: postgres -c fsync=off
    environment: {{POSTGRES_USER: app, POSTGRES_DB: app, POSTGRES_PASSWORD: "${{POSTGRES_PASSWORD:?}}"}}
    healthcheck:
      test: [CMD, pg_isready, --quiet, --host=127.0.0.1, --username=app]
      interval: 1s
      retries: 60
    volumes: ["{volume}:/var/lib/postgresql/data"]
  migrate:
    build: .
    image: {name}:${{VERSION:-latest}}
    restart: "no"
    depends_on: {{db: {{condition: service_healthy}}}}
    environment: &database
      DATABASE_URL: postgresql://app@db/app
      PGPASSWORD: "${{POSTGRES_PASSWORD:?}}"
    volumes: ["backups:/backups"]
  app:
    image: {name}:${{VERSION:-latest}}
    command: [python3, /srv/app.py]
    init: true
    restart: always
    depends_on: {{migrate: {{condition: service_completed_successfully}}}}
    environment: *database
    ports: ["127.0.0.1::8000"]
volumes: {{{volume}: {{}}, backups: {{}}}}
"""

DOCKERFILE = f"""\
FROM {RUNNER}
COPY alembic.ini ./
COPY migrations migrations
COPY app.py /srv/app.py
"""

APP = '''\
"""POST /NOTE writes a row; GET /health answers {health}."""

import asyncio
import os

import asyncpg


async def answer(reader, writer):
    method, path, _ = (await reader.readline()).decode().split()
    status = {health} if path == "/health" else 404
    if method == "POST":
        await pool.execute("insert into notes (note) values ($1)", path[1:])
        status = 201
    writer.write(b"HTTP/1.0 %d x\\r\\n\\r\\n" % status)
    await writer.drain()
    writer.close()


async def main():
    global pool
    pool = await asyncpg.create_pool(min_size=1, max_size=2, command_timeout=5)
    print("the app is up", flush=True)
    await asyncio.sleep({late})
    async with await asyncio.start_server(answer, port=8000) as server:
        await server.serve_forever()


os.environ |= {{"PGHOST": "db", "PGUSER": "app", "PGDATABASE": "app"}}
asyncio.run(main())
'''


class Seen(NamedTuple):
    """What a deploy may change: all of it is as before, or the deploy has worked."""

    version: str
    head: str
    env: str
    revision: str
    columns: str
    notes: str


class Pi:
    """One machine with one app. The versions are git tags; with `images` they are images only, without a checkout."""

    def __init__(self, engine: Engine, folder: Path) -> None:
        self.engine, self.folder, self.name = engine, folder, engine.name("pi")
        self.project = Project(folder)
        self.git_kept = True
        self.state = folder.with_name(f"{folder.name}.deploy")
        self.env = {"PATH": os.environ["PATH"], "HOME": str(folder.parent), "LANG": "C.UTF-8", "DOCKER_BUILDKIT": "1"}
        self.env |= {name: os.environ[name] for name in ("DOCKER_HOST",) if name in os.environ}
        self.env |= {"DEPLOY_HEALTH_TIMEOUT": "8", "DOCKER_CONFIG": os.environ.get("DOCKER_CONFIG", _docker_config())}
        self.write("Dockerfile", DOCKERFILE)
        self.write(".gitignore", ".env\n")
        self.write(".env", f"# of this machine\nPOSTGRES_PASSWORD='{PASSWORD}'\n")
        self.git("init", "--quiet", "--initial-branch=main")

    def write(self, name: str, text: str) -> None:
        """Write a file of the checkout."""
        (self.folder / name).write_text(text, encoding="utf-8")

    def git(self, *words: str) -> str:
        """Run git in the checkout."""
        identity = ("-c", "user.name=pi", "-c", "user.email=pi@localhost")
        done = subprocess.run(
            ["git", *identity, *words], cwd=self.folder, env=self.env, capture_output=True, text=True, check=True
        )
        return done.stdout.strip()

    def tag(self, version: str, *, health: int = 200, late: int = 0, volume: str = "db") -> None:
        """Commit what the folder holds as a version, whose app listens after `late` seconds."""
        self.write("app.py", APP.format(health=health, late=late))
        self.write("compose.yaml", COMPOSE.format(name=self.name, volume=volume))
        self.git("add", "--all")
        self.git("commit", "--quiet", "--message", version)
        self.git("tag", version)

    def to_images(self) -> None:
        """Build every version's image, and forget the checkout: what a machine that pulls has."""
        for version in self.git("tag").split():
            self.git("checkout", "--quiet", version)
            self.engine.docker("build", "--quiet", "--tag", f"{self.name}:{version}", self.folder)
        shutil.rmtree(self.folder / ".git")
        self.git_kept = False

    # -- deploying

    def start(self, *words: str, script: Path = SCRIPT, **env: str) -> subprocess.Popen[str]:
        """Start deploy.sh, as a shell in its own session would."""
        return subprocess.Popen(
            [str(script), *words],
            cwd=self.folder,
            env=self.env | env,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def deploy(self, *words: str, code: int = 0, script: Path = SCRIPT, **env: str) -> str:
        """Run deploy.sh to its end, and return all that it says."""
        with self.start(*words, script=script, **env) as process:
            out, err = process.communicate(timeout=SECONDS)
        done = Done(process.returncode, out, err)
        assert done.code == code, f"deploy.sh {' '.join(words)}\n{done}"
        assert PASSWORD not in out + err
        return out + err

    def interrupt(self, signum: signal.Signals, stage: str, *words: str) -> Done:
        """Start deploy.sh, send it a signal once its journal says that it has come to a stage, and wait for its end."""
        after = STAGES[STAGES.index(stage) :] if stage in STAGES else (stage,)  # a short one may be over already

        def reached() -> bool:
            found = re.search(r"(?m)^stage=(\w+)$", self.journal)
            return process.poll() is not None or (found is not None and found[1] in after)

        with self.start(*words) as process:
            eventually(reached, stage, seconds=120)
            process.send_signal(signum)
            if signum == signal.SIGKILL:  # what it has started holds its pipes open
                process.wait(timeout=SECONDS)
                return Done(process.returncode, "", "")
            out, err = process.communicate(timeout=SECONDS)
        return Done(process.returncode, out, err)

    def limited(self) -> Path:
        """deploy.sh under a limit on the size of files: the journal may be written, a dump may not."""
        script = self.folder.with_name("limited.sh")
        script.write_text(f"#!/bin/bash\nulimit -f 1\nexec '{self.state}/deploy.sh' \"$@\"\n", encoding="utf-8")
        script.chmod(0o755)
        return script

    @property
    def journal(self) -> str:
        """The journal of a deploy under way, or nothing."""
        with contextlib.suppress(FileNotFoundError):
            return (self.state / "journal").read_text()
        return ""

    # -- what there is

    def container(self, service: str) -> str:
        """The name of a service's container that runs, or nothing."""
        label = f"label=com.docker.compose.project={self.name}"
        words = ("ps", "--quiet", "--filter", label, "--filter", f"label=com.docker.compose.service={service}")
        return self.engine.docker(*words).stdout.strip()

    def query(self, sql: str, database: str = "app") -> str:
        """The rows of a query, one a line."""
        words = ("psql", "-qXAt", "-v", "ON_ERROR_STOP=1", "-U", "app", "-d", database, "-c", sql)
        return self.engine.docker("exec", self.container("db"), *words).stdout.strip()

    def seen(self) -> Seen:
        """Everything that a deploy may change."""
        app = self.container("app")
        image = self.engine.inspect(app)["Config"]["Image"].rpartition(":")[2] if app else ""
        columns = "select string_agg(attrelid::regclass || '.' || attname, ' ' order by 1) from pg_attribute"
        columns += (
            " where attnum > 0 and not attisdropped and attrelid in (select oid from pg_class where relkind = 'r'"
        )
        columns += " and relnamespace = 'public'::regnamespace)"
        return Seen(
            version=image,
            head=self.git("rev-parse", "HEAD") if self.git_kept else "",
            env=(self.folder / ".env").read_text(),
            revision=self.query("select version_num from alembic_version"),
            columns=self.query(columns.replace("order by 1)", "order by attrelid::regclass::text, attname)")),
            notes=self.query("select string_agg(note, ' ' order by id) from notes"),
        )

    def address(self) -> str:
        """Where the app answers."""
        port = self.engine.docker("port", self.container("app"), "8000/tcp").stdout.strip()
        return f"http://{port}"

    def post(self, note: str) -> None:
        """Let the app write a row."""
        with urllib.request.urlopen(f"{self.address()}/{note}", data=b"", timeout=5):
            pass

    @contextlib.contextmanager
    def writing(self) -> Iterator[list[str]]:
        """Let the app write rows all the time until it is stopped; the list holds those that it has acknowledged."""
        kept: list[str] = []
        address, end = self.address(), threading.Event()

        def write() -> None:
            for number in range(100_000):
                try:
                    with urllib.request.urlopen(f"{address}/w{number}", data=b"", timeout=5):
                        kept.append(f"w{number}")
                except OSError:
                    return
                if end.wait(0.01):
                    return

        thread = threading.Thread(target=write)
        thread.start()
        eventually(lambda: kept, "the app's first row")
        try:
            yield kept
        finally:
            end.set()
            thread.join()

    def remove(self) -> None:
        """Everything of this machine's goes."""
        label = f"label=com.docker.compose.project={self.name}"
        for kind in ("container", "network", "volume"):
            listed = self.engine.docker(kind, "ls", "--quiet", "--filter", label, *(["--all"] * (kind == "container")))
            if names := listed.stdout.split():
                self.engine.docker(kind, "rm", *([] if kind == "network" else ["--force"]), *names, check=False)
        if images := self.engine.docker("image", "ls", "--quiet", self.name).stdout.split():
            self.engine.docker("image", "rm", "--force", *images, check=False)


def _docker_config() -> str:
    """Where the docker command finds its plugins, whatever HOME is."""
    return str(Path.home() / ".docker")


def history(pi: Pi) -> None:
    """The versions: v1, v2 and v3 are good, v2-late is slow to start, v3-slow to migrate, the others have a fault."""
    pi.project.revision("r1", "create table notes (id serial primary key, note text)", undo=["drop table notes"])
    pi.tag("v1")
    pi.project.revision("r2", "alter table notes add column two int", undo=["alter table notes drop column two"])
    pi.tag("v2")
    pi.tag("v2-late", late=3)
    pi.project.revision("r3", "alter table notes add column three int", undo=["alter table notes drop column three"])
    pi.tag("v3")
    pi.tag("v3-health", health=503)
    pi.tag("v3-volume", volume="another")
    one_way = pi.project.revision("r4", "alter table notes add column four int", undo=["select 1 / 0"])
    pi.tag("v4-one-way")
    one_way.unlink()
    broken = pi.project.revision(
        "r4", "update notes set note = 'lost'", "alter table nowhere add column x int", down="r3"
    )
    pi.tag("v3-migration")
    broken.unlink()
    pi.project.revision("r4", "update notes set note = 'lost'", "select pg_sleep(6)", down="r3")
    pi.tag("v3-slow")
    pi.git("checkout", "--quiet", "v1")


@pytest.fixture(scope="session")
def make_pi(
    engine: Engine, runner_image: str, tmp_path_factory: pytest.TempPathFactory
) -> Callable[..., contextlib.AbstractContextManager[Pi]]:
    """Make machines with the versions of `history`, that are removed afterwards."""
    assert runner_image == RUNNER
    engine.stand_in("debian:trixie-slim", "postgres:17")

    @contextlib.contextmanager
    def make(*, images: bool = False) -> Iterator[Pi]:
        folder = tmp_path_factory.mktemp("a pi") / "analyser"  # a space, to break bad quoting
        folder.mkdir()
        pi = Pi(engine, folder)
        try:
            history(pi)
            if images:
                pi.to_images()
            yield pi
        finally:
            pi.remove()

    return make


@pytest.fixture
def pi(make_pi: Callable[..., contextlib.AbstractContextManager[Pi]]) -> Iterator[Pi]:
    """A machine on which v1 was deployed, with two rows."""
    with make_pi() as made:
        made.deploy("v1")
        made.post("one")
        made.post("two")
        yield made


@pytest.fixture(scope="module")
def shared(make_pi: Callable[..., contextlib.AbstractContextManager[Pi]]) -> Iterator[Pi]:
    """The same, for the tests that end where they began."""
    with make_pi() as made:
        made.deploy("v1")
        made.post("one")
        yield made


@pytest.fixture
def settled(shared: Pi) -> Iterator[Pi]:
    """The shared machine, which has to be at v1 afterwards, without a change under way, whatever a test does."""
    before = shared.seen()
    yield shared
    after = shared.seen()
    assert after._replace(notes="") == before._replace(notes="")
    assert after.notes.startswith(before.notes), "a row was lost"
    assert not shared.journal


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Every test here needs an engine and takes its time."""
    for item in items:
        if "/tests/deploy/" in str(item.path):
            item.add_marker(pytest.mark.container)
            item.add_marker(pytest.mark.slow)
            item.add_marker(pytest.mark.timeout(900))
