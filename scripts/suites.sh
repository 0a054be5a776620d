#!/usr/bin/env bash
# The suites of `make check` and `make test`, one after the other, with a table of seconds and the counts at the end.
set -euo pipefail
cd "$(dirname "$0")/.."

what=$1
target=${CARGO_TARGET_DIR:-target}
log=$target/suites.log
table=()
mkdir -p "$target"
: >"$log"

suite() { # name, command…
    local name=$1 begin=$SECONDS
    shift
    printf '\n== %s\n' "$name"
    table+=("$(printf '%6s    %s' - "$name")")
    "$@"
    table[-1]=$(printf '%6d s  %s' $((SECONDS - begin)) "$name")
}

at_the_end() {
    printf '\nThe suites, and of the test programs those that took a second or more:\n\n'
    printf '%s\n' "${table[@]}"
    xtask seconds "$log" || true
}

tests() { # cargo's arguments; every program runs, also after one has failed
    cargo test --locked --workspace --no-fail-fast "$@" 2>&1 | tee -a "$log"
}

# One choice of packages for everything: another one has other features, and builds their dependencies a second time.
xtask() {
    cargo build --quiet --locked --workspace --bin strongroom-xtask
    "$target/debug/strongroom-xtask" "$@"
}

repository() {
    local chore
    for chore in arrows controls pages repository; do
        xtask "$chore"
    done
}

# Rules that are broken on purpose are never part of the programs that the other suites run.
planted_faults() {
    tests --features strongroom-sim/planted-faults --test planted_faults
}

trap at_the_end EXIT
suite format cargo fmt --all --check
suite repository repository
suite lints cargo clippy --locked --workspace --all-targets -- -D warnings
suite documentation env RUSTDOCFLAGS='-D warnings' cargo doc --quiet --locked --workspace --no-deps --document-private-items
if [ "$what" = check ]; then
    suite 'unit tests' tests --lib --bins
else
    # The end-to-end suites run the programs that this leaves beside them.
    suite build cargo build --quiet --locked --workspace --all-targets
    suite tests tests
    suite 'planted faults' planted_faults
    suite vectors make --no-print-directory vectors
    suite packaging scripts/test-packaging.sh "$target/debug"
    suite demo make --no-print-directory demo-debug
fi
