#!/bin/sh
# Compiles the static `provision` of `cargo xtask dist` in a build stage of the Dockerfile, and puts it into /out.
#
#     compile.sh          for the machine that builds
#     compile.sh ARCH     for amd64 or arm64, with a cross compiler: nothing runs under emulation
#
# The image needs cargo and a C compiler. A missing cross compiler comes from Debian, a missing standard library from
# rustup; an image that has both needs neither.
set -eu

host=$(rustc --print host-tuple)
case ${1-} in
    '') target=$host ;;
    amd64) machine=x86_64 target=x86_64-unknown-linux-gnu ;;
    arm64) machine=aarch64 target=aarch64-unknown-linux-gnu ;;
    *) echo "provision is built for amd64 and arm64, not for $1" >&2 && exit 1 ;;
esac
if [ "$target" != "$host" ]; then
    compiler=$machine-linux-gnu-gcc
    if ! command -v "$compiler" > /dev/null; then
        apt-get update -qq
        apt-get install -qq --yes --no-install-recommends \
            "gcc-$(echo "$machine" | tr _ -)-linux-gnu" "libc6-dev-$1-cross" > /dev/null
    fi
    [ -d "$(rustc --print target-libdir --target "$target")" ] || rustup target add "$target"
    variable=$(echo "$target" | tr a-z- A-Z_)
    export "CC_$(echo "$target" | tr - _)=$compiler" "CARGO_TARGET_${variable}_LINKER=$compiler"
fi
# cargo compares times, and the target directory outlives a switch to an older checkout. Dependencies keep their time and
# stay built.
find provision -exec touch {} +
RUSTFLAGS='-C target-feature=+crt-static -C link-arg=-Wl,-z,pack-relative-relocs' \
    cargo build --locked --profile dist --package provision --target "$target"
install -D "target/$target/dist/provision" /out/provision
