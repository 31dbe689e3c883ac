"""As root, a server of our own runs as another user. What that user puts into its folder harms nobody else."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from headstart.postgres.embedded import Embedded, EmbeddedServerError, installations
from headstart.postgres.embedded.installation import unprivileged
from support.waiting import eventually

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="another user can be had by root alone")

# Puts a link to a file of root's wherever a server's folder appears, under each name that is used there.
PLANTER = """
echo ready
while :; do
    for folder in "$2"/headstart-pg-*; do
        for name in password log postgres; do ln -s "$1" "$folder/$name"; done
    done
done
"""


@pytest.fixture
def place(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Where the servers of this test have their folders, and no other test's."""
    with tempfile.TemporaryDirectory(prefix="neighbours-") as folder:
        Path(folder).chmod(0o755)
        monkeypatch.setenv("TMPDIR", folder)
        monkeypatch.setattr(tempfile, "tempdir", None)
        yield Path(folder)


@pytest.fixture
def victim() -> Iterator[Path]:
    """A file that only root may read and write."""
    with tempfile.NamedTemporaryFile("w", prefix="victim-", encoding="utf-8") as file:
        file.write("root's own")
        file.flush()
        yield Path(file.name)


def unharmed(victim: Path) -> bool:
    """It is as it was, and root's."""
    return (victim.read_text(encoding="utf-8"), victim.stat().st_uid) == ("root's own", 0)


def test_links_that_are_there_first(place: Path, victim: Path) -> None:
    """Whoever is quick enough to put links into the folder keeps a server from starting, and gets nothing for it."""
    argv = ["/bin/sh", "-c", PLANTER, "sh", str(victim), tempfile.gettempdir()]
    with subprocess.Popen(
        argv, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, cwd="/", **unprivileged()
    ) as planter:
        assert planter.stdout is not None
        assert planter.stdout.readline() == b"ready\n"
        try:
            for _ in range(3):
                with contextlib.suppress(EmbeddedServerError), Embedded.start(installations()[0]):
                    pass
                assert unharmed(victim)
        finally:
            planter.kill()


def test_links_that_come_later(victim: Path) -> None:
    """What is read there is read as what it is, and what is written is written as the server's user."""
    with Embedded.start(installations()[0]) as server:
        settings = server.data_dir / "postgresql.conf"
        swap = 'mv "$2" "$2.kept"; ln -s "$1" "$2"; rm -f "$3"; ln -s "$1" "$3"'
        argv = ["/bin/sh", "-c", swap, "sh", str(victim), str(settings), str(server.folder / "log")]
        subprocess.run(argv, check=True, cwd="/", **unprivileged())
        assert server.log_text() == ""
        with pytest.raises(EmbeddedServerError):
            server._configure({"work_mem": "1MB"})
        assert unharmed(victim)


def test_a_process_that_it_names(victim: Path) -> None:
    """However the program ends: no process of root's is ended because its number stands in the server's folder."""
    with subprocess.Popen(["sleep", "600"]) as sleeper:
        program = (
            "from headstart.postgres.embedded import Embedded, installations\n"
            "server = Embedded.start(installations()[0])\n"
            "print(server.folder, flush=True)\n"
            "input()\n"
        )
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
        with subprocess.Popen([sys.executable, "-c", program], text=True, **pipes) as holder:  # type: ignore[call-overload]
            folder = Path(holder.stdout.readline().strip())
            server = int((folder / "data" / "postmaster.pid").read_text(encoding="utf-8").split()[0])
            other = 'echo "$2" >"$1"'
            argv = ["/bin/sh", "-c", other, "sh", str(folder / "data" / "postmaster.pid"), str(sleeper.pid)]
            subprocess.run(argv, check=True, cwd="/", **unprivileged())
            holder.kill()
        eventually(lambda: not folder.exists(), "the folder's end", seconds=30)
        assert sleeper.poll() is None
        sleeper.kill()
        with contextlib.suppress(ProcessLookupError):  # it ends by itself without its folder
            os.kill(server, 3)
    assert unharmed(victim)
