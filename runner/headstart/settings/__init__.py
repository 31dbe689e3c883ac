"""From variables, flags and files to frozen `Settings`, or to every problem at once.

`table` lists the settings, `settings` reads them. `resolve` reads any spelling of a database's address into a `dsn`:
`conninfo` has libpq's own words, `tls` its certificates. `durations` knows `10s`.

Begin with `table`.
"""
