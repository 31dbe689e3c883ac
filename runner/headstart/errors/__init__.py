"""The error tree. Whatever can end a run is one of these, and each knows its exit code.

`tree` has the classes, `exits` the exit codes and what each of them advises, `remedies` what helps against the usual
failures of a revision.

Begin with `tree`.
"""

from headstart.errors.tree import *  # noqa: F403  (all of it)
