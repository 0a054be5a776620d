#!/usr/bin/env bash
# An upgrade from the programs of an earlier commit (the one before this, or the one that is named) to those of this tree, with
# fifty open vaults and clients that go on calling. What was built of the earlier one stays in the target folder for the next time.
set -euo pipefail
cd "$(dirname "$0")/.."

before=$(git rev-parse --verify "${1:-HEAD~1}^{commit}")
target=$(realpath -m "${CARGO_TARGET_DIR:-target}")
tree=$(mktemp -d)
trap 'rm -rf "$tree"' EXIT

git archive "$before" | tar -x -C "$tree"
(
    cd "$tree"
    CARGO_TARGET_DIR=$target/before cargo build --quiet --locked -p strongroom-cli -p strongroom-vault -p strongroom-tpm
)
cargo build --quiet --locked --workspace --all-targets
printf 'from %s\n' "$(git log -1 --format='%h %s' "$before")"
UPGRADE_FROM=$target/before/debug cargo test --quiet --locked --workspace --test upgrade -- --nocapture
