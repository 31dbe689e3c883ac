"""The steps that commands share: find the project, connect, compare, lock, back up, run the worker, look at the result.

Each takes what it needs and gives what it found. `compare` and `migrate` are the two to open first.
"""
