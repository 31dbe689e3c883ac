#!/usr/bin/env bash
# Brings a version of an app, and the database with it, onto a machine that runs them with Docker Compose.
#
#   usage: deploy.sh VERSION     deploy it: a git tag that is built, or the tag of images that are there or pulled
#          deploy.sh --rollback  back to the version before; with --restore-backup its data of that time, too
#          deploy.sh --status    what runs, where the database is, which backups are on this machine
#          deploy.sh --resume    end what a power cut interrupted (every deploy and rollback does this first)
#   with:  --dry-run             show what would be done, change nothing
#          --yes                 do not ask before a rollback
#          --project DIR         the folder of compose.yaml and .env, when it is not the current one
#
# Exit: 0 done; 1 failed, and what ran before runs again; 2 wrong usage; 3 the app is stopped, and the message says
# what to do; 129, 130, 143 interrupted, and what ran before runs again. README.md lists the settings.
#
# The app is stopped before the backup is taken, so a restore loses nothing. A journal on disk says how far a deploy
# came: whatever ends it, even a power cut, the next call finishes it or goes back. Functions run as conditions, where
# `set -e` has no effect: each says with && and || what follows from a failure.
set -euo pipefail

here=$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")
# shellcheck source=deploy/raspberry-pi/lib.sh
. "$here/lib.sh"
# shellcheck source=deploy/raspberry-pi/steps.sh
. "$here/steps.sh"

main() {
    read_arguments "$@"
    find_project
    if [ "$action" = status ]; then
        show_status
        return
    fi
    take_lock
    listen
    end_interrupted_change
    case $action in
        deploy) check_checkout && deploy ;;
        rollback) check_checkout && roll_back ;;
    esac
}

# deploy: to the version that was asked for
deploy() {
    from=$(current_version)
    say "${bold}${from:-nothing} -> $to${plain} ($mode, project $name)"
    prepare "$to" "refs/tags/$to" || nothing_changed "version $to cannot be had"
    show_what_is_pending || nothing_changed "version $to does not fit the database (to an older one: --rollback)"
    if [ "$to" = "$from" ] && [ -z "$pending" ] && is_healthy; then
        say "$to runs already, at its head and healthy: nothing to do"
        return
    fi
    if [ "$dry_run" = yes ]; then
        say "would now stop the app, back up, copy the backup to $state/backups, switch to $to, migrate, verify, start" \
            "and check the health; should any of it fail, go back to ${from:-a stopped app}"
        return
    fi
    begin "change=up" "tool=$to" "ref_to=refs/tags/$to"
    carry_out
}

# roll_back: to the version before; the data stay (headstart downgrade), or become what they were (its backup)
roll_back() {
    local version previous ref ref_then revision backup change=none _
    from=$(current_version)
    read -r version _ revision backup _ < <(tail -n 1 "$state/versions" 2>/dev/null) || true
    read -r previous ref_then _ < <(tail -n 2 "$state/versions" 2>/dev/null | head -n 1) || true
    if [ -z "$version" ] || [ "$version" = "$previous" ] || [ "$version" != "$from" ]; then
        nothing_changed "no version is known that ran before ${from:-this}: name one (deploy.sh VERSION)"
    fi
    to=$previous ref=$ref_then
    say "${bold}$from -> $to${plain} (rollback, $mode, project $name)"
    look "$from" || nothing_changed "the database does not say where it is"
    if [ "$restore_backup" = yes ]; then
        [ "$backup" != - ] || nothing_changed "no backup was taken when $from came"
        change="restore $backup"
        say "  the database becomes what it was in backup ${backup##*/}; what was written since stays beside it only"
    elif [ "$revision" = "$recorded" ]; then
        say "  the database stays as it is: $from brought no revisions"
    elif [[ $revision =~ ^[A-Za-z0-9_.]+$ ]]; then
        change="downgrade $revision"
        say "  the database is downgraded from $recorded to $revision: rows stay, what these revisions added goes"
    else
        nothing_changed "it is not known where the database was before $from: --restore-backup, or headstart downgrade"
    fi
    has_images "$to" || prepare "$to" "$ref" || nothing_changed "version $to cannot be had any more"
    if [ "$dry_run" = yes ]; then
        say "would now stop the app, back up, do that to the database, switch to $to, verify, start and check the health"
        return
    fi
    confirm || nothing_changed "not confirmed (--yes answers for you)"
    begin "change=$change" "tool=$from" "ref_to=$ref"
    carry_out
}

# carry_out: the change itself; whatever fails or interrupts it leads back to where it began
carry_out() {
    if stop_app && back_up && copy_out && finish; then
        return
    fi
    undo
}

# finish: what is left to do when the backup is safe; called again after an interruption, it does only that
finish() {
    change_database && switch_to "${journal[ref_to]}" "$to" && migrate && verify && start "$to" && check_health &&
        keep_record
}

# undo: ends a call whose change has failed or was interrupted
undo() {
    local code=${interrupted:-1}
    fail "${from:-nothing} -> $to did not work: going back"
    go_back || stuck
    exit "$code"
}

# go_back: the version before, and the database as it was; can be repeated as often as needed
go_back() {
    deafen # a second Ctrl-C must not leave the app stopped
    interrupted=
    note going_back=yes || true # a disk that is full must not stop the way back
    keep_logs || true
    say "  stopping what runs" && clear_containers && switch_to "${journal[ref_from]}" "${journal[env]}" || return
    if needs_restore; then
        note restore=needed || true
        restore "${journal[backup]}" && note restore=done || return
    else
        say "  the database is as it was: no restore needed"
    fi
    if [ -z "$from" ]; then
        close_journal && say "nothing ran before: the app is stopped"
    else
        start "$from" && check_health && close_journal && say "back at $from: it runs and is healthy"
    fi
}

# end_interrupted_change: a journal is there when a call was cut short: finish what it did, or go back
end_interrupted_change() {
    local asked=$to found
    read_journal || return 0
    from=${journal[from]} to=${journal[to]}
    found="${from:-nothing} -> $to was interrupted at '${journal[stage]}'"
    [ "$dry_run" = no ] || nothing_changed "$found: deploy.sh --resume finishes it or goes back"
    clear_containers one-off || nothing_changed "$found, and the containers that it left cannot be stopped"
    if can_finish; then
        say "$found, after its migration: finishing it"
        finish || undo
    else
        say "$found: going back"
        go_back || stuck
    fi
    listen
    to=$asked
}

# On one line: bash has read all of the script before a checkout replaces it.
main "$@"; exit
