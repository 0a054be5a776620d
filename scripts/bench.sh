#!/usr/bin/env bash
# Builds what ships and the bench, and runs it: figures, each beside its floor or peer, also in target/bench/summary.json.
set -euo pipefail
cd "$(dirname "$0")/.."

target=$(realpath -m "${CARGO_TARGET_DIR:-target}")
if [ "${PEERS:-0}" = 1 ]; then
    # It links the system's OpenSSL; its build wants the headers.
    if ! pkg-config --exists openssl; then
        echo "bench: PEERS=1 needs OpenSSL's headers: apt-get install libssl-dev pkg-config" >&2
        exit 1
    fi
    cargo install --quiet --locked --root "$target/bench/peers" --target-dir "$target/bench/peers/build" \
        rusty_vault --version 0.2.1
    export RUSTY_VAULT=$target/bench/peers/bin/rvault
fi
# In one go, so that what they have in common is built once.
cargo build --release --locked -p strongroom-cli -p strongroom-vault -p strongroom-bench
exec "$target/release/strongroom-bench"
