#!/bin/sh
# Picks the program and becomes it. No waiting, no SQL, no secrets: those are Headstart's own.
#
#   usage: docker-entrypoint.sh [VERB|OPTION ...]    headstart with these words; `up` is the image's default
#          docker-entrypoint.sh PROGRAM [ARG ...]    anything else as it is: psql, sh, python3 ...
set -eu

# A test compares this list with the program's own verbs.
case "${1-up}" in
    up | wait | status | doctor | explain | repair | backup | backups | restore | upgrade | downgrade | stamp | current | \
        history | heads | show | revision | merge | sql | check | schema | squash | adopt | tenants | help | version | -*)
        exec headstart "$@"
        ;;
esac
exec "$@"
