#!/bin/sh
# Installs what lies beside this file under PREFIX (/usr/local), or takes it away again: install.sh [--remove] [PREFIX].
# Each file is put in place by a rename, so that a program that runs is never written to. Vaults are never touched.
set -eu

here=$(cd "$(dirname "$0")" && pwd)
remove=
if [ "${1:-}" = --remove ]; then
    remove=yes
    shift
fi
prefix=${1:-/usr/local}
case $prefix in
    /*) ;;
    *) prefix=$PWD/$prefix ;;
esac

where_data_lie() {
    echo "Vaults are kept: those of a user in ~/.local/share/strongroom, those of a machine in /var/lib/strongroom;"
    echo "what they need to open in ~/.local/state/strongroom-shares or /var/lib/strongroom-shares."
}

if [ -n "$remove" ]; then
    rm -f "$prefix/bin/strongroom" "$prefix/bin/strongroom-vault" "$prefix/bin/strongroom-tpm"
    rm -f "$prefix/share/man/man1/strongroom.1.gz" "$prefix"/share/man/man1/strongroom-*.1.gz
    rm -f "$prefix/share/bash-completion/completions/strongroom" "$prefix/share/zsh/site-functions/_strongroom" \
        "$prefix/share/fish/vendor_completions.d/strongroom.fish"
    rm -f "$prefix/share/systemd/user/strongroom-appliance.service" "$prefix/lib/systemd/system/strongroom.service" \
        "$prefix/lib/sysusers.d/strongroom.conf"
    rm -rf "$prefix/share/doc/strongroom"
    echo "Removed from $prefix."
    where_data_lie
    exit
fi

cd "$here"
case $prefix in
    # Only there does systemd look for what is a whole machine's.
    /usr | /usr/local) parts='bin lib share' ;;
    *) parts='bin share' ;;
esac
# shellcheck disable=SC2086 # words, one each
find $parts -type f | while IFS= read -r file; do
    mode=644
    [ ! -x "$file" ] || mode=755
    new=$prefix/$file.new
    mkdir -p "$(dirname "$new")"
    rm -f "$new"
    case $file in
        *.service)
            sed "s|/usr/bin/strongroom|$prefix/bin/strongroom|g" "$file" >"$new"
            chmod "$mode" "$new"
            ;;
        *) install -m "$mode" "$file" "$new" ;;
    esac
    mv -f "$new" "$prefix/$file"
done
echo "Installed under $prefix. A server that runs goes on as it was until it is started again."
