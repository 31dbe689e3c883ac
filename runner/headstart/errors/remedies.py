"""What to do about a revision that fails for one of the usual reasons."""

from __future__ import annotations

THERE_ALREADY = frozenset({"42P07", "42701", "42710", "42P06", "42723"})
"""duplicate_table (an index or a view too), _column, _object, _schema, _function: PostgreSQL manual, 'Error Codes'."""

ADOPT = (
    "if it was there before any revision was recorded: `headstart adopt` compares the database with the history, and"
    " records where it is"
)

_OF_THE_SERVER = {
    "53200": "raise the setting that `server_hint` names, or split the revision: each has its own transaction",
    "53400": "raise the limit that the error names in the server, or let the revision do with less",
    "58P01": "put the file or the library on the database server's machine, or install the package that has it there;"
    " rows from here go by COPY ... FROM stdin",
}


def of_failure(error: BaseException, sqlstate: str | None) -> str | None:
    """Say what to do about a failed revision, where the error alone tells.

    Args:
        error: what it raised.
        sqlstate: of the server's error, if that is what it was.
    """
    if sqlstate in THERE_ALREADY:
        return (
            "an earlier run of this revision left it (61, or a kill), or somebody made it by hand, or the revision"
            " makes it twice: `headstart check --only drift --database` lists what no recorded revision has made (if it"
            " is not listed, the revision makes it twice); look before you `headstart stamp`"
        )
    if sqlstate in _OF_THE_SERVER:
        return _OF_THE_SERVER[sqlstate]
    if isinstance(error, FileNotFoundError) and error.filename:
        return (
            f"put {error.filename} back and ship it with the revisions (a relative path starts from the working"
            " directory), or write its SQL into the revision"
        )
    return None
