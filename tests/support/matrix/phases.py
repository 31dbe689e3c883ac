"""The phases of a run: how it is brought to stop in each, and what a fault there may find changed.

A phase stops by itself, and waits for an event: a lock of a bystander, a FIFO, a statement that waits for a session, or
a message that the network holds back. None is met by a sleep.
"""

from __future__ import annotations

from dataclasses import dataclass

from headstart.postgres.lock import GATE

RECORDED = 'select version_num from "public"'
TRY_LOCK = "pg_try_advisory_lock"

UP = ("up",)
RESTORE = ("restore", "latest", "--swap")

R3 = "'r3'"
FIFO = "go"
HERE = "here"
COMMAND = ("sh", "-c", f"echo > {HERE}; read line < {FIFO}")

AUTOCOMMIT = "with op.get_context().autocommit_block():\n    op.execute('select until_told()')"
IN_COMMIT = """
op.execute("create constraint trigger slow after insert on item deferrable initially deferred"
           " for each row execute function waits()")
op.execute("insert into item values (-1)")
"""
IN_PYTHON = f"print('here')\nopen({FIFO!r}).readline()"


@dataclass(frozen=True, kw_only=True)
class Phase:
    """One row of the matrix.

    Attributes:
        name: as the page has it.
        args: of the command line.
        body: Python of r3, if that stops the run.
        blocker: what a bystander does in a transaction that it keeps open.
        held: texts of messages, one after the other; the network holds back that with the last of them.
        refused: the network refuses connections.
        slow_client: pg_restore begins when it is told to.
        running: what the statement looks like that pg_stat_activity shows at work.
        event: or the event that the log shows.
        backup: whether the run takes one first.
        applied: the revisions that are committed by now.
        compared: the run has read what is recorded.
        lost: the exit code of a run that loses its connection here.
        sessions: who has one now: "lock", "work", "dump".
        pruned: the run is stopped while it deletes older backups, and continued after the fault.
        queued: a run that loses its connection here makes another, if the server answers.
        late: a signal comes too late, and the run goes on.
        env: further variables.
    """

    name: str
    args: tuple[str, ...] = UP
    body: str = ""
    blocker: str = ""
    held: tuple[str, ...] = ()
    refused: bool = False
    slow_client: bool = False
    running: str = ""
    event: str = ""
    backup: bool = False
    applied: tuple[str, ...] = ()
    compared: bool = True
    lost: int = 63
    sessions: frozenset[str] = frozenset({"lock"})
    pruned: bool = False
    late: bool = False
    queued: bool = False
    env: tuple[tuple[str, str], ...] = ()

    @property
    def restores(self) -> bool:
        """Whether it is one of a restore."""
        return self.args == RESTORE

    @property
    def locked(self) -> bool:
        """Whether another `up` has to wait."""
        begun = self.restores or self.refused or self.name == "comparing"
        return not begun and "r4" not in self.applied

    @property
    def python(self) -> bool:
        """Whether a revision's Python is at work: nobody hears of what happens to its session before its next query."""
        return FIFO in self.body

    @property
    def command(self) -> bool:
        """Whether CMD has taken over."""
        return "--" in self.args


LOCK = frozenset({"lock"})
WORK = frozenset({"lock", "work"})
DUMP = frozenset({"lock", "dump"})

PHASES: tuple[Phase, ...] = (
    Phase(
        name="waiting",
        refused=True,
        event="server_not_ready",
        env=(("HEADSTART_WAIT_TIMEOUT", "10s"),),
        compared=False,
        lost=20,
        sessions=frozenset(),
    ),
    Phase(name="comparing", held=(RECORDED,), compared=False, lost=20),
    Phase(
        name="lock waiting",
        blocker=f"select pg_advisory_lock({GATE})",
        event="lock_waiting",
        env=(("HEADSTART_WAIT_TIMEOUT", "10s"),),
        queued=True,
        lost=20,
    ),
    Phase(name="lock held", held=(TRY_LOCK, RECORDED), lost=20),
    Phase(name="planning", held=("SELECT alembic_version.version_num",), sessions=WORK),
    Phase(
        name="dumping",
        blocker="lock table item in access exclusive mode",
        running="^lock table",
        backup=True,
        sessions=DUMP,
    ),
    Phase(name="verifying the dump", slow_client=True, backup=True),
    Phase(name="pruning", event="backup_deleted", backup=True, pruned=True),
    Phase(name="before a revision", held=("'r2'",), sessions=WORK),
    Phase(
        name="inside a statement",
        body="op.execute('select until_told()')",
        running="until_told",
        applied=("r2",),
        sessions=WORK,
    ),
    Phase(name="between statements", body=IN_PYTHON, event="script_output", applied=("r2",), sessions=WORK),
    Phase(name="in an autocommit block", body=AUTOCOMMIT, running="until_told", applied=("r2",), sessions=WORK),
    Phase(name="recording", held=(R3, "insert into headstart.ledger"), applied=("r2",), sessions=WORK),
    Phase(name="in COMMIT", body=IN_COMMIT, running="^commit", applied=("r2",), sessions=WORK),
    Phase(name="between revisions", held=(R3,), applied=("r2",), sessions=WORK),
    Phase(name="reading back", held=("'r4'", RECORDED), applied=("r2", "r3", "r4")),
    Phase(name="verifying", held=("'r4'", RECORDED, RECORDED, RECORDED), applied=("r2", "r3", "r4")),
    Phase(
        name="handed over to CMD",
        args=("up", "--", *COMMAND),
        applied=("r2", "r3", "r4"),
        sessions=frozenset(),
    ),
    Phase(name="restoring: preparing", args=RESTORE, held=("rolsuper as superuser",), lost=20, compared=False),
    Phase(name="restoring: creating", args=RESTORE, held=("create database",), lost=41, compared=False),
    Phase(
        name="restoring: loading",
        args=RESTORE,
        held=("COPY public.item",),
        lost=41,
        compared=False,
        sessions=DUMP,
    ),
    Phase(name="restoring: comparing", args=RESTORE, held=("analyze",), lost=41, compared=False),
    Phase(name="restoring: naming", args=RESTORE, held=("rename to",), lost=41, compared=False),
    Phase(name="restoring: exchanging", args=RESTORE, held=("rename to", "rename to"), lost=41),
    Phase(name="restoring: in COMMIT", args=RESTORE, held=("rename to", "commit"), lost=41, late=True),
)
