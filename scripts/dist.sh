#!/usr/bin/env bash
# Builds and packs a release into target/dist: the programs as scripts/build-release.sh builds them, packed by scripts/pack.sh.
set -euo pipefail
cd "$(dirname "$0")/.."

if [ -n "$(git status --porcelain)" ]; then
    echo "dist: there are changes that are not committed; nobody could build the same again" >&2
    exit 1
fi
dist=$(realpath -m "${CARGO_TARGET_DIR:-target}/dist")
scripts/pack.sh "$(scripts/build-release.sh)" "$dist"
echo "In $dist:"
cat "$dist/SHA256SUMS"
