"""One throw-away server: made, started, shut down, removed."""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import socket
import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from headstart.postgres.embedded.installation import EmbeddedServerError, Installation, readable, unprivileged

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from types import TracebackType

SUPERUSER = "postgres"
HOST = "127.0.0.1"

# Durability is worth nothing here, and costs most of the time. The rest is as Postgres ships it: what is seen is real.
SETTINGS: Mapping[str, str] = {
    "fsync": "off",
    "full_page_writes": "off",
    "synchronous_commit": "off",
    "logging_collector": "off",
    "log_min_messages": "warning",
    "cluster_name": "headstart-embedded",
}

MEMORY = Path("/dev/shm")  # noqa: S108  (mkdtemp makes it safe)
"""A file system in memory: a database is made there in some twenty milliseconds, and on a slow disk in a second."""
_ROOM = 2 * 1024**3

# A socket's path may have 107 bytes (unix(7)); ours adds "/headstart-pg-12345678/.s.PGSQL.65535.lock".
_LONGEST_PARENT = 60

_STOP_SECONDS = 20.0
_PORT_TRIES = 5

# $1: the server's folder. A line on stdin means that all is done; the end of stdin, that our process is gone.
_WATCHDOG = """
read -r goodbye && exit 0
for try in 1 2 3 4 5; do
    pid=$(head -n 1 "$1/data/postmaster.pid" 2>/dev/null)
    if [ -n "$pid" ]; then
        kill -QUIT "$pid"
        kill -CONT "$pid"
        for tick in $(seq 200); do [ -e "$1/data/postmaster.pid" ] && kill -0 "$pid" || break; sleep 0.05; done
    fi
    rm -rf "$1"
    [ -e "$1" ] || exit 0
    sleep 0.5
done
"""


class Embedded:
    """A Postgres server of our own, in a folder of its own: made by `start`, gone after `stop` or the `with` block.

    It listens on 127.0.0.1, on a port that the system gave, and on a Unix socket; both want the superuser's password
    (scram-sha-256). As root it runs as `nobody`, since Postgres refuses to run as root.
    """

    def __init__(self, installation: Installation, *, settings: Mapping[str, str]) -> None:
        self.major = installation.major
        self.bindir = installation.bindir
        self.host = HOST
        self.port = 0
        self.superuser = SUPERUSER
        self.password = secrets.token_hex(12)
        self.settings = {**SETTINGS, **settings}
        self._as_user = unprivileged()
        self.folder = _workspace(self._as_user)
        self._watchdog = subprocess.Popen(
            ["/bin/sh", "-c", _WATCHDOG, "headstart-watchdog", str(self.folder)],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,  # a terminal's ^C, or a signal to our group, is not for it
            cwd="/",
            **self._as_user,  # it obeys what stands in a folder that is the server's
        )

    @classmethod
    def start(cls, installation: Installation, *, settings: Mapping[str, str] | None = None) -> Self:
        """Make a new, empty server and wait until it takes connections: about a second, most of it initdb.

        Args:
            installation: one of `installations()`.
            settings: parameters for postgresql.conf, over those of `SETTINGS`.

        Raises:
            EmbeddedServerError: with the last lines of the server's own log.
        """
        server = cls(installation, settings=settings or {})
        try:
            server._initialise()
            server.start_up()
        except BaseException:
            server.stop()
            raise
        return server

    # -- where it is --------------------------------------------------------------------------------------------------

    @property
    def data_dir(self) -> Path:
        """The data folder."""
        return self.folder / "data"

    @property
    def pid(self) -> int | None:
        """The process id of the postmaster, None while it is shut down."""
        text = _text_of(self.data_dir / "postmaster.pid")
        return int(text.split()[0]) if text else None

    def url(self, database: str = "postgres") -> str:
        """The libpq URL of one of its databases, whose name needs no quoting."""
        return f"postgresql://{self.superuser}:{self.password}@{self.host}:{self.port}/{database}"

    def log_text(self) -> str:
        """Everything that the server has logged so far."""
        return _text_of(self.folder / "log")

    # -- what can be done with it -------------------------------------------------------------------------------------

    def start_up(self) -> None:
        """Start it (again), on the port that it had, and wait until it takes connections.

        Raises:
            EmbeddedServerError: with the last lines of the server's own log.
        """
        chosen = self.port == 0
        for _ in range(_PORT_TRIES):
            if chosen:
                self.port = _free_port()
            before = len(self.log_text())
            try:
                self._pg_ctl("start", f"--log={self.folder / 'log'}", f"--options=-p {self.port}")
            except EmbeddedServerError as error:
                log = self.log_text()
                if chosen and "in use" in log[before:]:
                    continue  # another program was quicker to take the port
                raise EmbeddedServerError(f"Postgres {self.major} did not start: {log[-2000:] or error}") from error
            return

    def shut_down(self, mode: str = "fast") -> None:
        """Shut it down, and keep its data for `start_up`.

        Args:
            mode: smart, fast or immediate: PostgreSQL manual, "Shutting Down the Server".
        """
        if self.pid is not None:
            self._pg_ctl("stop", f"--mode={mode}")

    def stop(self) -> None:
        """End it at once and remove everything of it. May be called again."""
        if not self.folder.exists() and self._watchdog.returncode is not None:
            return
        with contextlib.suppress(EmbeddedServerError):  # it has ended meanwhile, or the watchdog ends it
            self.shut_down("immediate")
        shutil.rmtree(self.folder, ignore_errors=True)
        self._watchdog.communicate(b"goodbye\n", timeout=_STOP_SECONDS)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    # -- how it is made -----------------------------------------------------------------------------------------------

    def _initialise(self) -> None:
        self.bindir = readable(Installation(self.major, self.bindir), self._as_user, self.folder / "postgres")
        if self._as_user:  # from here on root neither writes there by name nor follows a link
            for path in (*self.folder.rglob("*"), self.folder):
                os.chown(path, self._as_user["user"], self._as_user["group"], follow_symlinks=False)
        password_file = self.folder / "password"
        self._append(password_file, f"{self.password}\n")
        accounts = [f"--username={SUPERUSER}", f"--pwfile={password_file}", "--auth=scram-sha-256"]
        language = ["--encoding=UTF8", "--locale=C.UTF-8"]
        quick = ["--no-sync", "--no-instructions"]
        self._run([self.bindir / "initdb", f"--pgdata={self.data_dir}", *accounts, *language, *quick])
        password_file.unlink()
        self._configure({"listen_addresses": HOST, "unix_socket_directories": str(self.folder), **self.settings})

    def _configure(self, settings: Mapping[str, str]) -> None:
        lines = ["{} = '{}'\n".format(name, value.replace("'", "''")) for name, value in settings.items()]
        self._append(self.data_dir / "postgresql.conf", "".join(lines))

    def _append(self, path: Path, text: str) -> None:
        """Write to a file as the server's user."""
        self._run(["/bin/sh", "-c", 'umask 077; cat >>"$1"', "sh", path], given=text)

    def _pg_ctl(self, *words: str) -> None:
        self._run([self.bindir / "pg_ctl", f"--pgdata={self.data_dir}", "--wait", "--silent", *words])

    def _run(self, argv: Sequence[str | Path], *, given: str = "") -> None:
        try:
            subprocess.run(
                argv,
                check=True,
                input=given,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                cwd=self.folder,
                env=_environment(),
                **self._as_user,
            )
        except FileNotFoundError as error:
            raise EmbeddedServerError(f"{argv[0]} is needed for this and is not installed") from error
        except subprocess.CalledProcessError as error:
            raise EmbeddedServerError(f"{argv[0]} failed: {error.stdout[-2000:]}") from error


def _environment() -> dict[str, str]:
    """What a server's programs see of ours: nothing of PG*, no language, no time zone."""
    return {"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C.UTF-8", "TZ": "UTC"}


def _text_of(path: Path) -> str:
    """What is in a file of the server's, "" where there is none. The server's user may put a link or a pipe there."""
    try:
        with open(path, "rb", opener=_without_following) as file:
            return file.read().decode("utf-8", "replace")
    except OSError:
        return ""


def _without_following(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK)


def _workspace(as_user: Mapping[str, Any]) -> Path:
    """A new folder for the server, in a place that it can reach, with a path that is short enough."""
    for parent in _places():
        reachable = not as_user or all(folder.stat().st_mode & 0o001 for folder in (parent, *parent.parents))
        if len(os.fsencode(parent)) <= _LONGEST_PARENT and reachable:
            return Path(tempfile.mkdtemp(prefix="headstart-pg-", dir=parent))
    raise EmbeddedServerError("there is no temporary folder with a short path that an unprivileged user can reach")


def _places() -> Iterator[Path]:
    """Where a server's folder may be: in memory first, unless TMPDIR names a place."""
    if not any(os.environ.get(name) for name in ("TMPDIR", "TEMP", "TMP")):
        with contextlib.suppress(OSError):
            found = os.statvfs(MEMORY)
            # Containers have 64 MB there, and no program can be run from it.
            if found.f_bavail * found.f_frsize >= _ROOM and not found.f_flag & os.ST_NOEXEC:
                yield MEMORY
    yield from map(Path, (tempfile.gettempdir(), "/tmp", "/var/tmp"))  # noqa: S108  (likewise)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        port: int = probe.getsockname()[1]
        return port
