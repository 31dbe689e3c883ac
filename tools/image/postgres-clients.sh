#!/usr/bin/env bash
# Installs the Postgres client programs of several major versions side by side, in the stage of the image's build that is thrown away.
#
#   usage: postgres-clients.sh pgdg|debian "MAJOR ..." "RELEASE ..."
#
#   pgdg     from the Postgres project's repository, which has every supported major
#   debian   from Debian, which has one major in each release: the other RELEASEs are looked into as well
set -euo pipefail

from=$1
read -ra majors <<<"$2"
read -ra releases <<<"$3"

case $from in
    pgdg)
        # Debian's postgresql-common carries the repository's key and the script that adds it.
        apt-get install -qq --yes --no-install-recommends postgresql-common
        bash /usr/share/postgresql-common/pgdg/*.sh -y
        ;;
    debian)
        for release in "${releases[@]}"; do
            # The mirror, its key and its options are those of the base image; only the release is another.
            for file in /etc/apt/sources.list /etc/apt/sources.list.d/debian.sources; do
                if [ -f "$file" ]; then
                    sed "/security/d; s/\btrixie\b/$release/g; /^Suites:/s/ .*/ $release/" "$file" \
                        >"/etc/apt/sources.list.d/$release.${file##*.}"
                fi
            done
            printf 'Package: *\nPin: release n=%s\nPin-Priority: 100\n' "$release" >"/etc/apt/preferences.d/$release"
        done
        apt-get update -qq
        ;;
    *)
        printf 'POSTGRES_FROM is pgdg or debian, not %s\n' "$from" >&2
        exit 2
        ;;
esac
apt-get install -qq --yes --no-install-recommends libpq5 "${majors[@]/#/postgresql-client-}"
