"""From a verb to its use case, and from what that found to stdout.

What comes in: a command line that has been read, and a `Run`. What goes out: text or JSON on stdout. A verb with many
options of its own has a module of its name here, with `add` for its options and `job` for what it does.

Begin with `jobs`.
"""
