#!/usr/bin/env bash
# Packs the programs in PROGRAMS, which need not be those of a release, and shows of the packages what docs/operating.md says:
# test-packaging.sh PROGRAMS. Takes some seconds. What a machine lacks is skipped, with a word.
set -euo pipefail

programs=$(realpath "${1:?usage: test-packaging.sh PROGRAMS}")
cd "$(dirname "$0")/.."
work=$(mktemp -d "${TMPDIR:-/tmp}/strongroom-packaging.XXXXXX")
server=
# shellcheck disable=SC2329 # called by the trap
cleanup() {
    [ -z "$server" ] || kill "$server" 2>/dev/null || true
    wait
    rm -rf "$work"
}
trap cleanup EXIT
trap 'echo "packaging: line $LINENO does not hold: $BASH_COMMAND" >&2' ERR
fail() { echo "packaging: $*" >&2; exit 1; }
passed=0
shown() { echo "  $*"; passed=$((passed + 1)); }
refused() { if "$@" >/dev/null 2>&1; then fail "not refused: $*"; fi; }

out=$work/out
ssh-keygen -q -t ed25519 -N '' -C 'a key for this test' -f "$work/key"
SIGNING_KEY=$work/key PACK_QUICKLY=1 scripts/pack.sh "$programs" "$out"
tarball=$(echo "$out"/strongroom-*.tar.gz)
deb=$(echo "$out"/strongroom_*.deb)

(umask 077 && PACK_QUICKLY=1 scripts/pack.sh "$programs" "$work/again" 2>"$work/said")
cmp "$out/SHA256SUMS" "$work/again/SHA256SUMS"
grep -q 'Nothing was signed' "$work/said" && [ ! -e "$work/again/SHA256SUMS.sig" ]
shown 'packed twice: the same bytes; without a key nothing is signed, and it says so'

printf 'strongroom-release namespaces="strongroom-release" %s\n' "$(cat "$work/key.pub")" >"$work/signers"
verify() { # namespace; the text on standard input
    ssh-keygen -q -Y verify -f "$work/signers" -I strongroom-release -n "$1" -s "$out/SHA256SUMS.sig"
}
verify strongroom-release <"$out/SHA256SUMS" >/dev/null
(cd "$out" && sha256sum --quiet --check SHA256SUMS)
sed 's/^./g/' "$out/SHA256SUMS" | refused verify strongroom-release
refused verify another-purpose <"$out/SHA256SUMS"
cp -r "$out" "$work/changed"
printf 'x' | dd of="$work/changed/$(basename "$deb")" bs=1 seek=5000 conv=notrunc status=none
(cd "$work/changed" && refused sha256sum --quiet --check SHA256SUMS)
shown 'the signature holds; a changed sum, another purpose and a changed byte are refused'

python3 - "$out/measurements.json" "$programs" <<'PYTHON'
import hashlib, json, pathlib, sys
said = json.load(open(sys.argv[1]))
for name, program in ("vault_program_sha256", "strongroom-vault"), ("host_program_sha256", "strongroom"):
    assert said[name] == hashlib.sha256(pathlib.Path(sys.argv[2], program).read_bytes()).hexdigest(), name
assert said["version"] and len(said["commit"]) == 40
PYTHON
shown 'the measurements are those of the two programs'

listed() { # where; the listing of tar on standard input
    # Mode, owner, size, date, time, name.
    awk -v where="$1" '
        $2 != "root/root" && $2 != "0/0" { print where ": not root'\''s: " $0; wrong = 1 }
        substr($1, 9, 1) == "w" || substr($1, 6, 1) == "w" { print where ": others may write to: " $0; wrong = 1 }
        $1 ~ /[sStT]/ || $1 !~ /^[-d]/ { print where ": neither file nor folder, or with more rights: " $0; wrong = 1 }
        END { exit wrong }' >&2
}
tar --list --verbose --file "$tarball" | listed tarball
dpkg-deb --contents "$deb" >"$work/contents"
listed deb <"$work/contents"
for file in bin/strongroom bin/strongroom-vault lib/systemd/system/strongroom.service lib/systemd/user/strongroom-appliance.service \
    lib/sysusers.d/strongroom.conf share/man/man1/strongroom.1.gz share/man/man1/strongroom-serve.1.gz \
    share/bash-completion/completions/strongroom share/zsh/vendor-completions/_strongroom \
    share/fish/vendor_completions.d/strongroom.fish share/doc/strongroom/copyright share/doc/strongroom/operating.md; do
    grep -q " ./usr/$file\$" "$work/contents" || fail "$file is not in the package"
done
shown 'everything is in, root owns it, nobody else may write to it, and nothing has more rights than its user'

strongroom() { env -i HOME="$work/home" PATH="$PATH" "$prefix/bin/strongroom" "$@"; }
prefix=$work/prefix
mkdir "$work/unpacked"
tar --extract --file "$tarball" --directory "$work/unpacked" --strip-components=1
"$work/unpacked/install.sh" "$prefix" >/dev/null
version=$(python3 -c 'import json, sys; print(json.load(open(sys.argv[1]))["version"])' "$out/measurements.json")
[ "$(strongroom --version)" = "strongroom $version" ]
zgrep -q 'require.-isolation' "$prefix/share/man/man1/strongroom-serve.1.gz"
grep -q "^ExecStart=$prefix/bin/strongroom serve" "$prefix/share/systemd/user/strongroom-appliance.service"
for text in "$prefix"/share/man/man1/* "$prefix"/share/*/completions/*; do
    if zgrep -qF "$work" "$text"; then fail "$text names a folder of this machine"; fi
done
shown 'the tarball unpacks, installs and runs'

serve=(serve --data "$work/data" --shares "$work/shares" --socket "$work/strongroom.sock")
env -i HOME="$work/home" PATH="$PATH" "$prefix/bin/strongroom" "${serve[@]}" >"$work/serve.log" 2>&1 &
server=$!
answers() { strongroom --quiet host status --data "$work/data" >/dev/null 2>&1; }
for _ in $(seq 100); do ! answers || break; sleep 0.1; done
answers || { cat "$work/serve.log" >&2; fail 'the installed server does not answer'; }
before=$(stat -c %i "$prefix/bin/strongroom")
"$work/unpacked/install.sh" "$prefix" >/dev/null
[ "$(stat -c %i "$prefix/bin/strongroom")" != "$before" ]
answers
find "$prefix" -name '*.new' | refused grep .
"$work/unpacked/install.sh" --remove "$prefix" >/dev/null
"$work/unpacked/install.sh" --remove "$prefix" >"$work/said"
grep -q 'Vaults are kept' "$work/said"
find "$prefix" -type f | refused grep .
[ -d "$work/data/vaults" ] && [ -d "$work/shares" ]
kill "$server" && wait "$server"
server=
shown 'installed again under a running server, which goes on; removed twice; its data stay'

if [ "$(id -u)" -eq 0 ]; then
    root=$work/root
    mkdir -p "$root"/var/lib/dpkg/{info,updates}
    touch "$root"/var/lib/dpkg/{status,available}
    # The machine's own packages are none of this root's, and no script runs outside of it.
    package() { dpkg --root="$root" --force-depends --force-script-chrootless --log=/dev/null "$@" >"$work/dpkg.log" 2>&1; }
    package --install "$deb" || { cat "$work/dpkg.log" >&2; fail 'the package does not install'; }
    prefix=$root/usr
    [ "$(strongroom --version)" = "strongroom $version" ]
    mkdir -p "$root"/var/lib/{strongroom/vaults,strongroom-shares}
    echo kept >"$root/var/lib/strongroom/vaults/one"
    package --install "$deb"
    package --remove strongroom
    [ ! -e "$root/usr/bin/strongroom" ] && [ "$(cat "$root/var/lib/strongroom/vaults/one")" = kept ]
    package --install "$deb"
    package --purge strongroom
    grep -q "vaults are kept in $root/var/lib/strongroom" "$work/dpkg.log"
    [ ! -e "$root/usr/bin/strongroom" ] && [ "$(cat "$root/var/lib/strongroom/vaults/one")" = kept ]
    shown 'the package installs, upgrades, and is removed and purged; the vaults stay, and it says where'
else
    echo '  skipped: installing the package takes root'
fi

if command -v systemd-analyze >/dev/null; then
    mkdir "$work/units"
    for unit in packaging/*.service; do
        sed "s|/usr/bin/strongroom|$programs/strongroom|" "$unit" >"$work/units/$(basename "$unit")"
    done
    systemd-analyze verify --man=no "$work"/units/*.service 2>&1 | refused grep .
    # Root with a network and name spaces counts for much, whatever else is taken away. A user's unit is judged as root's as well.
    systemd-analyze security --offline=true --threshold=36 packaging/strongroom.service >/dev/null
    shown 'systemd finds nothing wrong in the units, and little exposed'
else
    echo '  skipped: there is no systemd-analyze to check the units'
fi
echo "packaging: $passed things shown"
