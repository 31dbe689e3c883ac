"""Many tenants, each a schema or a database: `up` for those that need it, and a quick look for the others.

What comes in: the list of tenants, from a file or a query. What goes out: an outcome for each of them. `targets` reads
and checks the list, `survey` finds the tenants that need nothing, by two queries for all of them, and `schema` brings
one that is a schema to the target, with `session` and `lock` for what they share.

Begin with `work`.
"""
