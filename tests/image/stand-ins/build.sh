#!/usr/bin/env bash
# Builds images that stand in for public ones, out of Debian's packages alone, for a place that no image registry reaches.
#
#   usage: tests/image/stand-ins/build.sh NAME...
#   names: debian:trixie-slim python:3.13-slim postgres:17 arm64v8/debian:trixie-slim
#
# Each gets the public name, so that the Dockerfiles and the manifests work as they are; an image that the engine has already, or can pull,
# is left alone. Needs mmdebstrap, root, and the Debian mirror that this machine's apt uses; arm64v8/ on another processor needs
# qemu-user-static and binfmt-support as well.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"

readonly RELEASE=trixie

# Says whether the engine has an image of this name, or can get it.
has() {
    docker image inspect "$1" >/dev/null 2>&1 || timeout 20 docker pull --quiet "$1" >/dev/null 2>&1
}

# A Debian like the public image, for an architecture: without documentation, manuals and translations.
build_debian() {
    local mirror digest architecture=$2
    # shellcheck disable=SC2016  # apt expands it
    mirror=$(apt-get indextargets --format '$(SITE)' 'Created-By: Packages' | grep -v security | head -n 1)
    # shellcheck disable=SC2016  # mmdebstrap expands it
    mmdebstrap --quiet --variant=minbase --architectures="$architecture" \
        --dpkgopt='path-exclude=/usr/share/doc/*' --dpkgopt='path-include=/usr/share/doc/*/copyright' \
        --dpkgopt='path-exclude=/usr/share/man/*' --dpkgopt='path-exclude=/usr/share/info/*' \
        --dpkgopt='path-exclude=/usr/share/locale/*' \
        --keyring=/usr/share/keyrings/debian-archive-keyring.gpg \
        --customize-hook='rm -rf "$1"/var/lib/apt/lists/* "$1"/var/cache/apt/* "$1"/etc/resolv.conf' \
        "$RELEASE" "$scratch/root.tar" "$mirror"
    # `docker import` would call it an image for this machine's processor, whatever is in it.
    digest=$(sha256sum "$scratch/root.tar" | cut -d ' ' -f 1)
    cat >"$scratch/config.json" <<EOF
{"architecture": "$architecture", "os": "linux", "rootfs": {"type": "layers", "diff_ids": ["sha256:$digest"]},
 "config": {"Env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"], "Cmd": ["bash"],
            "Labels": {"stand-in": "true"}}}
EOF
    printf '[{"Config": "config.json", "RepoTags": ["%s"], "Layers": ["root.tar"]}]\n' "$1" >"$scratch/manifest.json"
    tar -C "$scratch" -cf - manifest.json config.json root.tar | docker load --quiet
}

scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

for name in "$@"; do
    if has "$name"; then
        continue
    fi
    printf 'making a stand-in for %s\n' "$name" >&2
    case $name in
        debian:*) build_debian "$name" "$(dpkg --print-architecture)" ;;
        arm64v8/debian:*) build_debian "$name" arm64 ;;
        *) DOCKER_BUILDKIT=1 docker build --quiet --label stand-in=true --tag "$name" "${name%%:*}" ;;
    esac
done
