#!/usr/bin/env bash
# Lays out in FOLDER, which is made anew, what an installation consists of, from the programs in PROGRAMS: stage.sh PROGRAMS FOLDER.
set -euo pipefail

programs=$(realpath "$1")
stage=$(realpath -m "$2")
cd "$(dirname "$0")/.."
umask 022

rm -rf "$stage"
put() { # mode, file, folder, name there
    install -D -m "$1" "$2" "$stage/$3/${4:-$(basename "$2")}"
}
put 755 packaging/install.sh .
put 755 "$programs/strongroom" bin
put 755 "$programs/strongroom-vault" bin
put 755 "$programs/strongroom-tpm" bin
put 644 packaging/strongroom.service lib/systemd/system
put 644 packaging/strongroom-appliance.service share/systemd/user
put 644 packaging/strongroom.sysusers lib/sysusers.d strongroom.conf
for page in README.md CHANGELOG.md SECURITY.md LICENSE-APACHE LICENSE-MIT docs/{operating,isolation,sealing,threat-model}.md; do
    put 644 "$page" share/doc/strongroom
done

# What a program says of itself must not hold what this shell's variables say.
strongroom() { env -i HOME=/nonexistent "$stage/bin/strongroom" "$@"; }
strongroom --quiet man --to "$stage/share/man/man1"
find "$stage/share/man" -name '*.1' -exec gzip -9n {} +
mkdir -p "$stage"/share/{bash-completion/completions,zsh/site-functions,fish/vendor_completions.d}
strongroom completions bash >"$stage/share/bash-completion/completions/strongroom"
strongroom completions zsh >"$stage/share/zsh/site-functions/_strongroom"
strongroom completions fish >"$stage/share/fish/vendor_completions.d/strongroom.fish"
