"""From variables, flags and files to frozen `Settings`, or to every problem at once.

`table` lists the settings, `settings` reads them, `dsn` takes any spelling of a database's address (`conninfo` libpq's
own, `resolve` what libpq would look up, `tls` its certificates), `durations` knows `10s`.

Begin with `table`.
"""
