"""What CI should refuse, found without touching any database that matters.

What comes in: `Options`, the checks and what they are compared with. What goes out: a `Report` of findings, which
`render` shows as text, JSON or GitHub's annotations. `checks` runs them in their order on one scratch server:
`sources` and `git` need the files alone, `round_trip` applies, reverts and applies again every revision, `compare` and
`rules` look at the result. `baseline` holds the findings that a project accepts.

Begin with `checks`.
"""
