"""A container engine, the images that the tests run, and containers that go when the test does.

Public base images are stood in for where the engine neither has nor gets them: tests/image/stand-ins/build.sh. Our own
are built as a user builds them, from Debian's Postgres clients, since those can be had wherever Debian can.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import secrets
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from support.waiting import eventually

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

ROOT = Path(__file__).resolve().parents[2]
STAND_INS = ROOT / "tests" / "image" / "stand-ins" / "build.sh"
CERTIFICATES = Path("/etc/ssl/certs/ca-certificates.crt")
BASE = "debian:trixie-slim"
RUNNER, STOCK, APP, POSTGRES = "headstart:test", "headstart-stock:test", "headstart-sample-app:test", "postgres:17"
PASSWORD = "p@ss:/w%rd"
"""Of every server here: what breaks bad quoting."""


class Done(NamedTuple):
    """How a command ended."""

    code: int
    stdout: str
    stderr: str

    @property
    def log(self) -> list[dict[str, Any]]:
        """The JSON lines of stderr."""
        return [json.loads(line) for line in self.stderr.splitlines() if line.startswith("{")]

    @property
    def last(self) -> dict[str, Any]:
        """The last of them: `run_finished`."""
        assert self.log, f"no log:\n{self.stdout}\n{self.stderr}"
        return self.log[-1]

    def events(self, name: str) -> list[dict[str, Any]]:
        """The log lines of one event."""
        return [line for line in self.log if line["event"] == name]

    def __str__(self) -> str:
        return f"exit {self.code}\n-- stdout\n{self.stdout}\n-- stderr\n{self.stderr}"


class Engine:
    """The docker command. Every name that it is asked for begins with the same random word."""

    def __init__(self) -> None:
        self.prefix = f"headstart-test-{secrets.token_hex(4)}"

    @staticmethod
    def missing() -> str | None:
        """Why no container can be run here, or None."""
        if shutil.which("docker") is None:
            return "there is no docker command"
        asked = subprocess.run(["docker", "info"], check=False, capture_output=True, text=True)
        return None if asked.returncode == 0 else "no container engine answers: make test-image starts one"

    def name(self, what: str = "") -> str:
        """A name that nobody else uses."""
        return f"{self.prefix}-{what or 'container'}-{secrets.token_hex(2)}"

    def docker(
        self,
        *words: str | Path,
        check: bool = True,
        env: Mapping[str, str] | None = None,
        cwd: Path | None = None,
        stdin: str | None = None,
        timeout: float = 900,
    ) -> Done:
        """Run a docker command to its end.

        Args:
            words: what follows `docker`.
            check: fail the test when it does not exit with 0.
            env: variables beside our own.
            cwd: where it runs.
            stdin: what it reads.
            timeout: seconds.
        """
        ran = subprocess.run(
            ["docker", *map(str, words)],
            check=False,
            capture_output=True,
            text=True,
            env={**os.environ, "DOCKER_BUILDKIT": "1", **(env or {})},
            cwd=cwd,
            input=stdin,
            timeout=timeout,
        )
        done = Done(ran.returncode, ran.stdout, ran.stderr)
        assert not check or done.code == 0, f"docker {' '.join(map(str, words))}\n{done}"
        return done

    def inspect(self, name: str) -> dict[str, Any]:
        """What the engine knows of a container or an image."""
        found: dict[str, Any] = json.loads(self.docker("inspect", name).stdout)[0]
        return found

    # -- images

    def stand_in(self, *names: str) -> None:
        """Make sure of public images."""
        with _alone():
            subprocess.run([str(STAND_INS), *names], check=True)

    def build(
        self,
        tag: str,
        *,
        context: Path = ROOT,
        file: Path | None = None,
        target: str | None = None,
        args: Mapping[str, str] | None = None,
        words: Sequence[str] = (),
    ) -> str:
        """Build an image, as the documentation tells users to; quick when nothing has changed. Returns its name."""
        options = [word for name, value in (args or {}).items() for word in ("--build-arg", f"{name}={value}")]
        options += ["--file", str(file)] if file else []
        options += ["--target", target] if target else []
        options += ["--secret", f"id=ca,src={CERTIFICATES}"] if CERTIFICATES.exists() else []
        with _alone():
            self.docker("build", "--quiet", "--tag", tag, *options, *words, context, timeout=3600)
        return tag

    def build_own(
        self, tag: str, target: str, *, majors: str = "15 17", base: str = BASE, words: Sequence[str] = ()
    ) -> str:
        """Build a stage of our Dockerfile."""
        self.stand_in(base)
        args = {"BASE": base, "POSTGRES_FROM": "debian", "POSTGRES_MAJORS": majors, "DEBIAN_RELEASES": "bookworm"}
        return self.build(tag, target=target, args=args, words=words)

    # -- what runs

    @contextlib.contextmanager
    def network(self) -> Iterator[str]:
        """A network of its own."""
        name = self.name("net")
        self.docker("network", "create", name)
        try:
            yield name
        finally:
            self.docker("network", "rm", name, check=False)

    @contextlib.contextmanager
    def volume(self) -> Iterator[str]:
        """A named volume."""
        name = self.name("volume")
        self.docker("volume", "create", name)
        try:
            yield name
        finally:
            self.docker("volume", "rm", "--force", name, check=False)

    def run(
        self, image: str, *command: str, options: Sequence[str | Path] = (), env: Mapping[str, str] | None = None
    ) -> Done:
        """Run a container to its end, and remove it."""
        given = [word for name in env or {} for word in ("--env", name)]  # by name: nothing secret in the arguments
        return self.docker("run", "--rm", *given, *options, image, *command, check=False, env=env, timeout=300)

    @contextlib.contextmanager
    def running(
        self, image: str, *command: str, options: Sequence[str | Path] = (), env: Mapping[str, str] | None = None
    ) -> Iterator[str]:
        """A container in the background, by its name."""
        name = self.name()
        given = [word for key in env or {} for word in ("--env", key)]
        try:
            self.docker("run", "--detach", "--name", name, *given, *options, image, *command, env=env)
            yield name
        finally:
            self.docker("rm", "--force", "--volumes", name, check=False)

    def logs(self, name: str) -> Done:
        """What a container has said, and its exit code so far."""
        said = self.docker("logs", name)
        return Done(self.inspect(name)["State"]["ExitCode"], said.stdout, said.stderr)

    def wait(self, name: str) -> Done:
        """Wait for a container's end."""
        self.docker("wait", name, timeout=300)
        return self.logs(name)

    @contextlib.contextmanager
    def postgres(self, network: str, *, database: str = "app", host: str = "db") -> Iterator[Server]:
        """A server that takes queries, as `host` on the network."""
        self.stand_in(BASE, POSTGRES)
        options = ["--network", network, "--network-alias", host, "--tmpfs", "/var/lib/postgresql/data:mode=1777"]
        env = {"POSTGRES_USER": "app", "POSTGRES_PASSWORD": PASSWORD, "POSTGRES_DB": database}
        with self.running(POSTGRES, "postgres", "-c", "fsync=off", options=options, env=env) as name:
            server = Server(self, name, host, database)
            eventually(server.answers, "the server in a container", seconds=90)
            yield server


class Server(NamedTuple):
    """A Postgres in a container."""

    engine: Engine
    name: str
    host: str
    database: str

    def url(self, password: str = PASSWORD) -> str:
        """Its address for containers on its network."""
        quoted = password.replace("%", "%25").replace("@", "%40").replace(":", "%3A").replace("/", "%2F")
        return f"postgresql://app:{quoted}@{self.host}:5432/{self.database.replace(' ', '%20')}"

    def query(self, sql: str) -> list[str]:
        """The rows of a query, fields parted by |."""
        words = ("psql", "-qXAt", "-v", "ON_ERROR_STOP=1", "-U", "app", "-d", self.database, "-c", sql)
        return self.engine.docker("exec", self.name, *words).stdout.splitlines()

    def answers(self) -> bool:
        """Whether the server that stays answers: the temporary one of the first start listens nowhere."""
        words = ("psql", "-qXAt", "-h", "127.0.0.1", "-U", "app", "-d", self.database, "-c", "select 1")
        env = {"PGPASSWORD": PASSWORD}
        return self.engine.docker("exec", "--env", "PGPASSWORD", self.name, *words, check=False, env=env).code == 0


@contextlib.contextmanager
def _alone() -> Iterator[None]:
    """One build at a time on this machine: several workers would otherwise do the same work at once."""
    with (Path(tempfile.gettempdir()) / "headstart-test-images.lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
