#!/usr/bin/env bash
# Installs what the container tests need on Debian: an engine, its plugins, podman, and what builds stand-ins for images.
#
#   usage: tests/image/install-engine.sh [arm64]
#
# Everything comes from Debian, through apt: no image registry is asked. An engine, a client or a plugin that is there
# already is left alone. The docker plugins are Debian 13's, which run on Debian 12 as they are. With `arm64` it also installs the
# emulation that `make test-arm64` needs, and registers it. It starts nothing: the tests start the engine themselves where none runs.
set -euo pipefail

export DEBIAN_FRONTEND=noninteractive

# The release whose plugins are taken; the same mirror as the machine's own is asked for it.
readonly RELEASE=trixie
readonly PLUGINS=/usr/libexec/docker/cli-plugins

# Installs the Debian packages that are missing, without letting them start a service.
install_missing() {
    local name missing=()
    for name in "$@"; do
        dpkg-query --show --showformat='${db:Status-Status}\n' "$name" 2>/dev/null | grep -qx installed || missing+=("$name")
    done
    if [ ${#missing[@]} -eq 0 ]; then
        return 0
    fi
    apt-get update -qq
    # RUNLEVEL=1 keeps invoke-rc.d from starting daemons: what the tests need they start themselves.
    RUNLEVEL=1 apt-get install -qq --yes --no-install-recommends "${missing[@]}" </dev/null
}

# Unpacks a docker plugin out of another release's package: installing the package would bring that release's libraries.
fetch_plugin() {
    local plugin=$1 package=$2 mirror
    if docker "$plugin" version >/dev/null 2>&1; then
        return 0
    fi
    # shellcheck disable=SC2016  # apt expands it
    mirror=$(apt-get indextargets --format '$(SITE)' 'Created-By: Packages' | grep -v security | head -n 1)
    (
        cd "$scratch"
        mkdir -p "$RELEASE/lists/partial"
        printf 'deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] %s %s main\n' "$mirror" "$RELEASE" >"$RELEASE/sources.list"
        options=(-o "Dir::Etc::SourceList=$scratch/$RELEASE/sources.list" -o Dir::Etc::SourceParts=/dev/null
            -o "Dir::State::Lists=$scratch/$RELEASE/lists" -o APT::Sandbox::User=root)
        apt-get "${options[@]}" update -qq
        apt-get "${options[@]}" download -qq "$package"
        dpkg-deb --extract "$package"_*.deb "$plugin"
    )
    install -D -m 755 "$scratch/$plugin$PLUGINS/docker-$plugin" "$PLUGINS/docker-$plugin"
}

if [ "$(id -u)" -ne 0 ] || [ ! -x "$(command -v apt-get)" ]; then
    printf 'install-engine.sh: needs root on a Debian; going on with the engine that is there\n' >&2
    exit 0
fi
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

install_missing docker.io iptables iproute2 mmdebstrap podman runc catatonit
if [ "${1:-}" = arm64 ]; then
    install_missing qemu-user-static binfmt-support arch-test
    # What binfmt-support's service does at boot: the kernel is told who runs programs of that kind.
    [ -e /proc/sys/fs/binfmt_misc/status ] || mount -t binfmt_misc binfmt_misc /proc/sys/fs/binfmt_misc
    if [ "$(uname -m)" != aarch64 ]; then update-binfmts --enable qemu-aarch64; fi
fi
fetch_plugin buildx docker-buildx
fetch_plugin compose docker-compose
