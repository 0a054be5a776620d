#!/usr/bin/env bash
# Builds the programs that ship into FOLDER (target/dist/build), so that the same sources, compilers and linker give the same bytes
# in every folder and at any time. Prints where they are.
set -euo pipefail
cd "$(dirname "$0")/.."

here=$(pwd -P)
target=$(realpath -m "${1:-${CARGO_TARGET_DIR:-target}/dist/build}")
cargo_home=$(realpath -m "${CARGO_HOME:-$HOME/.cargo}")

# The network, and whatever this shell says of it, is needed up to here and not below.
cargo fetch --quiet --locked

# Of several that fit, compilers take the last one.
maps=("$here=/strongroom" "$target=/target" "$cargo_home=/cargo")
for registry in "$cargo_home"/registry/src/*/; do
    maps+=("${registry%/}=/crates")
done
# What is inlined from the standard library has this name already, unless its sources are installed.
rustc_commit=$(rustc -vV | sed -n 's/^commit-hash: //p')
rust_maps=("${maps[@]}" "$(rustc --print sysroot)/lib/rustlib/src/rust=/rustc/$rustc_commit")
rustflags=$(printf -- '--remap-path-prefix=%s\x1f' "${rust_maps[@]}")

# Of this shell's variables these and no others: CFLAGS or a wrapper would be another build. The time is one for all builds, since it
# goes into the programs (OpenSSL): a commit that changes no source changes no program, whatever was built in this folder before.
exec 3>&1 1>&2
env -i \
    HOME="$HOME" CARGO_HOME="$cargo_home" ${RUSTUP_HOME:+RUSTUP_HOME="$RUSTUP_HOME"} \
    ${RUSTUP_TOOLCHAIN:+RUSTUP_TOOLCHAIN="$RUSTUP_TOOLCHAIN"} \
    PATH="$here/scripts/reproducible:$PATH" LC_ALL=C.UTF-8 TZ=UTC SOURCE_DATE_EPOCH=1 \
    STRONGROOM_CC="$(command -v cc)" STRONGROOM_CC_MAPS="$(printf -- '-ffile-prefix-map=%s\n' "${maps[@]}")" \
    CARGO_ENCODED_RUSTFLAGS="${rustflags%$'\x1f'}" CARGO_TARGET_DIR="$target" CARGO_INCREMENTAL=0 \
    cargo build --release --locked --offline -p strongroom-cli -p strongroom-vault -p strongroom-tpm
echo "$target/release" >&3
