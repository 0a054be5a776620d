#!/usr/bin/env bash
# Installs what the build and the tests need, and says what. Does nothing where it is there.
set -euo pipefail

missing=()
# A compiler without the C library's headers builds nothing; OpenSSL's build wants more of Perl than Debian's base has.
echo '#include <stdlib.h>' | cc -x c -fsyntax-only - 2>/dev/null || missing+=(gcc libc6-dev)
perl -MFindBin -MFile::Path -MIPC::Cmd -e 1 2>/dev/null || missing+=(perl)
command -v make >/dev/null || missing+=(make)
# Releases are signed with it, and the test of the packages signs one.
command -v ssh-keygen >/dev/null || missing+=(openssh-client)
command -v pkg-config >/dev/null || missing+=(pkg-config)
# The TPM software stack, and a TPM in software for the tests.
pkg-config --exists tss2-esys tss2-tctildr tss2-mu 2>/dev/null || missing+=(libtss2-dev)
command -v swtpm >/dev/null || missing+=(swtpm)
ls /usr/lib/*/libtss2-tcti-swtpm.so.0 >/dev/null 2>&1 || missing+=(libtss2-tcti-swtpm0)
python3 -c 'import ensurepip, venv' 2>/dev/null || missing+=(python3 python3-venv)

if [ ${#missing[@]} -gt 0 ]; then
    echo "setup: installing ${missing[*]} with apt-get"
    as_root=()
    if [ "$(id -u)" -ne 0 ]; then
        as_root=(sudo)
    fi
    if ! command -v apt-get >/dev/null || ! command -v "${as_root[@]:-true}" >/dev/null; then
        echo "setup: this needs apt-get, as root or with sudo; else install these yourself: ${missing[*]}" >&2
        exit 1
    fi
    "${as_root[@]}" apt-get update -qq
    "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}"
fi

if ! cargo --version >/dev/null 2>&1; then
    command -v rustup >/dev/null || { echo "setup: rustup is missing; see https://rustup.rs" >&2; exit 1; }
    echo "setup: installing Rust with rustup"
    rustup toolchain install stable --profile minimal --component clippy --component rustfmt
    rustup default stable
fi
