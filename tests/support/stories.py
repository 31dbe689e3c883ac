"""Stories: documents whose commands are typed for real, and whose outputs are compared with what comes out.

A story is Markdown. Its fenced blocks are acted out from the top down; the first words of a block say what it is:

    ```python versions/b2_add_email.py        a file of the project (env.py and versions/ are in migrations/)
    ```python versions/a1_users.py applied    the same, and the database is at this revision when the story begins
    ```sql                                    run as the owner
    ```sql session                            run in a session of somebody else, which stays open until the end
    ```sql server                             run in another database of the server
    ```console                                `$ command` lines with their outputs, and `exit 62` where it is not 0
    ```json                                   fields of the last log line of the command before; `{}` stands for all

A command that ends in ` &` goes on in the background once it waits for the server or a revision is in pg_sleep;
`kill -TERM %1` sends it a signal, `fg` waits for its end and shows what it has said. Only `console` and `json` hold
what came out; `4711` and `127.0.0.1:5432` in what is typed are the process and the server that were shown.
"""

from __future__ import annotations

import functools
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from acceptance.checks import Session, ended, leaks_nothing, path_of, running
from headstart.errors.exits import Exit
from support.outputs import fields, is_heartbeat, logged, sentence, steady
from support.postgres import psql, script
from support.process import Run, environment
from support.project import Project, fingerprint, recorded
from support.waiting import eventually

if TYPE_CHECKING:
    from collections.abc import Iterator

    from support.postgres import Postgres

STORIES = Path(__file__).resolve().parents[1] / "stories"
SECONDS = 60
DATABASE = "app"
PID = "4711"
ADDRESS = "127.0.0.1:5432"
UNTOUCHED = {int(code) for code in Exit if code.database.startswith("untouched")}

_BLOCK = re.compile(r"(?ms)^```(?P<info>[^\n]+)\n(?P<text>.*?)^```$")
_HOST = re.compile(rf"(@|\bhost |\bon |\b[0-9a-f]{{8}} ){re.escape(socket.gethostname())}\b")
_PID = re.compile(r"(?<=pid )\d+|(?<=pg_terminate_backend\()\d+")


class Stage:
    """Where a story is acted out: a project, a database called `app`, and the sessions of others.

    Args:
        server: where the database is made; it is dropped at the end of the `with` block.
        folder: an empty folder for the project.
        log: `json`, of which the same is made here as a terminal shows, or `console`, which has no fields to compare.
    """

    def __init__(self, server: Postgres, folder: Path, *, log: str = "json") -> None:
        self.server, self.home, self.log = server, folder / "home", log
        self.home.mkdir()
        self.project = Project(folder / "project")
        self.applied: list[str] = []
        self.last: dict[str, Any] = {}
        self.pid = PID
        self.job: tuple[subprocess.Popen[bytes], Path, str]
        self.stack = ExitStack()

    def play(self, text: str) -> str:
        """The story with the outputs that came out now."""
        if f"create database {DATABASE};" in text:
            self.url = self.server.url(DATABASE)
        return _BLOCK.sub(lambda block: f"```{block['info']}\n{self._act(block['info'], block['text'])}```", text)

    def _act(self, info: str, text: str) -> str:
        """Do what a block says, and return it with what came out."""
        if not info.endswith(" applied"):
            _ = self.url  # from here on, there are files that are not applied yet
        match info.split():
            case ["sql"]:
                script(self.url, self._true(text))
            case ["sql", "server"]:
                script(self.server.url(), text)
            case ["sql", "session"]:
                self.stack.enter_context(Session(self.url, "psql")).execute(text)
            case ["console"]:
                return "".join(f"{line}\n" for line in self._console(text))
            case ["json"]:
                return self._steady(fields(self.last, text))
            case [_, name, *applied]:
                folder = self.project.folder / ("migrations" if re.match(r"env\.py|versions/", name) else "")
                (folder / name).write_text(text, encoding="utf-8")
                self.applied += [text for _ in applied]
        return text

    @functools.cached_property
    def url(self) -> str:
        """The database, at the revisions that were applied before: a template for each set of them."""
        if not self.applied:
            return self.server.create_database(DATABASE)
        template = self.server.template("\0".join(self.applied), self._bring_to_head)
        return self.server.create_database(DATABASE, template=template)

    def _bring_to_head(self, url: str) -> None:
        subprocess.run(
            [sys.executable, "-m", "headstart", "up", "--backup=off"],
            cwd=self.project.folder,
            env=self._environment(url),
            check=True,
            capture_output=True,
        )

    def _environment(self, url: str) -> dict[str, str]:
        given = {
            "DATABASE_URL": url,
            "HEADSTART_LOG": self.log,
            "HEADSTART_SCRATCH_URL": self.server.url(),  # where `check` and the like make databases
            "PATH": os.pathsep.join([str(Path(sys.executable).parent), path_of(self.server)]),
            "PYTHONUNBUFFERED": "1",  # data and log in the order of a terminal
        }
        return environment(self.home, given)

    def _console(self, text: str) -> Iterator[str]:
        for line in text.splitlines():
            if line.startswith("$ "):
                yield line
                code, lines = self._type(line[2:])
                yield from lines
                yield from [f"exit {code}"] if code else []

    def _type(self, command: str) -> tuple[int, list[str]]:
        """Type a command in the project's folder: its exit code, and what a terminal shows, without colours."""
        if signalled := re.fullmatch(r"kill -(\w+) %1", command):
            self.job[0].send_signal(signal.Signals[f"SIG{signalled[1]}"])
            return 0, []
        if command != "fg":
            self.job = self._begin(command.removesuffix(" &"))
        process, output, before = self.job
        if command.endswith(" &"):
            eventually(lambda: self._is_at_work(output), f"{command} is at work")
            return 0, []
        process.wait(SECONDS)
        lines = [line for line in output.read_text(encoding="utf-8").splitlines() if not is_heartbeat(line)]
        self._check(process.returncode, lines, before)
        return process.returncode, [each for line in lines for each in self._steady(sentence(line)).splitlines()]

    def _check(self, code: int, lines: list[str], before: str) -> None:
        """Ask what must hold at each end: of the log, and of the database where it has to be as it was before."""
        log = [line for line in lines if logged(line)]
        data = [line for line in lines if not logged(line)]
        run = Run(code, "\n".join(data), "\n".join(log), 0)
        leaks_nothing(run, [self.server.password])
        self.last = run.last
        if "exit_code" not in self.last:  # the log of a verb that prints data, or of another program
            return
        last = ended(run, code)
        at = last.get("revision_after")
        stayed = last.get("applied") == [] and at is not None and at == last["revision_before"]
        repaired = any('"repaired"' in line for line in log)
        if (stayed and code != Exit.PARTLY_COMMITTED and not repaired) or code in UNTOUCHED:
            assert before in {"", self._fingerprint()}, f"the database has changed: {run}"
        if isinstance(at, str):
            assert recorded(self.url) == [each for each in [at] if each != "base"], str(run)

    def _fingerprint(self) -> str:
        there = psql(self.server.url(), "select from pg_database where datname = $1", DATABASE)
        return fingerprint(self.url) if there else ""

    def _is_at_work(self, output: Path) -> bool:
        waits = '"server_not_ready"' in output.read_text(encoding="utf-8")
        return waits or running(self.server.url(), "^select pg_sleep")

    def _begin(self, command: str) -> tuple[subprocess.Popen[bytes], Path, str]:
        """Start a command: its process, the file that gets what it says, and the database's fingerprint before it."""
        before = self._fingerprint()
        handle, name = tempfile.mkstemp(dir=self.home)
        process = subprocess.Popen(
            ["/bin/sh", "-c", self._true(command)],
            cwd=self.project.folder,
            env=self._environment(self.url),
            stdin=subprocess.DEVNULL,
            stdout=handle,
            stderr=handle,
        )
        os.close(handle)
        self.stack.callback(_end, process)
        return process, Path(name), before

    def _true(self, typed: str) -> str:
        """What is typed, with the process and the address that the steady ones stand for."""
        typed = typed.replace(PID, self.pid).replace(ADDRESS, f"{self.server.host}:{self.server.port}")
        return re.sub(r"^((?:\w+=\S* )*)(?=headstart )", r"\1exec ", typed)  # so that a signal reaches it

    def _steady(self, text: str) -> str:
        """The same, without what differs from run to run."""
        if pids := _PID.findall(text):
            self.pid = pids[-1]
        text = _PID.sub(PID, text).replace(str(self.project.folder), "/project")
        return steady(_HOST.sub(r"\1node-1", text))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stack.close()
        for (name,) in psql(self.server.url(), f"select datname from pg_database where datname ~ '^{DATABASE}(_|$)'"):
            self.server.drop_database(name)


def _end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    process.wait(SECONDS)
