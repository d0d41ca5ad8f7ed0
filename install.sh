#!/bin/sh
# Installs `provision` on Linux: downloads the binary for this machine, verifies its SHA-256, and renames it into place.
#
#     sh install.sh [--to DIR] [--from URL] [--version VERSION]
#
#   --to DIR           the directory [default: ~/.local/bin]
#   --from URL         the directory with the binaries and their .sha256 files [default: $PROVISION_RELEASE_URL, else that
#                      of VERSION where this script was released]
#   --version VERSION  the version [default: that of this script]
#
# The final name never has a part of a binary: the download has a name of its own until it is verified. A second run
# with the same version downloads the digest only.
set -eu

# The directory of all releases. A release fills it in: see .github/workflows/release.yml.
releases=
version=0.1.0

say() {
    printf '%s\n' "$*"
}

fail() {
    printf 'install.sh: %s\n' "$*" >&2
    exit 1
}

has() {
    command -v "$1" > /dev/null 2>&1
}

machine() {
    system=$(uname -s)
    [ "$system" = Linux ] || fail "there is no binary for $system; use the container image: see docs/containers.md"
    case $(uname -m) in
        x86_64 | amd64) echo x86_64 ;;
        aarch64 | arm64) echo aarch64 ;;
        *) fail "there is no binary for $(uname -m); there are x86_64 and aarch64. Build it: cargo xtask dist" ;;
    esac
}

download() { # URL FILE
    # An https address leads to no other scheme, also by a redirect. wget has no such option, so its plain requests go to
    # a proxy that does not exist.
    case $1 in
        https://*) only='=https' plain_proxy=http://127.0.0.1:9 ;;
        *) only='=http,https' plain_proxy=${http_proxy:-} ;;
    esac
    if has curl; then
        curl --proto "$only" --fail --silent --show-error --location --retry 3 --output "$2" "$1"
    elif has wget; then
        http_proxy=$plain_proxy wget -q -O "$2" "$1"
    else
        fail "curl or wget is needed to download $1"
    fi || fail "$1 cannot be downloaded; nothing was installed"
}

digest() { # FILE
    sha256sum "$1" | cut -d ' ' -f 1
}

main() {
    directory=${HOME:+$HOME/.local/bin}
    release=${PROVISION_RELEASE_URL:-}
    while [ $# -gt 0 ]; do
        [ $# -gt 1 ] || fail "$1 is no option with a value; the options are --to DIR, --from URL, --version VERSION"
        case $1 in
            --to) directory=$2 ;;
            --from) release=$2 ;;
            --version) version=$2 ;;
            *) fail "$1 is no option; the options are --to DIR, --from URL, --version VERSION" ;;
        esac
        shift 2
    done
    [ -n "$directory" ] || fail "HOME is not set; give the directory: --to DIR"
    release=${release:-${releases:+$releases/v$version}}
    [ -n "$release" ] || fail "give the release's address: --from URL, or PROVISION_RELEASE_URL"
    has sha256sum || fail "sha256sum is needed to verify the binary; Debian's coreutils and busybox have it"

    [ ! -d "$directory/provision" ] || fail "$directory/provision is a directory; give another directory: --to DIR"
    architecture=$(machine)
    name=provision-$version-$architecture-linux
    mkdir -p "$directory" 2> /dev/null || true
    part=$(mktemp "$directory/.provision.XXXXXX" 2> /dev/null) ||
        fail "$directory cannot be written; give another directory: --to DIR"
    trap 'rm -f "$part"' EXIT
    trap 'exit 130' INT
    trap 'exit 143' TERM HUP

    download "$release/$name.sha256" "$part"
    expected=$(cut -d ' ' -f 1 "$part")
    case $expected in
        *[!0-9a-f]* | '') fail "$release/$name.sha256 has no SHA-256; nothing was installed" ;;
    esac
    if [ -f "$directory/provision" ] && [ "$(digest "$directory/provision")" = "$expected" ]; then
        chmod 755 "$directory/provision" || fail "$directory/provision cannot be made executable; give another directory: --to DIR"
        say "provision $version is there already: $directory/provision"
        return
    fi
    download "$release/$name" "$part"
    found=$(digest "$part")
    [ "$found" = "$expected" ] || fail "$release/$name has the SHA-256 $found, not $expected; nothing was installed"
    chmod 755 "$part"
    mv -f "$part" "$directory/provision"
    say "installed provision $version: $directory/provision"
    case :$PATH: in
        *:"$directory":*) ;;
        *) say "$directory is not in PATH; add it: export PATH=\"$directory:\$PATH\"" ;;
    esac
}

# The last line: a script that was cut off does nothing.
main "$@"
