"""A process that imports Alembic once, and is forked to work on tenants: `headstart.tenants.crew` starts it.

It runs no thread and no event loop, so that forking is safe. Each byte on its socket brings another socket: that of a
forked process, which reads its jobs there and answers. When its own closes, all of them are to end.
"""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import gc
import os
import select
import signal
import socket
import sys
import time
from importlib import import_module
from typing import TYPE_CHECKING, Any, NoReturn, TextIO
from urllib.parse import quote

from headstart import log
from headstart.errors import HeadstartError, InterruptedRunError
from headstart.operate import standing
from headstart.process import kill_remaining
from headstart.run import Outcome, Run, conduct
from headstart.secret import Redactor
from headstart.signals import PATIENCE, Interrupt
from headstart.tenants import schema
from headstart.tenants.job import Answer, Job
from headstart.up import connected, find, up

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from headstart.dsn import Dsn

# What a job would import at the latest when it is at work.
_BESIDES = (
    "alembic.op",
    "headstart.script_run",
    "headstart.script_statement",
    "sqlalchemy.dialects.postgresql.asyncpg",
    "sqlalchemy.ext.asyncio",
    "structlog",
)
_OTHER_URLS = ("DATABASE_URL_FILE", "DATABASE_DIRECT_URL", "DATABASE_DIRECT_URL_FILE")


def main(descriptor: int) -> NoReturn:
    """Fork for each job, until the socket closes or SIGTERM comes; then end what still runs, and leave.

    Args:
        descriptor: of the socket.
    """
    control = socket.socket(fileno=descriptor)
    os.set_inheritable(descriptor, False)
    for name in _BESIDES:
        import_module(name)
    gc.collect()
    gc.freeze()  # or the collector would write to each page that the processes share
    nursery = _Nursery(control)
    nursery.serve()
    nursery.end()
    os._exit(0)


class _Nursery:
    """The forked processes, each with the socket of its job."""

    def __init__(self, control: socket.socket) -> None:
        self._control = control
        self._jobs: dict[int, socket.socket] = {}
        self._ending = False
        self._woken, self._waking = os.pipe()
        os.set_blocking(self._waking, False)
        signal.set_wakeup_fd(self._waking, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.signal(signal.SIGTERM, self._end)

    def _end(self, *_: object) -> None:
        self._ending = True

    def serve(self) -> None:
        while not self._ending:
            ready, _, _ = select.select([self._control.fileno(), self._woken], [], [])
            if self._woken in ready:
                os.read(self._woken, 4096)
                self._reap()
            if self._control.fileno() in ready and not self._ending:
                data, descriptors, _, _ = socket.recv_fds(self._control, 1, 1)
                if not data:
                    return
                self._fork(socket.socket(fileno=descriptors[0]))

    def _fork(self, channel: socket.socket) -> None:
        pid = os.fork()
        if pid:
            self._jobs[pid] = channel
            return
        code = 1
        try:
            for signum in (signal.SIGCHLD, signal.SIGTERM):
                signal.signal(signum, signal.SIG_DFL)
            signal.set_wakeup_fd(-1)
            for each in (self._control, *self._jobs.values()):
                each.close()
            for pipe in (self._woken, self._waking):
                os.close(pipe)
            code = _work(channel)
        finally:
            os._exit(code)

    def _reap(self) -> None:
        """Tell who waits for a job that its process has ended, and how."""
        while self._jobs:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if pid == 0:
                return
            if pid in self._jobs:
                with contextlib.suppress(OSError), self._jobs.pop(pid) as channel:
                    channel.sendall(Answer(ended=os.waitstatus_to_exitcode(status)).encode())

    def end(self) -> None:
        """SIGTERM for all; SIGKILL for those that it did not end."""
        self._signal(signal.SIGTERM)
        deadline = time.monotonic() + PATIENCE + 0.2
        while self._jobs and (left := deadline - time.monotonic()) > 0:
            select.select([self._woken], [], [], min(left, 0.05))
            self._reap()
        self._signal(signal.SIGKILL)

    def _signal(self, signum: signal.Signals) -> None:
        for pid in self._jobs:
            os.kill(pid, signum)


def _work(channel: socket.socket) -> int:
    """Do the jobs that come, as a process that was forked for them; its exit code."""
    interrupt = Interrupt()
    interrupt.install()
    with channel.makefile("rb") as lines, channel.makefile("w", encoding="utf-8", newline="\n") as stream:
        interrupt.bind(_leave, lambda _: None)
        while line := lines.readline():
            job = Job.decode(line)
            sys.path[:] = job.path
            os.environ |= _environ(job)
            for name in _OTHER_URLS if job.schema is None else ():
                os.environ.pop(name, None)
            outcome = _conducted(_run(job, stream, interrupt), _task(job), channel, interrupt)
            interrupt.bind(_leave, lambda _: None)
            with contextlib.suppress(OSError):
                channel.sendall(Answer(outcome=outcome).encode())
            if interrupt.signum is not None:
                break
        interrupt.finished()
        atexit._run_exitfuncs()  # noqa: SLF001  (as headstart.__main__ does)
        return 0


def _leave() -> NoReturn:
    """End between two jobs."""
    os._exit(0)


def _run(job: Job, stream: TextIO, interrupt: Interrupt) -> Run:
    redact = Redactor(job.settings.secrets())
    kind = Run if job.schema is None else schema.SchemaRun
    run = kind(
        job.settings,
        log.build(stream, json=True, run_id=job.run_id, redact=redact),
        job.run_id,
        environ=os.environ,
        cwd=job.cwd,
        redact=redact,
        interrupted=lambda: interrupt.signum,
        options=job.options,
    )
    run.backup = job.backup
    if isinstance(run, schema.SchemaRun):
        run.schema = job.schema or ""
    return run


def _task(job: Job) -> Callable[[Any], Awaitable[None]]:
    if job.schema is not None:
        return schema.up if job.action == "up" else schema.status
    return up if job.action == "up" else _status


async def _status(run: Run) -> None:
    """Note where a database stands, changing nothing."""
    found = find(run)
    async with connected(run) as ready:
        run.pending = (await standing(run, ready, found)).pending


def _conducted(
    run: Run, task: Callable[[Any], Awaitable[None]], channel: socket.socket, interrupt: Interrupt
) -> Outcome:
    """Run the job in a task that a signal can cancel."""

    def last_words(signum: int) -> None:
        kill_remaining()
        channel.sendall(Answer(outcome=run.finish(InterruptedRunError(signum))).encode())

    async def bound() -> Outcome:
        loop, current = asyncio.get_running_loop(), asyncio.current_task()
        assert current is not None  # noqa: S101  (a coroutine runs in a task)

        def cancel() -> None:
            loop.call_soon_threadsafe(current.cancel)

        interrupt.bind(cancel, last_words)
        return await conduct(run, task)

    try:
        return asyncio.run(bound())
    except Exception as error:  # as at the edge: a bug becomes exit 99, with its report
        run.log.error("bug", error=type(error).__name__, exc_info=error)  # noqa: TRY400  (as there)
        return run.finish(
            HeadstartError(f"{type(error).__name__}: {error}", hint="please report this with the traceback")
        )


def _environ(job: Job) -> dict[str, str]:
    """What env.py, or a driver of its own, finds in the environment: this tenant's database or schema, and no other."""
    dsn = job.settings.dsn
    if job.schema is not None:
        return {"PGOPTIONS": dsn.params["options"]}
    return {**dsn.libpq_env(), "DATABASE_URL": _url(dsn)}


def _url(dsn: Dsn) -> str:
    host, port = dsn.hosts[0]
    user = quote(dsn.user, safe="") + (f":{quote(dsn.password.reveal(), safe='')}" if dsn.password else "")
    database = quote(dsn.database, safe="")
    if host.startswith("/"):
        return f"postgresql://{user}@/{database}?host={quote(host)}&port={port}"
    return f"postgresql://{user}@{f'[{host}]' if ':' in host else host}:{port}/{database}"
