"""Every event that the log can have, once: its sentence for a person, and its fields.

The console shows the sentence, JSON the fields; `headstart explain` and docs/events.md come from here too.
"""

from __future__ import annotations

import re
import string
from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

from headstart.log.printable import counted

Fields = Mapping[str, Any]

NEXT: Final = "\n" + " " * 10
"""A further line of a sentence, below the first one's text."""
_MANY: Final = 4
"""Revisions that are named one by one; of more, the first and the last."""
_SHOWN: Final = re.compile(r"\{(\w+)(?::([^} ]*) ?([^}]*))?\}")


class Event(NamedTuple):
    """One event.

    Args:
        tone: the colour of its sentence: good, bad, wait, dim, or none.
        sentence: for a person, with the fields that it shows in braces. After a colon is how: `names` for revisions,
            `MiB` (`or MiB` for what may stand in place of the field before), `n table` for a count with its noun,
            `list`, `words` or `lines` for several, `->` for what to do next, and `+ words` for what is there only
            sometimes.
        more: the fields that it does not show.
    """

    tone: str
    sentence: str
    more: str = ""

    @property
    def fields(self) -> tuple[str, ...]:
        """The names of its fields: those of the sentence first."""
        return tuple(dict.fromkeys([*(name for name, *_ in _SHOWN.findall(self.sentence)), *self.more.split()]))

    @property
    def plain(self) -> str:
        """The sentence, with the names of the fields where they will stand."""
        return _SHOWN.sub(lambda shown: _placeholder(*shown.groups()), self.sentence)

    def __call__(self, fields: Fields) -> str:
        """The sentence, filled in."""
        return _SENTENCE.vformat(self.sentence, (), fields)


def _placeholder(name: str, how: str, words: str) -> str:
    match how:
        case "->":
            return f" -> <{name}>"
        case "+":
            return f"[{'' if words.startswith(',') else ' '}{words}{' ' if words else ''}<{name}>]"
        case "lines":
            return f" {words}{' ' if words else ''}<{name}>"
        case "n":
            return f"<{name}> {words}s"
        case "MiB" | "or":
            return f"{' or ' if how == 'or' else ''}<{name}> in MiB"
    return f"<{name}>"


def named(revisions: Any) -> str:  # noqa: ANN401  (one, several or none)
    """Revisions as a sentence names them."""
    if not isinstance(revisions, list | tuple):
        return str(revisions)
    if len(revisions) <= _MANY:
        return ", ".join(map(str, revisions))
    return f"{revisions[0]} ... {revisions[-1]}"


class _Sentence(string.Formatter):
    """Fills a sentence in. What an event does not have is left out."""

    def get_value(self, key: int | str, _args: Sequence[Any], kwargs: Fields) -> Any:  # noqa: ANN401
        return kwargs.get(str(key))

    def format_field(self, value: Any, format_spec: str) -> str:  # noqa: ANN401, PLR0911  (a table)
        how, _, words = format_spec.partition(" ")
        if value is None:
            return ""
        match how:
            case "names":
                return named(value)
            case "list":
                return ", ".join(map(str, value))
            case "words":
                return " ".join(map(str, value))
            case "MiB" | "or":
                return f"{value / 1024 / 1024:.1f} MiB"
            case "n":
                return counted(value if isinstance(value, int) else len(value), words)
            case "lines":
                return "".join(f"{NEXT}{words} {each}" if words else f"{NEXT}{each}" for each in value)
            case "->":
                return f"{NEXT}-> {value}" if value else ""
            case "+":
                return f"{'' if words.startswith(',') else ' '}{words}{' ' if words else ''}{named(value)}"
        return format(value, format_spec)


_SENTENCE: Final = _Sentence()

EVENTS: Final[dict[str, Event]] = {
    # -- the main job, in its order -----------------------------------------------------------------------------------
    "run_started": Event("dim", "headstart {version}: {verb} {database}"),
    "server_not_ready": Event("wait", "waiting, {left_seconds:.0f} s left: {cause}", "attempt error sqlstate"),
    "server_ready": Event("", "PostgreSQL {version} answers after {waited_seconds:.2f} s", "server attempts"),
    "server_lost": Event("wait", "the server has gone away ({error}): waiting for it again"),
    "history_empty": Event("wait", "{reason}{hint:->}"),
    "alembic_decides": Event("dim", "Alembic is asked, since {reason}"),
    "nothing_pending": Event("", "nothing is pending: the database is at {revision:names}", "target beyond"),
    "database_ahead": Event("wait", "the database is ahead, at {revision:names}{hint:->}"),
    "lock_waiting": Event("wait", "waiting for the migration lock, held by {holder}", "holder_pid left_seconds"),
    "lock_obtained": Event("", "migration lock obtained after {waited_seconds:.2f} s"),
    "env_connected": Event("dim", "env.py has connected by {driver} as {user}", "backend_pid schema"),
    "env_running": Event("wait", "env.py is still running after {running_seconds:.0f} s", "revision"),
    "env_writes": Event("dim", "env.py writes to the database, so it is run under the lock: {reason}"),
    "env_cut_short": Event("wait", "env.py's process was ended{hint:->}"),
    "plan": Event("", "{pending:n revision} to be run{direction:+}, from {revision:names}: {pending:names}"),
    "invalid_indexes_found": Event("bad", "INVALID: index {indexes:list}{hint:->}"),
    "backup_skipped": Event("dim", "no backup: {reason}"),
    "backup_started": Event(
        "",
        "backing up {database_bytes:MiB} in {tables:n table} (pg_dump {client_version}, {compression}, {jobs:n job})",
        "database",
    ),
    "backup_progress": Event(
        "wait",
        "backing up: {written_bytes:MiB} after {elapsed_seconds:.0f} s{blockers:lines blocked by}{hint:->}",
        "database_bytes",
    ),
    "backup_retried": Event("wait", "backing up again, with {jobs:n job}: {cause}"),
    "backup_taken": Event("", "backup verified: {path} ({total_bytes:MiB})", "dump_seconds total_seconds files tables"),
    "backup_deleted": Event("dim", "deleted the backup {path}: {reason}"),
    "one_transaction": Event("", "one transaction for all revisions: {reason}", "hint"),
    "revision_applied": Event("", "applied  {revision}  {description} ({done}/{of}, {applied_seconds:.2f} s)"),
    "revision_reverted": Event("", "reverted {revision}  {description} ({done}/{of}, {applied_seconds:.2f} s)"),
    "revision_run": Event(
        "", "run      {revision}  {description} (to be committed with the others)", "of applied_seconds"
    ),
    "revision_running": Event("wait", "{revision}: its Python is still running after {running_seconds:.0f} s"),
    "statement_running": Event(
        "wait",
        "still running after {running_seconds:.0f} s{revision:+ in}: {statement}{progress:+ ,}"
        "{waits_for:+ , waiting for}{blockers:lines blocked by}",
        "percent left_seconds",
    ),
    "statement_blocked": Event("wait", "waiting for a lock{revision:+ in}{blockers:lines blocked by}{hint:->}"),
    "blocker_ended": Event("bad", "ended a session that was idle in a transaction and held up this run: {blocker}"),
    "blocker_not_ended": Event("wait", "this role may not end the session that holds up this run: {blocker}{hint:->}"),
    "revision_retried": Event(
        "wait",
        "trying {revision} again in {pause_seconds:.1f} s: {cause}{blockers:lines blocked by}",
        "attempt left_seconds sqlstate",
    ),
    "script_output": Event("dim", "| {message}", "source"),
    "script_output_dropped": Event(
        "wait", "env.py writes more than is logged: the rest is dropped", "hint logged_bytes dropped_bytes"
    ),
    "repair_planned": Event("", "INVALID: index {index}: {statement}"),
    "repair_left": Event("dim", "INVALID: index {index} is left to a pending revision, which drops it{hint:->}"),
    "repaired": Event("", "done in {repair_seconds:.2f} s: {statement}"),
    "leftovers_found": Event("bad", "left behind:{leftovers:lines}"),
    "leftovers_unknown": Event("bad", "what was committed is not known: {cause}{hint:->}"),
    "revision_unknown": Event("bad", "nobody knows where the database is: {cause}{hint:->}"),
    "watch_unavailable": Event("dim", "the server does not say what the revision does: {error}", "sqlstate"),
    "verified": Event("", "verified: the database is at {revision:names}"),
    "at_target": Event("", "the database is at {revision:names}"),
    "revision_waiting": Event("wait", "waiting, {left_seconds:.0f} s left: {pending:n revision} pending", "revision"),
    "stage_running": Event("wait", "still at work: {stage}"),
    "signal_received": Event("wait", "{signal} received in stage {stage}: ending"),
    "log_lines_dropped": Event("wait", "{lines:n line} missing here: nobody read in time", "hint"),
    "run_finished": Event(
        "",
        "done, at {revision_after:names}; or failed (exit {exit_code}, {outcome}): {error}{hint:->}",
        "revision_before applied backup restored stage failed pending leftovers cause sqlstate statement position"
        " location detail calls blockers total_seconds",
    ),
    "command_failed": Event("bad", "{command} cannot be started: {error}"),
    "bug": Event("bad", f"a bug in headstart: {{error}}{NEXT}{{exception}}"),
    # -- the ledger ---------------------------------------------------------------------------------------------------
    "ledger_not_written": Event("dim", "no ledger: {cause}", "hint"),
    "ledger_not_read": Event("wait", "the ledger is not read: {cause}{hint:->}"),
    "ledger_not_updated": Event("wait", "the ledger's table stays as it is: {cause}{hint:->}", "sqlstate"),
    "ledger_incomplete": Event("wait", "the ledger has {found} of {expected:n row}: {cause}{hint:->}"),
    "ledger_refused": Event("wait", "a revision's role may not write the ledger: {cause}"),
    # -- backups, and restoring one -----------------------------------------------------------------------------------
    "no_backups": Event("wait", "there is no backup in {directory}{database:+ of}"),
    "backup_broken": Event("bad", "not an intact backup: {path}: {problem}{hint:->}"),
    "backup_damaged": Event("bad", "damaged: {path}: {problem}"),
    "backup_link_ignored": Event("dim", "a link is no backup, and is left alone: {path}"),
    "backup_not_deleted": Event("wait", "the backup {path} cannot be deleted: {reason}"),
    "backup_of_another_database": Event(
        "wait", "{path} is a backup of database {database}, and is restored for {into}"
    ),
    "backup_of_newer_server": Event(
        "wait", "the backup is of PostgreSQL {backup_server_version}, the server is {server_version}"
    ),
    "backup_verified": Event("good", "verified: {path} ({files:n file}, {total_bytes:MiB})"),
    "proof_not_recorded": Event("wait", "the manifest of {path} stays as it was: {cause}"),
    "project_not_readable": Event("wait", "backed up without the Alembic project: {cause}"),
    "pg_dump_said": Event("dim", "pg_dump: {line}"),
    "pg_restore_said": Event("dim", "pg_restore: {line}"),
    "other_dump_running": Event(
        "wait", "somebody else dumps this database (pid {pid}, role {role}, since {backend_start})", "client"
    ),
    "orphaned_dump_ended": Event("wait", "ended the dump of a dead run ({application_name}, pid {pid})", "ended"),
    "partial_backup_removed": Event("dim", "removed what a dead run has left: {path}"),
    "restore_started": Event(
        "",
        "restoring {backup}, {expected_bytes:MiB} in {tables:n table} (pg_restore {client_version}, {jobs:n job})",
        "database",
    ),
    "restore_progress": Event(
        "wait", "{stage}: {restored_bytes:MiB}{read_bytes:or MiB} after {elapsed_seconds:.0f} s", "expected_bytes"
    ),
    "restore_done": Event(
        "", "restored and compared: database {database}, at {revision:names}", "backup tables not_restored"
    ),
    "databases_exchanged": Event(
        "", "{database} is the restored one now{kept:+ , what it was is kept as}{go_back:->}", "restored remove"
    ),
    "client_newer_than_server": Event(
        "wait", "pg_restore {client_version} is newer than the server, so it restores with one job", "jobs"
    ),
    "property_not_restored": Event(
        "wait", "database {database}: the role may not restore {property} (SQLSTATE {sqlstate})"
    ),
    "orphaned_restore_ended": Event("wait", "ended the restore of a dead run into {database} (pid {pid})"),
    "partial_database_dropped": Event("dim", "dropped the incomplete database {database}"),
    "partial_database_kept": Event("wait", "the incomplete database {database} is still there: {cause}", "sqlstate"),
    "session_ended": Event("wait", "ended a session in {database}: {session}", "pid"),
    # -- schema files, squash, adopt, check, tenants, revision --------------------------------------------------------
    "schema_dumped": Event("", "wrote {file}: the schema at {revision:names}, {entries:n object}"),
    "schema_split": Event("", "wrote {files:n file} to {directory}: the schema at {revision:names}"),
    "schema_file_fresh": Event("good", "{file} is the schema at head"),
    "schema_file_not_used": Event("wait", "{file} is not used: {reason}{hint:->}"),
    "schema_loading": Event("wait", "loading the schema of {file} at {revision:names}"),
    "schema_loaded": Event("", "loaded {file}: at {revision:names}, {revisions:n revision} recorded"),
    "squashed": Event("", "{baseline} replaces {files:n file} up to {revision:names}; they are in {archive}"),
    "schema_matches": Event("good", "the schema is that of {revision:names} (of {of:n revision})"),
    "adopted_with_differences": Event("wait", "recorded as {revision:names}, in spite of {differences:n difference}"),
    "check_running": Event("wait", "checking {revision} ({done}/{of} done)"),
    "scratch_server_version": Event("wait", "the scratch server is PostgreSQL {version} instead of {wanted}{hint:->}"),
    "tenant_finished": Event(
        "",
        "done, at {revision_after:names}; or failed (exit {exit_code}, {outcome}): {error}{hint:->}",
        "revision_before applied backup stage failed pending leftovers total_seconds",
    ),
    "tenants_found": Event("", "{tenants:n tenant} listed, {share} in this share"),
    "autogenerate_found_nothing": Event(
        "wait", "autogenerate found nothing (the database is at {revision:names}):{causes:lines -}{hint:->}", "models"
    ),
    "schemas_compared": Event("dim", "compared as well: schema {schemas:list}, since {reason}"),
    "models_missing": Event("wait", "{hint}"),
    "hook_failed": Event("wait", "the hook {command:words} failed on {path}: {how}{hint:->}"),
    "parameters_ignored": Event("wait", "{source}: not understood, and left out: {parameters:list}"),
}
