#!/usr/bin/env bash
# Runs a command with a container engine: the one that answers, or else one of its own for as long as the command takes.
#
#   usage: tests/image/with-engine.sh COMMAND [ARG ...]
#
# Starting one needs root and dockerd. It gets a socket of its own and keeps its images in /var/tmp/headstart-engine, so that a
# second run finds what the first has built; nothing of it runs afterwards.
set -euo pipefail

if docker info >/dev/null 2>&1; then
    exec "$@"
fi
if [ "$(id -u)" -ne 0 ] || [ ! -x "$(command -v dockerd)" ]; then
    printf 'with-engine.sh: no container engine answers, and none can be started here: tests that need one are skipped\n' >&2
    exec "$@"
fi
run=$(mktemp -d)
dockerd --data-root /var/tmp/headstart-engine --exec-root "$run/exec" --pidfile "$run/pid" --host "unix://$run/docker.sock" \
    >"$run/log" 2>&1 </dev/null &
engine=$!
end() {
    kill "$engine" 2>/dev/null || true
    wait "$engine" 2>/dev/null || true
    rm -rf "$run"
}
trap end EXIT
export DOCKER_HOST="unix://$run/docker.sock"
for _ in $(seq 100); do
    if docker info >/dev/null 2>&1; then
        break
    fi
    if ! kill -0 "$engine" 2>/dev/null; then
        tail -n 5 "$run/log" >&2
        exit 1
    fi
    sleep 0.2
done
"$@"
