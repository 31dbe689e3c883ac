"""pg_dump: its arguments, its environment, and its failures in words."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, TypeVar

from headstart.backup.clients import CODECS_SINCE
from headstart.errors import BackupFailedError, HeadstartError
from headstart.log import process
from headstart.postgres.server import quote

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from structlog.typing import FilteringBoundLogger

    from headstart.backup.clients import Client

#: How long pg_dump waits for another session to let go of a table, in seconds.
TABLE_LOCK_WAIT = 60
#: What of our own environment a child may need to start and to find a default certificate or ticket.
PASSED_ON = ("PATH", "HOME", "LD_LIBRARY_PATH", "TMPDIR", "KRB5CCNAME", "KRB5_CONFIG")
#: The beginning of the application name of a dump of ours; the run's id follows.
APPLICATION = "headstart-dump"

Failure = TypeVar("Failure", bound=HeadstartError)

Causes = tuple[tuple[str, str, str], ...]
"""Patterns of what a program prints, each with what it means and what to do. `{0}` is the first group of the match."""

LET_READ = "grant pg_read_all_data to {role}, or run with the owner's role"

_UNSEEN = "see who holds an ACCESS EXCLUSIVE lock (pg_locks, pg_stat_activity)"

NO_CONNECTION = (
    r"too many connections|remaining connection slots|too many clients",
    "the server has no connection left for parallel jobs",
    "set HEADSTART_BACKUP_JOBS=1, or raise the role's or the server's connection limit",
)

VANISHED = (
    r'relation "?(.+?)"? does not exist|cache lookup failed for|could not open relation with OID',
    "a table was dropped while pg_dump began",
    "run again when nobody changes tables",
)

#: Of pg_dump; `{dir}` is the backup folder, `{role}` who dumps, `{blocked}` what to do about who holds a lock.
_CAUSES: Causes = (
    (
        r"No space left on device|Disk quota exceeded",
        "{dir} is full: the dump did not fit",
        "make room there, or point HEADSTART_BACKUP_DIR to a larger folder",
    ),
    (
        r"permission denied for (\w+ .+?)\s*$",
        "the role may not read {0}",
        LET_READ,
    ),
    (
        r"could not obtain lock on relation (.+?)\s*$",
        "another session locked table {0} while it was being dumped",
        "{blocked}; then run again",
    ),
    (
        r"canceling statement due to (?:lock|statement) timeout",  # pg_dump: --lock-wait-timeout is the latter
        f"another session has kept a table locked for {TABLE_LOCK_WAIT} s, so it cannot be dumped",
        "{blocked}; then run again",
    ),
    NO_CONNECTION,
    VANISHED,
)


def argv(client: Client, target: Path, *, jobs: int, compression: str) -> tuple[str, ...]:
    """The command line: everything about the connection is in the environment instead."""
    if client.major < CODECS_SINCE:
        compression = compression.rpartition(":")[2]  # gzip:1 was spelt 1
    return (
        str(client.pg_dump),
        "--no-password",
        "--format=directory",
        f"--file={target}",
        f"--jobs={jobs}",
        f"--compress={compression}",
        f"--lock-wait-timeout={TABLE_LOCK_WAIT * 1000}",
        "--no-sync",  # each file is synced by us, while it is hashed
    )


def bare(environ: Mapping[str, str]) -> dict[str, str]:
    """The environment of a program that connects to nothing."""
    return {**{name: environ[name] for name in PASSED_ON if name in environ}, "LC_ALL": "C"}


def environment(
    libpq: Mapping[str, str], environ: Mapping[str, str], *, run_id: str, application: str = APPLICATION
) -> dict[str, str]:
    """The child's whole environment.

    Args:
        libpq: what `Dsn.libpq_env` gives.
        environ: our own environment, of which only `PASSED_ON` is taken.
        run_id: names the child's sessions in pg_stat_activity, so that the next run recognises what a dead one left.
        application: the beginning of that name.
    """
    return {**bare(environ), **libpq, "PGAPPNAME": application_of(run_id, application)}


def application_of(run_id: str, application: str = APPLICATION) -> str:
    """How pg_stat_activity shows the sessions of a run's dump."""
    return f"{application}:{run_id}"[:63]


async def dump(
    client: Client,
    command: tuple[str, ...],
    *,
    env: Mapping[str, str],
    directory: Path,
    log: FilteringBoundLogger,
    redact: Callable[[str], str],
    blocked: Callable[[], str],
) -> None:
    """Run pg_dump, with a command from `argv`; `blocked` as for `explain`.

    Raises:
        BackupFailedError: pg_dump did not exit with 0; the message is its cause, in our words where we know it.
    """

    def report(line: str) -> None:
        if line.strip():
            log.warning("pg_dump_said", line=line)

    try:
        finished = await process.run(command, env=env, redact=redact, on_line=report, grace=2.0)
    except OSError as error:
        message = f"cannot run {client.pg_dump}: {error.strerror}"
        raise BackupFailedError(message, hint="install the PostgreSQL client programs again") from error
    if not finished.ok:
        raise explain(finished, client=client, directory=directory, role=env["PGUSER"], blocked=blocked())


def explain(
    finished: process.Finished, *, client: Client, directory: Path, role: str, blocked: str = ""
) -> BackupFailedError:
    """The error that a failed pg_dump stands for.

    Args:
        finished: how it ended.
        client: whose it is.
        directory: that it wrote to.
        role: that it connected as.
        blocked: what to do about who was in its way last; "" if nobody was seen.
    """
    return failure(
        BackupFailedError,
        finished,
        sorted(finished.stderr.splitlines(), key=lambda line: "error:" not in line.lower()),
        _CAUSES,
        client=client,
        hint="correct what it says, then run again; HEADSTART_BACKUP=off goes without a backup",
        dir=directory,
        role=role if re.fullmatch("[a-z_][a-z0-9_]*", role) else quote(role),
        blocked=blocked or _UNSEEN,
    )


def failure(
    kind: type[Failure],
    finished: process.Finished,
    lines: Sequence[str],
    causes: Causes,
    *,
    client: Client,
    hint: str,
    **names: object,
) -> Failure:
    """The error for a program that has failed: what its output means, by the first line that is known, or that line.

    Args:
        kind: the class of the error.
        finished: how the program ended.
        lines: what it printed, what matters most first.
        causes: that are known.
        client: whose program it is.
        hint: where none of them is found.
        names: what stands for the names in braces.
    """
    program = finished.argv[0].rpartition("/")[2]
    context = {"program": program, "returncode": finished.returncode, "client_version": client.version}
    for line in lines:
        for pattern, cause, remedy in causes:
            if match := re.search(pattern, line):
                groups = match.groups()
                message, what_to_do = cause.format(*groups, **names), remedy.format(*groups, **names)
                return kind(message, hint=what_to_do, said=line.strip(), **context)
    first = lines[0].strip() if lines else "it printed nothing"
    return kind(f"{program} failed ({finished.how}): {first}", hint=hint, **context)
