#!/usr/bin/env bash
# Builds the programs that ship twice, from two clones in different folders and with different folders of cargo's, packs them, and
# compares byte by byte. Takes as long as two builds from nothing.
set -euo pipefail
cd "$(dirname "$0")/.."

work=$(mktemp -d "${TMPDIR:-/tmp}/strongroom-reproduce.XXXXXX")
trap 'echo "reproduce: what was built is left in $work" >&2' ERR
cargo_home=$(realpath -m "${CARGO_HOME:-$HOME/.cargo}")
# Another name for the same crates: it would be seen in the programs.
mkdir "$work/cargo"
for path in "$cargo_home"/{registry,git,config.toml,config,credentials.toml}; do
    [ ! -e "$path" ] || ln -s "$path" "$work/cargo/"
done
git clone --quiet . "$work/one"
git clone --quiet . "$work/elsewhere/two"

build() { # clone, folder of cargo's, umask; prints where the programs are
    (
        umask "$3"
        unset CARGO_TARGET_DIR SIGNING_KEY
        export CARGO_HOME=$2
        programs=$("$1/scripts/build-release.sh")
        "$1/scripts/pack.sh" "$programs" "$1/packed"
        echo "$programs"
    )
}

one=$(build "$work/one" "$cargo_home" 022)
two=$(build "$work/elsewhere/two" "$work/cargo" 077)
sha256sum "$one"/strongroom{,-vault} "$two"/strongroom{,-vault}
for program in strongroom strongroom-vault; do
    cmp "$one/$program" "$two/$program"
    for place in "$work" "$cargo_home"; do
        # Equal bytes with a folder in them would be chance.
        if grep -qaF "$place" "$one/$program"; then
            echo "reproduce: $program names the folder $place" >&2
            false
        fi
    done
done
cat "$work/one/packed/SHA256SUMS"
cmp "$work/one/packed/SHA256SUMS" "$work/elsewhere/two/packed/SHA256SUMS"
rm -rf "$work"
echo "two builds in different folders: the same bytes, programs and packages"
