# shellcheck shell=bash disable=SC2034,SC2154  # the variables are shared by deploy.sh, lib.sh and steps.sh
# The steps of deploy.sh: versions and containers, then the database. Each says by its exit status whether it was done.

# compose VERSION ARGUMENT...: docker compose, with the images of that version
compose() { VERSION=$1 docker compose --progress quiet "${@:2}"; }
# headstart VERSION ARGUMENT...: Headstart from that version's image; starts the database if need be
headstart() {
    compose "$1" run --rm -T ${no_deps:+--no-deps} --entrypoint headstart -e HEADSTART_LOG=console "$migrate" "${@:2}" \
        </dev/null
}
# ask VERSION ARGUMENT...: the same for what it prints; its log is shown only when it fails
ask() { headstart "$@" 2>/dev/null || headstart "$@"; }
# in_folder DIR COMMAND...
in_folder() { cd "$1" && "${@:2}"; }
# in_git ARGUMENT...: without the lock, which git's own background work would keep
in_git() { git "$@" 9<&-; }

# --- versions

# current_version: of the app that is there, running or not; else of the last deploy; else nothing
current_version() {
    local id image
    id=$(app_container) || return
    if [ -z "$id" ]; then
        tail -n 1 "$state/versions" 2>/dev/null | cut -d ' ' -f 1
        return 0
    fi
    image=$(docker inspect --format '{{.Config.Image}}' "$id") || return
    case ${image##*/} in
        *:*) printf '%s' "${image##*:}" ;;
        *) printf latest ;;
    esac
}

# has_images VERSION: whether all that the compose file names are on this machine
has_images() { compose "$1" config --images | sort -u | xargs docker image inspect >/dev/null 2>&1; }

# prepare VERSION REF: its images, while the version before goes on running
prepare() {
    local folder=$PWD images image
    if [ "$mode" = git ]; then
        if ! has_commit "$2"; then attended in_git fetch --quiet --tags || true; fi
        has_commit "$2" || { fail "there is no git tag $1 here (git tag lists them)" && return 1; }
        remove_source
        # A second work tree: what is checked out stays as it is until the switch.
        in_git worktree add --quiet --detach "$state/source" "$2" || return
        folder=$state/source$prefix
        [ ! -f .env ] || ln -s "$PWD/.env" "$folder/.env" || return
        say "  building"
        attended in_folder "$folder" compose "$1" build --quiet || return
    fi
    images=$(in_folder "$folder" compose "$1" config --images | sort -u) || return
    if ! grep -q ":$1\$" <<<"$images"; then
        fail "compose.yaml has to give the images the tag \${VERSION}"
        return 1
    fi
    for image in $images; do
        if ! docker image inspect "$image" >/dev/null 2>&1; then
            say "  pulling $image"
            attended docker pull --quiet "$image" || return
        fi
    done
    remove_source
}
# has_commit REF
has_commit() { git rev-parse --quiet --verify "$1^{commit}" >/dev/null; }
# remove_source: the second work tree
remove_source() {
    [ "${mode:-}" = git ] || return 0
    [ ! -e "$state/source" ] || in_git worktree remove --force "$state/source" 2>/dev/null || rm -rf "$state/source"
    in_git worktree prune
}

# switch_to REF VERSION: the checkout, and VERSION in .env
switch_to() {
    local file
    if [ "$mode" = git ] && ! check_out "$1"; then
        say "  putting changes to files aside (git stash)" # half a checkout that a power cut has left
        in_git stash push --quiet && check_out "$1" || return
    fi
    file=$(readlink -f .env)
    { [ ! -e "$file" ] || cp -p "$file" "$file.new"; } && {
        { grep -v '^VERSION=' "$file" 2>/dev/null || true; }
        [ -z "$2" ] || printf 'VERSION=%s\n' "$2"
    } | write "$file"
}
# check_out REF: a branch as a branch, anything else as it is
check_out() {
    if git show-ref --verify --quiet "refs/heads/$1"; then
        in_git checkout --quiet "$1" --
    else
        in_git checkout --quiet --detach "$1" --
    fi
}

# --- containers

# containers [one-off]: id and service of the project's, without the database's
containers() {
    docker ps --all --filter "label=com.docker.compose.project=$name" \
        ${1:+--filter label=com.docker.compose.oneoff=True} \
        --format '{{.ID}} {{.Label "com.docker.compose.service"}}' | awk -v but="$database" '$2 != but'
}
app_container() { containers | awk -v app="$app" '$2 == app && !found++ { print $1 }'; }
# clear_containers [one-off]: stops and removes: a stopped one with "restart: always" would be back after a power cut
clear_containers() {
    local ids
    mapfile -t ids < <(containers "$@" | cut -d ' ' -f 1)
    [ ${#ids[@]} -gt 0 ] || return 0
    docker stop "${ids[@]}" >/dev/null 2>&1 || true # one-offs remove themselves, perhaps before they are named here
    docker rm --force "${ids[@]}" >/dev/null 2>&1 || true
    for _ in {1..20}; do # one that is just being removed is listed until it is gone
        [ -n "$(containers "$@")" ] || return 0
        sleep 0.5
    done
    return 1
}
stop_app() { step stop "stopping the app" && attended clear_containers; }
# keep_logs: what a version that failed had to say, before its containers go
keep_logs() {
    local id
    id=$(app_container) && [ -n "$id" ] || return 0
    docker logs --tail 1000 "$id" >"$state/failed.log" 2>&1 && say "  what the app had to say: $state/failed.log"
}

# start VERSION
start() {
    local runs
    step start "starting $1" && attended compose "$1" up --detach --no-build --pull never || return
    runs=$(current_version) && [ "$runs" = "$1" ] && return
    fail "what runs is ${runs:-nothing}: compose.yaml has to give the app's image the tag \${VERSION}"
    return 1
}
# health_url: DEPLOY_HEALTH where it is a URL, else that path on the first port that the app publishes
health_url() {
    local at
    if [[ $health == http* ]]; then
        printf '%s' "$health"
        return
    fi
    at=$(app_container) && [ -n "$at" ] && at=$(docker port "$at" 2>/dev/null) && [ -n "$at" ] || return
    at=${at%%$'\n'*}
    at=${at##* -> }
    at=${at/#0.0.0.0:/127.0.0.1:}
    printf 'http://%s%s' "${at/#\[::\]:/[::1]:}" "$health"
}
is_healthy() {
    local url
    url=$(health_url) || return
    [ "$(curl --silent --noproxy '*' --output /dev/null --max-time 5 --write-out '%{http_code}' "$url")" = 200 ]
}
check_health() {
    local deadline=$((SECONDS + health_timeout))
    step health "asking $(health_url || echo "nobody: the app publishes no port, set DEPLOY_HEALTH to a URL")" || return
    until is_healthy; do
        if [ "$SECONDS" -ge "$deadline" ]; then
            fail "not healthy within $health_timeout s"
            return 1
        fi
        attended sleep 1 || return
    done
}

# --- the database

# look VERSION: where the database is, as that version sees it, in `recorded` (several heads joined by commas), and the
# revisions that it would apply, in `pending`
look() {
    local answer
    recorded=''
    answer=$(ask "$1" status --json) && answer=$(tr -d ' \n"' <<<"$answer") || return
    recorded=$(sed -nE 's/.*[,{]revision:(\[([^]]*)\]|([^],}]*)).*/\2\3/p' <<<"$answer")
    pending=$(sed -nE 's/.*[,{]pending:\[([^]]*)\].*/\1/p' <<<"$answer")
    [ -n "$recorded" ]
}
# show_what_is_pending: what the new image says of the live database
show_what_is_pending() {
    local no_deps=''
    if [ "$dry_run" = yes ]; then
        no_deps=yes
        if [ -z "$(compose "$to" ps --quiet --status running "$database")" ]; then
            say "  the database does not run, so it cannot say what is pending"
            pending=unknown
            return
        fi
    fi
    look "$to" || return
    say "  the database is at $recorded; $to brings ${pending:-no revisions}" | sed 's/,/, /g'
}

# back_up: by Headstart, after the app has stopped: nothing is written between it and a restore
back_up() {
    local path
    step backup "backing up the database" &&
        attended compose "${journal[tool]}" run -T --name "$name-deploy-backup" --entrypoint headstart \
            -e HEADSTART_LOG=console "$migrate" backup &&
        path=$(ask "${journal[tool]}" backups list --json | sed -n 's/^ *"path": "\(.*\)",$/\1/p') &&
        path=${path%%$'\n'*} && [ -n "$path" ] && note "path=$path" "backup=${path#"${path%/*/*}/"}"
}
# copy_out: to the host, every byte compared with the checksums of the manifest
copy_out() {
    local copy=$state/backups/${journal[backup]}
    step copy "copying the backup to $copy" && mkdir -p "${copy%/*}" && rm -rf "$copy.partial" &&
        attended docker cp --quiet "$name-deploy-backup:${journal[path]}" "$copy.partial" &&
        attended check_sums "$copy.partial" && sync --file-system "$copy.partial" && mv "$copy.partial" "$copy" &&
        sync "${copy%/*}" && docker rm "$name-deploy-backup" >/dev/null && return
    rm -rf "$copy.partial" # where the disk is full, the way back needs the room
    return 1
}
# check_sums BACKUP: its files against its manifest
check_sums() {
    local sums
    sums=$(tr -d ' \n' <"$1/manifest.json" | grep -oE '"[^"]+":\{"sha256":"[0-9a-f]{64}"' |
        sed -E 's/^"([^"]+)":\{"sha256":"([0-9a-f]+)"$/\2  \1/') &&
        in_folder "$1" sha256sum --check --quiet --strict <<<"$sums"
}

# change_database: what a rollback does to it, with the image of the version that it leaves
change_database() {
    local words
    read -ra words <<<"${journal[change]}"
    case ${words[0]}/${journal[outcome]} in
        restore/) note outcome=unknown && restore "${words[1]}" ;;
        downgrade/)
            step downgrade "downgrading to ${words[1]}" &&
                in_database "${journal[tool]}" downgrade "${words[1]}"
            ;;
    esac
}
# in_database VERSION VERB...: changes it, and notes how that ended. No second backup: there is one of this very moment.
in_database() {
    local code=0
    note outcome=unknown || return
    attended compose "$1" run --rm -T --entrypoint headstart -e HEADSTART_LOG=console -e HEADSTART_BACKUP=off "$migrate" \
        "${@:2}" || code=$?
    note "outcome=$code" && [ "$code" -eq 0 ] && [ -z "$interrupted" ]
}
migrate() {
    step migrate "migrating" || return
    if [ "${journal[change]}" = up ] && [ -z "${journal[outcome]}" ]; then
        # A compose file that names another volume would bring up another, empty database.
        look "$to" || return
        if [ "$recorded" != "${journal[revision]}" ]; then
            fail "with the compose file of $to it is another database: at $recorded, not at ${journal[revision]}"
            return 1
        fi
    fi
    in_database "$to" up
}
at_head() { look "$to" && [ -z "$pending" ]; }
verify() {
    step verify "verifying the revision" || return
    if ! at_head; then
        fail "the database is at ${recorded:-an unknown place}; still pending: ${pending:-unknown}"
        return 1
    fi
    ask "$to" current | sed 's/^/  /'
}

# can_finish: whether an interrupted change had its migration behind it
can_finish() {
    [ "${journal[going_back]}" = no ] || return
    case ${journal[stage]} in
        migrate | verify | start | health | record) at_head ;;
        *) return 1 ;;
    esac
}
# needs_restore: whether the database may be another one than before; what is not known counts as yes
needs_restore() {
    local before=${journal[revision]} outcome=${journal[outcome]}
    [ "${journal[restore]}" != "done" ] && [ -n "$outcome" ] || return # restored already, or never begun
    if [ "${journal[restore]}" = needed ] || [[ ${journal[change]} = restore* ]]; then return 0; fi
    if ! look "${journal[tool]}"; then
        say "  the database does not say where it is"
    elif [ "$recorded" != "$before" ]; then
        say "  the database was at $before, now it is at $recorded"
    else
        case $outcome in
            # docs/exit-codes.md: untouched, or rolled back to the recorded revision; from 125 on the engine's, a signal's
            0 | 10 | 2[0-2] | 30 | 4[01] | 50 | 60 | 62 | 7[0-3] | 12[5-7] | 129 | 13[01] | 143) return 1 ;;
        esac
        say "  the database is still at $before, but may hold a part of what came after"
    fi
}
# restore BACKUP: beside the database, then exchanged with it; a backup that the volume no longer has is put back first
restore() {
    local folder=${journal[path]%/*/*} tool=${journal[tool]}
    step restore "restoring $1" || true
    attended compose "$tool" run --rm -T --entrypoint test "$migrate" -d "$folder/$1" ||
        tar -C "$state/backups" -cf - "$1" | compose "$tool" run --rm -T --entrypoint tar "$migrate" -C "$folder" -xf - ||
        return
    attended headstart "$tool" restore "${1##*/}" --swap
}

# show_status: for people; fails when something wants looking after
show_status() {
    local version status=0 no_deps=yes copies shown
    version=$(current_version)
    say "version   ${version:-none} ($mode, project $name)"
    if is_healthy; then say "app       healthy, $(health_url)"; else say "app       not healthy" && status=1; fi
    if [ -z "$(compose none ps --quiet --status running "$database")" ]; then
        say "database  does not run" && status=1
    else
        shown=$(ask "$version" status) || status=1
        say "$shown"
        ! grep -q ^pending <<<"$shown" || status=1
    fi
    copies=("$state"/backups/*/*/manifest.json)
    if [ -e "${copies[0]}" ]; then
        printf 'copy      %s\n' "${copies[@]%/manifest.json}"
    else
        say "copy      none in $state/backups"
    fi
    if read_journal; then
        say "deploy    ${journal[from]:-nothing} -> ${journal[to]} is or was at '${journal[stage]}'; if it no longer" \
            "runs, deploy.sh --resume finishes it or goes back"
        status=1
    fi
    return "$status"
}
