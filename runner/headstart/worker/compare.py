"""The models against the database, as `alembic check` compares them: Alembic's manual, 'Auto Generating Migrations'."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from alembic.autogenerate import RevisionContext
from alembic.config import CommandLine

from headstart.worker import failure
from headstart.worker.environment import Environment

if TYPE_CHECKING:
    from alembic.runtime.migration import MigrationContext

    from headstart.worker.port import Port
    from headstart.worker.tasks import Compare


def compare(task: Compare, port: Port) -> list[dict[str, str]] | None:
    """What `alembic revision --autogenerate` would write, on a database at head; env.py's own filters have their say.

    Returns:
        The changes: `operation` is Alembic's word such as `add_column`, `what` it is about such as `column
        public.companies.name`, `message` a line for a person. None where env.py gives no `target_metadata`.

    Raises:
        HeadstartError: env.py fails.
    """
    found: list[dict[str, str]] | None = None
    environment = Environment(task, port, work=False)
    options = vars(CommandLine(prog="alembic").parser.parse_args(["revision", "--autogenerate"]))
    context = RevisionContext(environment.config, environment.directory, options)
    environment.config.cmd_opts.autogenerate = True  # type: ignore[union-attr]  # set by `configure`; hooks look at it

    def look(heads: Any, migration: MigrationContext) -> list[Any]:  # noqa: ANN401  (Alembic's own)
        nonlocal found
        if migration.opts.get("target_metadata") is None:
            return []
        context.run_autogenerate(heads, migration)
        found = [
            _change(each)
            for script in context.generated_revisions  # none, if a hook of env.py's took the empty one out
            for operations in script.upgrade_ops_list
            for diff in operations.as_diffs()
            for each in _flat(diff)
        ]
        return []

    try:
        environment.run(look, dont_mutate=True, template_args=context.template_args)
    except (Exception, SystemExit) as error:
        raise failure.of_environment(error, environment.directory.dir) from error
    return found


def _flat(diff: Any) -> Iterator[tuple[Any, ...]]:  # noqa: ANN401  (tuples, or lists of them)
    if isinstance(diff, list):
        for each in diff:
            yield from _flat(each)
    else:
        yield tuple(diff)


_KINDS = {"table", "column", "index", "constraint", "fk"}


def _change(diff: tuple[Any, ...]) -> dict[str, str]:
    """One of Alembic's tuples in words."""
    operation = str(diff[0])
    verb, _, kind = operation.partition("_")
    if verb in {"add", "remove"} and kind in _KINDS:
        what = _name(kind, diff)
        there, missing = ("models", "revisions") if verb == "add" else ("revisions", "models")
        message = f"{what}: in the {there}, not in the {missing}"
    elif verb == "modify" and len(diff) == 7:  # noqa: PLR2004  (operation, schema, table, column, other, old, new)
        _, schema, table, column, _, old, new = diff
        what = f"column {_dotted(schema, table)}.{column}"
        message = f"{what}: {kind} is {_shown(old)} in the revisions, {_shown(new)} in the models"
    else:
        what = " ".join(str(each) for each in diff[1:])
        message = f"{operation.replace('_', ' ')}: {what}"[:300]
    return {"operation": operation, "what": what, "message": message}


def _name(kind: str, diff: tuple[Any, ...]) -> str:
    if kind == "table":
        return f"table {_dotted(diff[1].schema, diff[1].name)}"
    if kind == "column":
        return f"column {_dotted(diff[1], diff[2])}.{diff[3].name}"
    item = diff[1]
    table = _dotted(item.table.schema, item.table.name)
    columns = ", ".join(str(getattr(each, "name", each)) for each in getattr(item, "columns", ()))
    word = {"fk": "foreign key", "constraint": type(item).__name__.replace("Constraint", " constraint").lower()}
    return f"{word.get(kind, kind)} {item.name or 'without a name'} on {table} ({columns})"


def _dotted(schema: str | None, name: str) -> str:
    return f"{schema}.{name}" if schema else name


def _shown(value: Any) -> str:  # noqa: ANN401  (a type, a default, a flag)
    text = getattr(getattr(value, "arg", None), "text", None) or getattr(value, "arg", None) or value
    return f"`{' '.join(str(text).split())[:100]}`" if not isinstance(text, bool | None) else str(text).lower()
