"""What is written to stderr: JSON lines, or a text for people on a terminal; and never a secret.

`logger` makes structlog's logger for one run, `console` renders an event for people, `secret` holds passwords and takes
them out of everything that is written. `process` runs a program and hears what it says, redacted, line by line.

Begin with `logger`.
"""
