from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import asyncpg
import pytest

from headstart.postgres.embedded import Embedded, EmbeddedServerError, Installation, installations
from support.postgres import Postgres, psql, query, script
from support.process import RUNNER
from support.waiting import eventually

if TYPE_CHECKING:
    from conftest import StartServer

HOLDER = """
import sys, time
from headstart.postgres.embedded import Embedded, installations
server = Embedded.start(installations()[0])
print(server.pid, server.folder, flush=True)
if sys.argv[1:] == ["return"]:
    sys.exit(0)
time.sleep(600)
"""


def _alive(pid: int) -> bool:
    """Whether a process runs. One that has ended, and that its new parent has not asked about yet, does not."""
    stat = Path(f"/proc/{pid}/stat")
    try:
        os.kill(pid, 0)
        return not stat.exists() or stat.read_text(encoding="utf-8").rpartition(")")[2].split()[0] != "Z"
    except (ProcessLookupError, FileNotFoundError):
        return False


def test_every_installation_is_named_once_newest_first() -> None:
    """Installations come newest first, one for each major version, each with its true version."""
    found = installations()
    assert found, "there is no Postgres on this machine"
    assert [one.major for one in found] == sorted({one.major for one in found}, reverse=True)
    assert all(one.version.startswith(f"{one.major}.") for one in found)


def test_a_folder_without_a_server_is_no_installation(tmp_path: Path) -> None:
    """A folder on PATH with some other program named postgres in it is passed over."""
    (tmp_path / "postgres").write_text("#!/bin/sh\necho postgres '(PostgreSQL)' 99.1\n", encoding="utf-8")
    (tmp_path / "postgres").chmod(0o755)
    assert 99 not in [one.major for one in installations(str(tmp_path))]


@pytest.mark.parametrize("said", ["", "TMPDIR"])
def test_its_files_are_in_memory_where_there_is_room(said: str) -> None:
    """A server's folder is on a file system in memory that has room, unless TMPDIR says where."""
    memory = os.statvfs("/dev/shm") if Path("/dev/shm").is_dir() else None  # noqa: S108
    if memory is None or memory.f_bavail * memory.f_frsize < 2 * 1024**3 or memory.f_flag & os.ST_NOEXEC:
        pytest.skip("this machine has no such file system")
    environ = {"PATH": os.environ["PATH"], "PYTHONPATH": str(RUNNER)}
    environ |= {"TMPDIR": "/var/tmp"} if said else {}  # noqa: S108
    code = "from headstart.postgres.embedded import server as s; print(next(s._places()))"
    done = subprocess.run([sys.executable, "-c", code], env=environ, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ("/var/tmp" if said else "/dev/shm")  # noqa: S108


def test_it_answers_over_tcp_and_over_the_socket(server: Postgres) -> None:
    """The same server answers on 127.0.0.1 and on its Unix socket."""
    over_tcp = psql(server.url(), "SELECT current_setting('server_version_num')::int / 10000, inet_server_port()")
    over_socket = psql(server.url(unix=True), "SELECT current_setting('port')::int, inet_server_port()")
    assert over_tcp == [(server.major, server.port)]
    assert over_socket == [(server.port, None)]


async def test_the_password_is_wanted(any_server: Postgres) -> None:
    """A wrong password is refused, over TCP and over the socket."""
    for unix in (False, True):
        with pytest.raises(asyncpg.InvalidPasswordError):
            await query(any_server.url(password="wrong", unix=unix), "SELECT 1")


def test_settings_reach_the_server(start_server: StartServer) -> None:
    """A setting that is given, with a quote in it, is the server's."""
    server = start_server(settings={"application_name": "it's", "max_connections": "7"})
    assert psql(server.url(), "SELECT current_setting('max_connections')") == [("7",)]


def test_it_comes_back_with_its_data_on_the_same_port(start_server: StartServer) -> None:
    """A server that was shut down refuses connections, and comes back as it was."""
    server = start_server()
    url = server.create_database("kept")
    server.shut_down()
    with pytest.raises(ConnectionRefusedError):
        psql(url, "SELECT 1")
    server.start_up()
    assert psql(url, "SELECT current_database()") == [("kept",)]


def test_a_standby_is_read_only(start_server: StartServer) -> None:
    """A server that became a standby says so and writes nothing."""
    server = start_server()
    server.become_standby()
    assert psql(server.url(), "SELECT pg_is_in_recovery()") == [(True,)]
    with pytest.raises(asyncpg.ReadOnlySQLTransactionError):
        psql(server.url(), "CREATE TABLE t ()")


def test_tls_is_offered_with_a_certificate_that_verifies(start_server: StartServer) -> None:
    """With tls the server's certificate stands up to sslmode=verify-full."""
    server = start_server(tls=True)
    url = f"{server.url()}?sslmode=verify-full&sslrootcert={server.tls_ca}"
    assert psql(url, "SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()") == [(True,)]


def test_a_template_is_built_once_and_cloned(any_server: Postgres) -> None:
    """Clones of a template hold its data, and its builder runs once."""
    built: list[str] = []

    def build(url: str) -> None:
        built.append(url)
        script(url, "CREATE TABLE t (a int); INSERT INTO t VALUES (42)")

    clones = [any_server.create_database(template=any_server.template("one table", build)) for _ in range(2)]
    assert [psql(clone, "SELECT a FROM t") for clone in clones] == [[(42,)], [(42,)]]
    assert len(built) == 1
    for clone in clones:
        any_server.drop_database(clone)


def test_any_name_will_do(any_server: Postgres) -> None:
    """A database may have a name that needs quoting in SQL and in a URL."""
    name = 'it\'s "one"/two %41 ü'
    url = any_server.create_database(name)
    assert psql(url, "SELECT current_database()") == [(name,)]
    any_server.drop_database(url)


def test_nothing_is_left_after_stop() -> None:
    """After the with block there is no process and no folder."""
    with Embedded.start(installations()[0]) as server:
        pid = server.pid
        assert pid is not None
        assert _alive(pid)
    assert not _alive(pid)
    assert not server.folder.exists()


@pytest.mark.parametrize("end", ["return", "SIGTERM", "SIGKILL"])
def test_nothing_is_left_however_the_program_ends(end: str) -> None:
    """The server and its folder go with the program that started it, even if that is killed."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDER, end],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env={**os.environ, "PYTHONPATH": str(RUNNER)},
    )
    with process:
        assert process.stdout is not None
        pid, folder = process.stdout.readline().split(maxsplit=1)
        if end != "return":
            process.send_signal(signal.Signals[end])
        process.wait(20)
    eventually(lambda: not _alive(int(pid)) and not Path(folder.strip()).exists(), "nothing left")


def test_a_server_that_cannot_start_says_why() -> None:
    """A setting that the server refuses is in the error, and nothing is left."""
    with pytest.raises(EmbeddedServerError, match="shared_buffers"):
        Embedded.start(installations()[0], settings={"shared_buffers": "many"})


def test_an_installation_that_is_not_there_says_so(tmp_path: Path) -> None:
    """A folder without Postgres in it is named."""
    with pytest.raises(EmbeddedServerError, match=tmp_path.name):
        Embedded.start(Installation(18, tmp_path))


@pytest.mark.skipif(os.geteuid() != 0, reason="only root drops to another user")
def test_a_closed_folder_is_copied_for_the_user_that_runs_the_server(tmp_path: Path) -> None:
    """As root, an installation under a folder that others cannot enter is copied to one that they can."""
    able = [one for one in installations() if (one.bindir.parent / "share").is_dir()]
    if not able:
        pytest.skip("no installation here can be moved")
    package = able[0].bindir.parent.parent
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)
    for name in (package.name, package.name + ".libs"):  # links to open folders, which nobody else can follow
        (closed / name).symlink_to(package.with_name(name))
    bindir = closed / package.name / able[0].bindir.parent.name / "bin"
    with Embedded.start(Installation(able[0].major, bindir)) as server:
        assert server.bindir.is_relative_to(server.folder)
        assert psql(server.url(), "SELECT 1") == [(1,)]
