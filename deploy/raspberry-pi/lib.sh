# shellcheck shell=bash disable=SC2034,SC2154  # the variables are shared by deploy.sh, lib.sh and steps.sh
# What deploy.sh stands on: the command line, words for people, the project, signals, the lock, the journal.
#
# On disk, in $state: backups/, the copies; journal, the change under way; versions, what was deployed, a line each:
# version, git ref, revision recorded before it, backup taken before it, time.

action='' to='' from='' dry_run=no yes=no restore_backup=no project=. pending='' recorded='' child='' interrupted=''
declare -A journal=()
bold='' red='' plain=''
if [ -t 1 ]; then bold=$'\e[1m' red=$'\e[31m' plain=$'\e[0m'; fi

# say TEXT...: a line for people; a terminal that is gone must not end the deploy
say() { printf '%s\n' "$*" 2>/dev/null || true; }
# fail TEXT...: the same, on stderr
fail() { printf '%s%s%s\n' "$red" "$*" "$plain" >&2 2>/dev/null || true; }
# step STAGE TEXT: people and the journal are told what comes next; a full disk does not stop the way back
step() { say "${bold}$1${plain}: $2" && { note "stage=$1" || [ "${journal[going_back]}" = yes ]; }; }

# usage: the head of deploy.sh
usage() { sed -n '2,/^set/s/^# \{0,1\}//p' "$here/deploy.sh"; }
# wrong_usage WHY
wrong_usage() {
    fail "$1; deploy.sh --help shows what there is"
    exit 2
}
# nothing_changed WHY: the end of a call that has left everything as it was
nothing_changed() {
    remove_source
    fail "$1"
    fail "nothing was changed"
    exit "${interrupted:-1}"
}
# stuck: the way back has failed; the journal stays, and the next call goes on there
stuck() {
    fail "going back has failed; the app may be stopped. No data is lost: Headstart restores beside the database, and" \
        "the backup is in $state/backups/${journal[backup]}"
    fail "next: remove the cause that is named above (room on the disk? the server?), then run" \
        "$state/deploy.sh --resume --project '$PWD'"
    exit 3
}

# read_arguments ARGUMENT...
read_arguments() {
    while [ $# -gt 0 ]; do
        case $1 in
            --rollback | --status | --resume)
                [ -z "$action" ] || wrong_usage "one thing at a time"
                action=${1#--}
                ;;
            --dry-run) dry_run=yes ;;
            --yes) yes=yes ;;
            --restore-backup) restore_backup=yes ;;
            --project)
                [ $# -gt 1 ] || wrong_usage "--project needs a folder"
                project=$2
                shift
                ;;
            -h | --help)
                usage
                exit
                ;;
            -*) wrong_usage "there is no option $1" ;;
            *)
                [ -z "$action" ] || wrong_usage "one thing at a time"
                action=deploy to=$1
                ;;
        esac
        shift
    done
    [ -n "$action" ] || wrong_usage "a version is missing"
    [[ $action != deploy || $to =~ ^[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}$ ]] || wrong_usage "'$to' is no version"
    [ "$restore_backup" = no ] || [ "$action" = rollback ] || wrong_usage "--restore-backup goes with --rollback"
}

# setting NAME DEFAULT: from the environment, else from .env
setting() {
    local found=${!1:-}
    [ -n "$found" ] || found=$(sed -n "s/^$1=//p" .env 2>/dev/null | tail -n 1)
    printf '%s' "${found:-$2}"
}

# find_project: its folder, name and services, where versions come from, where the state is kept
find_project() {
    local program root
    for program in docker flock curl sha256sum; do
        [ -n "$(command -v "$program")" ] || nothing_changed "$program is missing: install it"
    done
    cd "$project" 2>/dev/null || wrong_usage "there is no folder $project"
    app=$(setting DEPLOY_APP app) migrate=$(setting DEPLOY_MIGRATE migrate) database=$(setting DEPLOY_DATABASE db)
    health=$(setting DEPLOY_HEALTH /health) health_timeout=$(setting DEPLOY_HEALTH_TIMEOUT 60)
    keep=$(setting DEPLOY_KEEP 7)
    root=$(git rev-parse --show-toplevel 2>/dev/null) || root=
    mode=$(setting DEPLOY_FROM "$([ -n "$root" ] && echo git || echo images)")
    case $mode/$root in
        git/?*) prefix=${PWD#"$root"} ;;
        images/*) root=$PWD ;;
        *) nothing_changed "DEPLOY_FROM is git (in a checkout) or images, not $mode" ;;
    esac
    name=$(compose none config | sed -n 's/^name: //p') && [ -n "$name" ] ||
        nothing_changed "docker compose cannot work in $PWD: see above"
    # Beside the checkout: `git clean`, a build's context and `docker compose down -v` do not reach it.
    state=$(setting DEPLOY_STATE "$root.deploy")
    (umask 077 && mkdir -p "$state/backups") || nothing_changed "set DEPLOY_STATE to a folder that can be written to"
    state=$(cd "$state" && pwd)
}

# check_checkout: versions are checked out, so nothing that is not committed may be in the way
check_checkout() {
    local changed
    [ "$mode" = git ] || return 0
    changed=$(git status --porcelain --untracked-files=no) || nothing_changed "git cannot read $PWD"
    [ -z "$changed" ] || nothing_changed "commit or stash what is not committed:"$'\n'"$changed"
    ! git ls-files --error-unmatch .env >/dev/null 2>&1 ||
        nothing_changed ".env is kept in git: take it out, this machine's version is written to it"
}

# confirm: a rollback changes data, so somebody has to want it
confirm() {
    local answer=''
    [ "$yes" = no ] || return 0
    [ -t 0 ] && read -rp "go on? [y/N] " answer && [ "$answer" = y ]
}

# listen: from here on a signal leads to the way back
listen() {
    trap 'interrupt 130' INT
    trap 'interrupt 143' TERM
    trap 'exec >>"$state/deploy.log" 2>&1; interrupt 129' HUP # the terminal is gone
    trap '' PIPE
}
# deafen: what follows is not to be interrupted
deafen() { trap '' INT TERM HUP; }
# interrupt STATUS: what a signal does: the step under way fails, and its caller goes back
interrupt() {
    interrupted=$1
    fail "interrupted"
    [ -z "$child" ] || kill -TERM -- "-$child" 2>/dev/null || true
}
# attended COMMAND...: a signal is answered at once, not when the command has ended. In a process group of its own, so
# that Ctrl-C does not reach it past this script.
attended() {
    local status=0
    [ -z "$interrupted" ] || return 1
    set -m
    "$@" </dev/null &
    child=$!
    set +m
    wait "$child" || status=$?
    while kill -0 "$child" 2>/dev/null; do # a signal has ended the wait, not the command
        status=0
        wait "$child" || status=$?
    done
    [ -z "$interrupted" ] || await_end "$child"
    child=
    [ -z "$interrupted" ] || [ "$status" -ne 0 ] || status=1
    return "$status"
}
# await_end GROUP: the engine's client may go on for a while after SIGTERM, and start what the way back has just removed
await_end() {
    local deadline=$((SECONDS + 20))
    while kill -0 -- "-$1" 2>/dev/null; do
        if [ "$SECONDS" -ge "$deadline" ]; then
            kill -KILL -- "-$1" 2>/dev/null || true
            return
        fi
        sleep 0.1
    done
}

# take_lock: two deploys keep apart; what a killed one has left running is ended. The lock goes with the last process
# that this script has started.
take_lock() {
    local other
    exec 9<"$state"
    if ! flock --nonblock 9; then
        other=$(cat "$state/pid" 2>/dev/null) || other=none
        ! grep -qa deploy.sh "/proc/$other/cmdline" 2>/dev/null ||
            nothing_changed "another deploy is at work (process $other)"
        say "a deploy that was killed has left a command running: ending it"
        clear_containers one-off || true
        flock --timeout 120 9 || nothing_changed "it does not end; docker ps shows what runs"
    fi
    printf '%s\n' $$ >"$state/pid"
}

# write FILE: what is read becomes its content, all of it or nothing, even when the power goes
write() { cat >"$1.new" && sync "$1.new" && mv "$1.new" "$1" && sync "$(dirname "$1")"; }
# note KEY=VALUE...: into the journal
note() {
    local pair key
    for pair; do journal[${pair%%=*}]=${pair#*=}; done
    for key in "${!journal[@]}"; do printf '%s=%s\n' "$key" "${journal[$key]}"; done | write "$state/journal"
}
# read_journal: fails where there is none
read_journal() {
    local key value
    [ -f "$state/journal" ] || return
    while IFS='=' read -r key value; do journal[$key]=$value; done <"$state/journal"
}
close_journal() { rm -f "$state/journal" && sync "$state"; }

# begin KEY=VALUE...: opens the journal; from here on every end is the new version, or what was before
begin() {
    local ref='' env
    [ "$mode" = images ] || ref=$(git symbolic-ref --quiet --short HEAD || git rev-parse HEAD)
    env=$(sed -n 's/^VERSION=//p' .env 2>/dev/null | tail -n 1) || true
    # Kept where no checkout reaches it: the version that is checked out may have no deploy.sh.
    [ "$here" = "$state" ] || cp "$here"/{deploy,lib,steps}.sh "$state/" || nothing_changed "cannot write to $state"
    journal=()
    note "from=$from" "to=$to" "ref_from=$ref" "env=$env" "revision=$recorded" stage=begin path= backup= outcome= \
        restore= going_back=no "$@" || { close_journal; nothing_changed "cannot write to $state"; }
}

# keep_record: what --rollback will need; older copies go, the journal ends. A signal up to here leads back; from here on it
# is too late.
keep_record() {
    local top lines='' copies old extra
    deafen
    [ -z "$interrupted" ] || return
    step record "$to runs, at head and healthy" || return
    if [ -s "$state/versions" ]; then lines=$(cat "$state/versions"); fi
    top=$(tail -n 1 <<<"$lines" | cut -d ' ' -f 1)
    case ${journal[change]}/$top in
        "up/$to") ;; # the same version again, or this step a second time
        up/*)
            [ -z "$from" ] || [ "$top" = "$from" ] || lines+=$'\n'"$from ${journal[ref_from]:--} - - -"
            lines+=$'\n'"$to ${journal[ref_to]} ${journal[revision]} ${journal[backup]} $(date --utc +%FT%TZ)"
            ;;
        */"$from") lines=$(sed '$d' <<<"$lines") ;;
    esac
    sed '/^$/d' <<<"$lines" | write "$state/versions" && close_journal || return
    copies=("$state"/backups/*/*)
    extra=$((${#copies[@]} - keep))
    for old in "${copies[@]:0:$((extra > 0 ? extra : 0))}"; do
        tail -n 1 "$state/versions" | grep -qF " ${old#"$state/backups/"} " || rm -rf "$old"
    done
    say "done: $to"
}
