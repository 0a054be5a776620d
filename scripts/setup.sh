#!/usr/bin/env bash
# Installs the Debian packages that the build and the tests need, and says which. Does nothing where they are there.
set -euo pipefail

declare -A needs=([cc]=gcc [make]=make [perl]=perl [pkg-config]=pkg-config [python3]=python3)
missing=()
for program in "${!needs[@]}"; do
    command -v "$program" >/dev/null || missing+=("${needs[$program]}")
done
python3 -c 'import ensurepip' 2>/dev/null || missing+=(python3-venv)
if [ ${#missing[@]} -eq 0 ]; then
    exit 0
fi
echo "setup: installing ${missing[*]}"
command -v apt-get >/dev/null || { echo "setup: no apt-get here; install these yourself" >&2; exit 1; }
as_root=()
if [ "$(id -u)" -ne 0 ]; then
    as_root=(sudo)
fi
"${as_root[@]}" apt-get update -qq
DEBIAN_FRONTEND=noninteractive "${as_root[@]}" apt-get install -y -qq --no-install-recommends "${missing[@]}"
