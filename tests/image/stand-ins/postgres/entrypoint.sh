#!/usr/bin/env bash
# Starts a server the way the public image does: on an empty PGDATA a cluster is made, set up by a temporary server that listens on its
# socket alone, and only then the real one starts.
#
#   POSTGRES_USER (postgres), POSTGRES_PASSWORD or POSTGRES_PASSWORD_FILE (required), POSTGRES_DB (the user's name)
set -euo pipefail

if [ "${1:-}" != postgres ]; then
    exec "$@"
fi
if [ "$(id -u)" -eq 0 ]; then
    mkdir -p "$PGDATA"
    find "$PGDATA" ! -user postgres -exec chown postgres:postgres {} +
    exec setpriv --reuid postgres --regid postgres --clear-groups -- "${BASH_SOURCE[0]}" "$@"
fi
if [ ! -s "$PGDATA/PG_VERSION" ]; then
    user=${POSTGRES_USER:-postgres}
    database=${POSTGRES_DB:-$user}
    password=${POSTGRES_PASSWORD:-}
    if [ -n "${POSTGRES_PASSWORD_FILE:-}" ]; then password=$(<"$POSTGRES_PASSWORD_FILE"); fi
    if [ -z "$password" ]; then
        printf 'POSTGRES_PASSWORD or POSTGRES_PASSWORD_FILE must be set\n' >&2
        exit 1
    fi
    initdb --username "$user" --pwfile <(printf '%s\n' "$password") --auth-host scram-sha-256 --auth-local trust >/dev/null
    printf '\nhost all all all scram-sha-256\n' >>"$PGDATA/pg_hba.conf"
    pg_ctl --silent --wait --options "-c listen_addresses=''" start
    if [ "$database" != postgres ]; then createdb --username "$user" --maintenance-db postgres "$database"; fi
    for file in /docker-entrypoint-initdb.d/*.sql; do
        if [ -f "$file" ]; then psql --quiet --no-psqlrc -v ON_ERROR_STOP=1 --username "$user" --dbname "$database" --file "$file"; fi
    done
    pg_ctl --silent --wait --mode fast stop
fi
exec "$@" -c listen_addresses='*'
