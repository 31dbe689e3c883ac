"""What Headstart does for its user: each command is a short script of steps.

What comes in: a `Run`, which knows the settings. What goes out: the run's `Outcome`, or an error that has an exit code.
`up` is the product in one screen. The others are named after their verbs. `program` runs
them for a Python program that imports `headstart`.

Begin with `up`.
"""
