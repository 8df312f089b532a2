# SPDX-License-Identifier: LGPL-2.1-or-later
# shellcheck shell=bash
# prepare.sh fails closed: sourced by run.sh, uses its work folder.

# refused WHAT PATTERN COMMAND...: it fails, and says so.
refused() {
    local what=$1 pattern=$2 out
    shift 2
    if out=$("$@" 2>&1); then
        out="not refused: $out"
    elif grep -q "$pattern" <<< "$out" && grep -q 'remedy:' <<< "$out"; then
        out=
    fi
    check "refused: $what" test -z "$out" || echo "$out" | sed 's/^/# /'
}

copy=$work/refuse
mkdir -p "$copy"
cp -r "$top/src/kvm/prepare.sh" "$top/src/kvm/patches" "$copy/"
refused "a kernel without patches" "no patches for kernel" "$copy/prepare.sh" 6.99.0-1-amd64 "$copy/tree"
refused "a kernel without headers" "not of the version" "$copy/prepare.sh" 6.1.0-1-amd64 "$copy/tree"
echo "incomplete for a test" >> "$copy/patches/$series/source"
refused "patches that are not complete" "are not complete" "$copy/prepare.sh" "$release" "$copy/tree"
sed -i -e '$d' -e 's/^version .*/version 6.1.1-1/' "$copy/patches/$series/source"
refused "patches for another version" "not of the version" "$copy/prepare.sh" "$release" "$copy/tree"
cp "$top/src/kvm/patches/$series/source" "$copy/patches/$series/source"
sed -i 's/^sha256 ./sha256 z/' "$copy/patches/$series/source"
refused "a source that is not as it was" "is not the source" "$copy/prepare.sh" "$release" "$copy/tree"
cp "$top/src/kvm/patches/$series/source" "$copy/patches/$series/source"
# One line of context that is not there: patch would take it with fuzz.
first=$(head -1 "$copy/patches/$series/series")
sed -i '0,/^ obj-\|^ kvm-y/s/^ \(kvm-y.*\)/ \1 # other/' "$copy/patches/$series/$first"
refused "a patch whose context differs" "does not apply" "$copy/prepare.sh" "$release" "$copy/tree"
