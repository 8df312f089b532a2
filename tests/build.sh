#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# Builds this tree out of tree and installs it into a folder of its own; touches nothing else.
#   tests/build.sh [BUILD-DIR]     default: build/check; its install tree is BUILD-DIR/inst
# Prints the install tree's path as the last line.
set -eu
top=$(cd "$(dirname "$0")/.." && pwd)
build=${1:-$top/build/check}
mkdir -p "$build"
build=$(cd "$build" && pwd)
if [ ! -x "$top/configure" ] || [ "$top/configure.ac" -nt "$top/configure" ]; then
    "$top/autogen.sh" > "$build/autogen.log" 2>&1 || { tail -20 "$build/autogen.log" >&2; exit 1; }
fi
cd "$build"
if [ ! -f config.status ] || [ "$top/configure" -nt config.status ]; then
    # The daemons read /etc and /run of the host they run on; only their files go to inst.
    "$top/configure" --enable-werror --prefix="$build/inst" --sysconfdir=/etc --localstatedir=/var \
        > configure.out 2>&1 || { tail -20 configure.out >&2; exit 1; }
fi
make -j"$(nproc)" > make.out 2>&1 || { grep -E 'error|warning|\*\*\*' make.out >&2; exit 1; }
# The prefix holds all but /etc, which DESTDIR keeps from this machine.
rm -rf "$build/inst" "$build/dest"
make install DESTDIR="$build/dest" > install.out 2>&1 || { tail -20 install.out >&2; exit 1; }
mv "$build/dest$build/inst" "$build/inst"
echo "$build/inst"
