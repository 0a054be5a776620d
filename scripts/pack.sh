#!/usr/bin/env bash
# Packs the programs in PROGRAMS into FOLDER: pack.sh PROGRAMS FOLDER. Makes a tarball, a Debian package, measurements.json, SHA256SUMS
# and, with the key that SIGNING_KEY names, SHA256SUMS.sig. The same programs and commit give the same bytes. PACK_QUICKLY=1 compresses
# less, for a test.
set -euo pipefail

programs=$(realpath "$1")
out=$(realpath -m "$2")
cd "$(dirname "$0")/.."
umask 022

version=$(sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -n 1)
commit=$(git rev-parse HEAD)
SOURCE_DATE_EPOCH=$(git log -1 --format=%ct)
export SOURCE_DATE_EPOCH LC_ALL=C.UTF-8 TZ=UTC
# Problems are reported as SECURITY.md says; Debian wants an address.
maintainer='The authors of Strongroom <authors@strongroom.invalid>'
machine=$(uname -m)
name=strongroom-$version-$machine-linux
deb=strongroom_${version}_$(dpkg --print-architecture).deb
gzip_level=9 deb_level='-Zxz -z6'
if [ "${PACK_QUICKLY:-0}" = 1 ]; then
    gzip_level=1 deb_level='-Zgzip -z1'
fi
mkdir -p "$out"
rm -f "$out"/{strongroom-*.tar.gz,strongroom_*.deb,measurements.json,SHA256SUMS,SHA256SUMS.sig}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

hash_of() { sha256sum "$1" | cut -d ' ' -f 1; }

tarball() {
    scripts/stage.sh "$programs" "$work/$name"
    tar --create --directory "$work" --sort=name --mtime="@$SOURCE_DATE_EPOCH" --owner=0 --group=0 --numeric-owner \
        --format=posix --pax-option=exthdr.name=%d/PaxHeaders/%f,delete=atime,delete=ctime "$name" | gzip "-${gzip_level}n" >"$out/$name.tar.gz"
}

# The newest of the C library's versions that a program asks for.
libc_version() {
    objdump -T "$programs"/strongroom{,-vault,-tpm} | grep -o 'GLIBC_[0-9.]*' | sort -uV | tail -n 1 | cut -d _ -f 2
}

# The packages of the TPM's libraries, which nobody needs who seals in files.
tpm_packages() {
    local library
    objdump -p "$programs/strongroom-tpm" | awk '$1 == "NEEDED" && $2 ~ /^libtss2/ { print $2 }' | while read -r library; do
        dpkg-query --search "*/$library" | head -n 1 | cut -d : -f 1
    done | sort -u | paste -sd , | sed 's/,/, /g'
}

debian() {
    local tree=$work/debian
    mkdir "$tree"
    cp -r "$work/$name" "$tree/usr"
    rm "$tree/usr/install.sh"
    # Where Debian's own packages have them.
    mkdir -p "$tree/usr/lib/systemd/user" "$tree/usr/share/zsh/vendor-completions"
    mv "$tree"/usr/share/systemd/user/* "$tree/usr/lib/systemd/user"
    mv "$tree"/usr/share/zsh/site-functions/* "$tree/usr/share/zsh/vendor-completions"
    rmdir -p --ignore-fail-on-non-empty "$tree/usr/share/systemd/user" "$tree/usr/share/zsh/site-functions"
    gzip -9n >"$tree/usr/share/doc/strongroom/changelog.gz" <<CHANGELOG
strongroom ($version) unstable; urgency=medium

  * What changed stands in CHANGELOG.md, beside this file.

 -- $maintainer  $(date --rfc-email --date="@$SOURCE_DATE_EPOCH")
CHANGELOG
    install -m 644 packaging/debian/copyright "$tree/usr/share/doc/strongroom"
    mkdir "$tree/DEBIAN"
    install -m 755 -t "$tree/DEBIAN" packaging/debian/{postinst,prerm,postrm}
    cat >"$tree/DEBIAN/control" <<CONTROL
Package: strongroom
Version: $version
Architecture: $(dpkg --print-architecture)
Maintainer: $maintainer
Section: admin
Priority: optional
Installed-Size: $(find "$tree/usr" -type f -printf '%s\n' | awk '{ sum += int(($1 + 1023) / 1024) } END { print sum }')
Depends: libc6 (>= $(libc_version)), libgcc-s1, adduser
Suggests: $(tpm_packages), libtss2-tcti-device0
Description: personal vault that uses secrets without showing them
 Passwords, API keys and signing keys lie in a vault process of their own, with
 an encrypted database. Agents and other programs ask it to call an API, sign
 or make a code; they get the result and never the secret.
CONTROL
    (cd "$tree" && find usr -type f -print0 | sort -z | xargs -0 md5sum >DEBIAN/md5sums)
    find "$tree" -exec touch --no-dereference --date="@$SOURCE_DATE_EPOCH" {} +
    # shellcheck disable=SC2086 # two words
    dpkg-deb --root-owner-group $deb_level --threads-max=1 --build "$tree" "$out/$deb" >/dev/null
}

# What an attestation policy names: the two programs, byte for byte. What they were built with is for whoever builds them again.
measurements() {
    cat >"$out/measurements.json" <<JSON
{
  "version": "$version",
  "commit": "$commit",
  "vault_program_sha256": "$(hash_of "$programs/strongroom-vault")",
  "host_program_sha256": "$(hash_of "$programs/strongroom")",
  "built_with": {
    "rustc": "$(rustc --version)",
    "cc": "$(cc --version | head -n 1)"
  }
}
JSON
}

sums() {
    (cd "$out" && sha256sum "$name.tar.gz" "$deb" measurements.json >SHA256SUMS)
    if [ -n "${SIGNING_KEY:-}" ]; then
        ssh-keygen -q -Y sign -f "$SIGNING_KEY" -n strongroom-release "$out/SHA256SUMS"
    else
        echo "Nothing was signed: SIGNING_KEY does not name a key. Whoever gets these files cannot tell whose they are." >&2
    fi
}

tarball
debian
measurements
sums
