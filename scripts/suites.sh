#!/usr/bin/env bash
# Runs the suites of `make check` and `make test` one after the other, and ends with a table of seconds.
set -euo pipefail
cd "$(dirname "$0")/.."

table=()
suite() { # name, command…
    local name=$1 begin=$SECONDS
    shift
    printf '\n== %s\n' "$name"
    "$@"
    table+=("$(printf '%6d s  %s' $((SECONDS - begin)) "$name")")
}

repository() {
    for chore in arrows controls errors repository; do
        cargo run --quiet --locked -p strongroom-xtask -- "$chore"
    done
}

# Two tests race under load (`bodies_flow_both_ways_no_further_than_their_credit`, jail's `launch`); a failure must repeat to count.
tests() {
    cargo test --locked --workspace --no-fail-fast || cargo test --locked --workspace --no-fail-fast
}

suite format cargo fmt --all --check
suite lints cargo clippy --locked --workspace --all-targets -- -D warnings
suite documentation env RUSTDOCFLAGS='-D warnings' cargo doc --locked --workspace --no-deps --document-private-items
suite repository repository
if [ "$1" = check ]; then
    suite unit cargo test --locked --workspace --lib --bins
else
    suite build cargo build --locked --workspace --all-targets
    suite tests tests
    suite vectors make vectors
    suite demo make demo-debug
fi

printf '\n%s\n' "${table[@]}"
