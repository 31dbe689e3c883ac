"""pg_restore: the check of the dump before it, its command line, and its failures in words."""

from __future__ import annotations

import contextlib
import re
from typing import TYPE_CHECKING

import msgspec

from headstart.backup import dump as dumps
from headstart.backup import folder as folders
from headstart.backup import manifest as manifests
from headstart.backup.manifest import Backup, Proof
from headstart.backup.progress import progress
from headstart.backup.restoring import choose
from headstart.backup.verify import examine
from headstart.errors import BackupFailedError, RestoreFailedError
from headstart.log import process

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from structlog.typing import FilteringBoundLogger

    from headstart.backup.clients import Client

#: The beginning of the application name of a pg_restore of ours; the run's id follows.
APPLICATION = "headstart-restore"
#: Seconds between TERM and KILL for a pg_restore whose run is interrupted: less than the run itself has.
GRACE = 0.8
#: The first major version whose pg_restore sets `transaction_timeout`, and whose server knows it.
TRANSACTION_TIMEOUT = 17

_ERROR = re.compile(r"^pg_restore: (?:\[.*?\] )?error: ")
_HARMLESS = re.compile(r'"transaction_timeout"|warning: errors ignored on restore')
_UNKNOWN_SETTING = "Command was: SET transaction_timeout = 0;"

_CAUSES: dumps.Causes = (
    (
        r"No space left on device|could not extend file",
        "the server's disk is full",
        "make room on the server's disk, then restore again",
    ),
    (
        r'role "(.+?)" does not exist',
        "the role {0!r}, to which something in the backup belongs, does not exist on this server",
        "create it (create role ...), then restore again",
    ),
    dumps.NO_CONNECTION,
)


async def check(backup: Backup, *, jobs: int, log: FilteringBoundLogger) -> None:
    """Read every file and compare. Damage is recorded in the manifest, if that can be written.

    Args:
        backup: to be restored.
        jobs: files read at a time.
        log: receives progress, and a line for each problem.

    Raises:
        RestoreFailedError: it is not what was written (41).
    """
    read = 0

    def count(more: int) -> None:
        nonlocal read
        read += more

    def fields() -> Mapping[str, object]:
        return {"stage": "check", "read_bytes": read, "expected_bytes": backup.manifest.bytes}

    async with progress("restore_progress", fields, log=log):
        problems = await examine(backup, jobs=jobs, on_bytes=count)
    if not problems:
        return
    for problem in problems:
        log.error("backup_damaged", path=str(backup.path), problem=problem)
    with contextlib.suppress(BackupFailedError):
        manifests.write(backup.path, msgspec.structs.replace(backup.manifest, damage=tuple(problems)))
    raise choose.damaged(backup.path, problems)


def record_restore(backup: Backup, at: str, *, log: FilteringBoundLogger) -> None:
    """Record in the manifest that the backup was restored. A folder that cannot be written is no failure.

    Args:
        backup: that was restored and compared.
        at: when, as `manifest.timestamp` spells it.
        log: receives a line if it could not be written.
    """
    try:  # as it is now: another run may have recorded something meanwhile
        now = manifests.read(backup.path)
        others = tuple(proof for proof in now.proofs if proof.kind != "restored")
        proofs = (*others, Proof(kind="restored", at=at))
        manifests.write(backup.path, msgspec.structs.replace(now, proofs=proofs, damage=()))
    except (BackupFailedError, manifests.ManifestError) as error:
        log.info("proof_not_recorded", path=str(backup.path), cause=str(error))


async def run(
    client: Client,
    backup: Backup,
    *,
    server_version_num: int,
    jobs: int,
    env: Mapping[str, str],
    log: FilteringBoundLogger,
    redact: Callable[[str], str],
) -> None:
    """Run pg_restore into the database that the environment names.

    A client of 17 or later sets `transaction_timeout` before all else, which an older server does not know. Such a
    pair is restored without `--exit-on-error`, and every other error fails it afterwards.

    Args:
        client: from `find_restorer`.
        backup: whose files have been checked.
        server_version_num: of the server.
        jobs: parallel jobs at most.
        env: the child's whole environment.
        log: receives what pg_restore prints.
        redact: takes secrets out of that.

    Raises:
        RestoreFailedError: pg_restore failed; the message is its cause, in our words where we know it.
    """
    tolerant = client.major >= TRANSACTION_TIMEOUT > server_version_num // 10000
    if tolerant:
        log.warning("client_newer_than_server", client_version=client.version, jobs=1)
    errors: list[str] = []
    expected = 0

    def report(line: str) -> None:
        nonlocal expected
        if _ERROR.match(line):
            errors.append(line)
        if tolerant and line.strip() == _UNKNOWN_SETTING:
            errors.pop()  # the line before it
            expected += 1
        elif line.strip() and not (tolerant and _HARMLESS.search(line)):
            log.warning("pg_restore_said", line=line)

    command = [
        str(client.pg_restore),
        "--no-password",
        "--dbname=",  # PGDATABASE has it: everything about the connection is in the environment
        *(() if tolerant else ("--exit-on-error", f"--jobs={jobs}")),
        str(backup.path / folders.DUMP),
    ]
    try:
        finished = await process.run(command, env=env, redact=redact, on_line=report, grace=GRACE)
    except OSError as error:
        message = f"cannot run {client.pg_restore}: {error.strerror}"
        raise RestoreFailedError(message, hint="install the PostgreSQL client programs again") from error
    if finished.ok or (finished.returncode == 1 and expected and not errors):
        return
    lines = errors or finished.stderr.splitlines()
    hint = "correct what it says, then restore again"
    raise dumps.failure(RestoreFailedError, finished, lines, _CAUSES, client=client, hint=hint)


def jobs_for(backup: Backup, jobs: int) -> int:
    """The number of parallel jobs: as set, but not more than there are tables."""
    return max(1, min(jobs, backup.manifest.tables))
