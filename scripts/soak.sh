#!/usr/bin/env bash
# The long forms of the suites. What a machine lacks is skipped, with a word.
set -euo pipefail
cd "$(dirname "$0")/.."

target=$(realpath -m "${CARGO_TARGET_DIR:-target}")
skipped=()
heading() { printf '\n== %s\n' "$1"; }

heading 'crashes, seeds and every other suite, long'
cargo build --quiet --locked --workspace --all-targets
STORE_CRASH_ROUNDS=1000 KILLS=1000 SEEDS=10000 CROWD_SECS=600 cargo test --locked --workspace

heading 'an upgrade from the commit before'
scripts/upgrade.sh

heading 'fuzzing, 60 s a target'
if cargo +nightly fuzz --version >/dev/null 2>&1; then
    for path in fuzz/fuzz_targets/*.rs; do
        name=$(basename "$path" .rs)
        # New inputs go beside the build, not into the repository.
        mkdir -p "$target/corpus/$name"
        cargo +nightly fuzz run --target-dir "$target/fuzz" "$name" "$target/corpus/$name" "fuzz/corpus/$name" -- \
            -max_total_time="${FUZZ_SECS:-60}" -rss_limit_mb=4096 -timeout=25
    done
else
    skipped+=('fuzzing: needs a nightly and cargo-fuzz (rustup toolchain install nightly; cargo install --locked cargo-fuzz)')
fi

heading 'two builds of a release, compared'
scripts/reproduce.sh

heading 'dependencies: bans, licences, sources'
if cargo deny --version >/dev/null 2>&1; then
    cargo deny --locked check bans licenses sources
else
    skipped+=('dependencies: needs cargo-deny (cargo install --locked cargo-deny)')
fi

heading 'mutations of crypto'
if cargo mutants --version >/dev/null 2>&1; then
    cargo mutants --package strongroom-crypto --output "$target"
else
    skipped+=('mutations: needs cargo-mutants (cargo install --locked cargo-mutants)')
fi

heading 'done'
if [ ${#skipped[@]} -gt 0 ]; then
    printf 'skipped: %s\n' "${skipped[@]}"
fi
