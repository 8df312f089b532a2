#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# What is written about the programs is what they do: manual pages against the command table and
# the example configuration, translations against the messages.
set -u
top=${abs_top_builddir:-.}
src=${abs_top_srcdir:-.}
cli=${COLO_CLI:-$top/tools/virsh-colo}
setup=${COLO_SETUP:-$top/tools/virtcolod-setup}
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
export LC_ALL=C.UTF-8 LANGUAGE=''
. "$src/tests/tap.sh"
evidence() { cat "$dir/out"; }

# quiet NAME: passes when nothing has been written to $dir/out.
quiet() {
    [ ! -s "$dir/out" ]
    result "$1" $?
    rm -f "$dir/out"
}

# text PAGE: as a reader sees it, unformatted.
text() { MANWIDTH=100 man --warnings=w -E UTF-8 -l "$src/docs/$1" 2>"$dir/warnings" | col -bx; }

for page in virsh-colo.1 virtcolod.8 colo-comparator.8 virtcolod-setup.8 virtcolod.conf.5; do
    if ! command -v man >/dev/null || ! command -v groff >/dev/null; then
        skip "$page is sound roff" 'needs man and groff'
        continue
    fi
    text "$page" >"$dir/$page"
    cp "$dir/warnings" "$dir/out"
    [ -s "$dir/$page" ] && [ ! -s "$dir/warnings" ]
    result "$page is sound roff" $?
    rm -f "$dir/out"
done

# Against the sources, where "-" is written "\-".
sed 's/\\-/-/g; s/\\fR//g; s/\\fP//g' "$src/docs/virsh-colo.1" >"$dir/virsh-colo.src"
for command in $("$cli" help | awk '$1 ~ /^colo-/ { print $1 }'); do
    for word in "$command" $("$cli" help "$command" | grep -oE -- '--[a-z-]+' | sort -u); do
        # Positional arguments stand there without dashes.
        grep -qF -- "$word" "$dir/virsh-colo.src" ||
            { [ "$word" != "$command" ] && grep -qwF -- "${word#--}" "$dir/virsh-colo.src"; } ||
            echo "$command: $word is not described" >>"$dir/out"
    done
    quiet "virsh-colo(1) describes $command and its options"
done
grep -oE '"[a-z-]+", "(string|uint|bool|object|array)"' "$src/src/rpc/command-table.c" |
    cut -d'"' -f2 | sort -u | while read -r field; do
    grep -qwF -- "$field" "$dir/virsh-colo.src" || echo "$field is not described"
done >"$dir/out"
quiet 'virsh-colo(1) names the members of results'

sed 's/\\-/-/g' "$src/docs/virtcolod.conf.5" >"$dir/conf.src"
keys=$(sed -n 's/^#\([a-z_]*\) = .*/\1/p' "$src/src/pair/virtcolod.conf")
[ -n "$keys" ] || echo 'the example has no keys' >"$dir/out"
for key in $keys; do
    grep -qw -- "$key" "$dir/conf.src" || echo "$key is not described" >>"$dir/out"
done
quiet 'virtcolod.conf(5) describes every key of the example'

sed 's/\\-/-/g' "$src/docs/virtcolod-setup.8" >"$dir/setup.src"
for option in $("$setup" --help | grep -oE -- '--[a-z-]+' | sort -u); do
    grep -qF -- "$option" "$dir/setup.src" || echo "$option is not described" >>"$dir/out"
done
quiet 'virtcolod-setup(8) describes every option'

if command -v xgettext >/dev/null && command -v msgcmp >/dev/null; then
    grep -v '^#' "$src/po/POTFILES.in" >"$dir/files"
    (cd "$src" && xgettext --keyword=_ --keyword=N_ --from-code=UTF-8 -f "$dir/files" \
        -o "$dir/pot")
    for catalogue in "$src"/po/*.po; do
        { msgfmt -c -o /dev/null "$catalogue" && msgcmp "$catalogue" "$dir/pot"; } >"$dir/out" 2>&1
        result "$(basename "$catalogue") translates every message" $?
        rm -f "$dir/out"
    done
    (cd "$src" && grep -lE '[^N]_\("' tools/*.c src/client/*.c src/rpc/*.c) | sort >"$dir/users"
    sort "$dir/files" | comm -23 "$dir/users" - >"$dir/out"
    quiet 'every source with messages is in POTFILES.in'
else
    skip 'translations are complete' 'needs gettext'
fi

finish
