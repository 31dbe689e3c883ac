"""The phases of a run, the faults, what each pair of them has to end as, and the page that says what they ended as.

`phases` and `faults` are the two tables, `arrive` brings a run to a phase, `cell` lets a fault happen to it and
compares the report with the database, `page` writes docs/faults.md.
"""
