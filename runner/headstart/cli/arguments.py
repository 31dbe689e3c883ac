"""What the command line asks for: the verb, the settings it overrides, and the verb's own options.

Alembic's verbs take its words and options: what is not ours, Alembic's own parser reads in the worker.
`headstart up` without arguments, which every start of a container runs, is read without argparse.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NoReturn

import msgspec

from headstart.cli import output
from headstart.errors import UsageError
from headstart.log.printable import nearest, one_line
from headstart.settings.conninfo import is_text
from headstart.settings.table import SETTINGS
from headstart.settings.version import __version__

if TYPE_CHECKING:
    import argparse


class Verb(msgspec.Struct, frozen=True):
    """A verb of the command line.

    Args:
        name: as it is typed.
        summary: one line for `--help`.
        changes: whether it does something to a database or waits for one, and so logs a run from start to finish.
        alembic: whether Alembic's parser reads its options.
        usage: what is typed after its options.
        module: in `headstart.cli.verbs`, where it is not of the verb's name.
    """

    name: str
    summary: str
    changes: bool = True
    alembic: bool = False
    usage: str = ""
    module: str = ""

    def load(self) -> Any:  # noqa: ANN401  (a module)
        """The verb's module."""
        from importlib import import_module

        return import_module(f"headstart.cli.verbs.{self.module or self.name}")


def _alembic(name: str, summary: str, *, changes: bool = True, module: str = "alembic") -> Verb:
    return Verb(name, summary, changes=changes, alembic=True, usage="[Alembic's options]", module=module)


VERBS = {
    verb.name: verb
    for verb in (
        Verb("up", "wait, lock, back up, upgrade to the target, verify; then exec CMD, if given", usage="[-- CMD ...]"),
        Verb("wait", "wait until the server answers (--for server) or the database is at head (--for head)"),
        Verb("status", "where the database is, what is pending, who holds the lock, the backups", changes=False),
        Verb("doctor", "check every precondition, one line each, with its remedy", changes=False),
        Verb("repair", "rebuild or drop the INVALID indexes that revisions have left"),
        Verb("backup", "take a backup now"),
        Verb("backups", "list, verify or prune the backups", changes=False, usage="[list|verify|prune] [NAME ...]"),
        Verb("restore", "restore a backup beside this database, or with --swap in its place", usage="BACKUP|latest"),
        _alembic("upgrade", "upgrade to a revision, with the lock, backup and log of `up`"),
        _alembic("downgrade", "revert to a revision, with the same care"),
        _alembic("stamp", "record a revision without running anything"),
        _alembic("current", "show the recorded revision", changes=False),
        _alembic("history", "list the revisions", changes=False, module="history"),
        _alembic("heads", "show the head revisions", changes=False),
        _alembic("show", "show one revision", changes=False),
        _alembic("revision", "write a new revision file", changes=False),
        _alembic("merge", "write a revision that merges two heads", changes=False),
        Verb("sql", "print the SQL of an upgrade instead of running it", changes=False, usage="[[FROM:]TO]"),
        Verb("explain", "what an exit code, an event, a rule or a setting means", changes=False, usage="WORD"),
        Verb("check", "what CI should refuse: heads, round trip, drift, edits, risky SQL", changes=False),
        Verb("schema", "the schema at head as files", usage="dump|load|split"),
        Verb(
            "squash", "replace the revisions up to one by a single baseline, verified to be equal", usage="[REVISION]"
        ),
        Verb("adopt", "take over a database without a version: compare, then stamp it", usage="[REVISION]"),
        Verb("tenants", "the same for many databases or schemas", usage="up|status|list"),
    )
}

_MOVES = frozenset({"upgrade", "downgrade"})


class CommandLine(msgspec.Struct, frozen=True, kw_only=True):
    """A command line that has been read.

    Args:
        verb: the verb.
        flags: settings, by the names of their variables.
        options: for env.py: `x`, `tag`, and `name` of the ini's section.
        own: the verb's own options, as argparse gives them.
        arguments: of an Alembic verb, those that Alembic reads.
        alembic: Alembic's options; None for another verb, and before Alembic has read them.
        command: the program that `up` becomes.
    """

    verb: Verb
    flags: Mapping[str, str | None] = {}
    options: dict[str, Any] = {}
    own: Any = None
    arguments: tuple[str, ...] = ()
    alembic: Mapping[str, Any] | None = None
    command: tuple[str, ...] = ()

    @property
    def target(self) -> str | None:
        """The revision that the verb itself names, which goes before HEADSTART_TARGET."""
        return self.alembic["revision"] if self.alembic is not None and self.verb.name in _MOVES else None

    @property
    def needs_database(self) -> bool:
        """Whether the verb cannot do without a database."""
        asks = getattr(self.verb.load(), "needs_database", None)
        return asks is None or bool(asks(self))

    @property
    def touches_database(self) -> bool:
        """Whether the verb connects to the database of DATABASE_URL where that is set."""
        return self.needs_database or self.verb.name == "tenants"


def read(argv: Sequence[str]) -> CommandLine:
    """Read the command line. `--help` and `--version` print and leave through SystemExit.

    Raises:
        UsageError: there is no such verb, or none at all, or an argument is not UTF-8.
    """
    end = argv.index("--") if "--" in argv else len(argv)
    words, command = list(argv[:end]), tuple(argv[end + 1 :])
    for word in words:
        if not is_text(word):
            raise UsageError(
                f"the argument {one_line(word)} is not UTF-8 text",
                hint="type it in UTF-8; a folder or file with such a name needs another",
            )
    if words == ["up"]:
        return CommandLine(verb=VERBS["up"], command=command)
    if words[:1] == ["help"] and len(words) > 1:
        words = [*words[1:], "--help"]
    if not words or words[0] in {"-h", "--help", "help"}:
        _print_help(to_stderr=not words)
        raise SystemExit(0 if words else 2)
    if words[0] in {"-V", "--version", "version"}:
        output.write(f"headstart {__version__}\n")
        raise SystemExit(0)
    name, *rest = words
    if name not in VERBS:
        raise UsageError(f"there is no verb {name!r}{nearest(name, VERBS)}", hint="`headstart --help` lists the verbs")
    if name == "explain":  # whatever the settings are: they may be what is to be explained
        output.print_lines(VERBS[name].load().explained(rest))
        raise SystemExit(0)
    if command and name != "up":
        raise UsageError(f"only `up` takes a command after --, not {name!r}", hint="headstart up -- CMD ARGUMENTS")
    return _read_verb(VERBS[name], rest, command)


def _read_verb(verb: Verb, rest: list[str], command: tuple[str, ...]) -> CommandLine:
    parser = _parser(verb)
    arguments: list[str] = []
    if verb.alembic:
        own, arguments = parser.parse_known_args(rest)
    else:
        own, arguments = parser.parse_known_args(rest)
        if arguments:
            raise _unknown(verb, arguments)
    if verb.alembic and {"-h", "--help"} & set(arguments):
        parser.print_help()
        output.write("\nAlembic's own options:\n\n")
    flags = {setting.name: getattr(own, setting.name) for setting in SETTINGS if setting.flag is not None}
    options = {"x": own.x, "name": own.name}
    return CommandLine(verb=verb, flags=flags, options=options, own=own, arguments=tuple(arguments), command=command)


def _unknown(verb: Verb, arguments: Sequence[str]) -> UsageError:
    """What no option of the verb's takes. Of `up` it may be the program that it is to become."""
    if verb.name == "up" and not arguments[0].startswith("-"):
        from shlex import join

        cause = f"{arguments[0]!r} is no option of `up`: a command follows `--`"
        return UsageError(cause, hint=f"headstart up -- {join(arguments)}")
    cause = f"unrecognized arguments: {' '.join(arguments)}"
    return UsageError(cause, hint=f"`headstart {verb.name} --help` lists what there is")


def _parser(verb: Verb) -> argparse.ArgumentParser:
    import argparse

    class Parser(argparse.ArgumentParser):
        def error(self, message: str) -> NoReturn:
            raise UsageError(message, hint=f"`headstart {verb.name} --help` lists what there is")

    parser = Parser(
        prog=f"headstart {verb.name}",
        usage=f"headstart {verb.name} [options] {verb.usage}".rstrip(),
        description=f"{verb.summary[0].upper()}{verb.summary[1:]}.",
        add_help=not verb.alembic,
        allow_abbrev=False,
        epilog="The database comes from DATABASE_URL, DATABASE_URL_FILE or PG* variables, never from an argument.",
    )
    add = getattr(verb.load(), "add", None)
    if add is not None:
        add(parser)
    group = parser.add_argument_group("settings (each also an environment variable)")
    for setting in SETTINGS:
        if setting.flag is None:
            continue
        names = ("-c", setting.flag) if setting.name == "ALEMBIC_CONFIG" else (setting.flag,)
        help_text = f"{setting.meaning} [{setting.name}; default {setting.default}]".replace("%", "%%")
        group.add_argument(*names, dest=setting.name, metavar=setting.kind, help=help_text)
    group = parser.add_argument_group("for env.py")
    group.add_argument("-n", "--name", metavar="SECTION", help="section of the ini file to use [default alembic]")
    group.add_argument(
        "-x", action="append", metavar="KEY=VALUE", help="argument that env.py reads with get_x_argument()"
    )
    return parser


def _print_help(*, to_stderr: bool) -> None:
    import textwrap

    width = max(len(name) for name in VERBS)
    verbs = (f"  {verb.name:<{width}}  {verb.summary}" for verb in VERBS.values())
    notes = (
        "`headstart VERB --help` lists a verb's options, each with its environment variable. The database comes from"
        " DATABASE_URL (or DATABASE_URL_FILE, or libpq's PG* variables). Exit codes: docs/exit-codes.md."
    )
    lines = [
        "usage: headstart VERB [options]",
        "",
        "Brings Postgres to head before the app starts: waits, backs up, migrates.",
        "",
        "verbs:",
        *(line for verb in verbs for line in textwrap.wrap(verb, 80, subsequent_indent=" " * (width + 4))),
        "",
        *textwrap.wrap(notes, 80),
    ]
    if to_stderr:
        sys.stderr.write("\n".join(lines) + "\n")
    else:
        output.print_lines(lines)
