"""From argv to an exit code.

What comes in: the command line, the environment, signals. What goes out: data on stdout, log lines on stderr, one exit
code. `main` is the only place in which an error becomes an exit code. `arguments` knows the verbs and their options;
`verbs` has a module for each of them.

Begin with `main`.
"""
