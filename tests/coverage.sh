#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# How much of src/comparator the unit tests run: the lines of each file, and of all; exit 1 when
# that is less than 90 %.
#   tests/coverage.sh [BUILD-DIR]     default: build/coverage
# sandbox.c is not in it: a build that writes coverage data needs files, and has no sandbox. It is
# what test-comparator-sandbox is about.
set -eu
least=90
top=$(cd "$(dirname "$0")/.." && pwd)
build=${1:-$top/build/coverage}
command -v gcovr > /dev/null || { echo "coverage: gcovr is missing: apt-get install gcovr" >&2; exit 1; }
mkdir -p "$build"
build=$(cd "$build" && pwd)
# The helpers of the tests run as "nobody", and several programs write the data of one object.
data=$(mktemp -d "${TMPDIR:-/tmp}/colo-coverage.XXXXXX")
trap 'rm -rf "$data"' EXIT
chmod 777 "$data"
umask 0

[ -x "$top/configure" ] || "$top/autogen.sh" > "$build/autogen.log" 2>&1
cd "$build"
[ -f config.status ] ||
    "$top/configure" --enable-coverage --disable-shared CFLAGS='-O0 -g' > configure.out 2>&1 ||
    { tail -20 configure.out >&2; exit 1; }
find . -name '*.gcda' -delete
make -j"$(nproc)" > make.out 2>&1 || { grep -E 'error|\*\*\*' make.out >&2; exit 1; }
# The programs, not what they share.
programs=$(sed -nE 's/^(tests\/unit\/test-(compar|checkpoint|frame|nbd|packet|policy|rewrite|segment|session|skew)[a-z0-9-]*)\$\(EXEEXT\):.*/\1/p' Makefile)
GCOV_PREFIX=$data make -j"$(nproc)" check TESTS="$(echo $programs)" > check.out 2>&1 ||
    { grep -A5 '^not ok\|^FAIL\|^ERROR' check.out >&2; exit 1; }
cp -r "$data$build/." .
gcovr --root "$top" --filter "$top/src/comparator/" --exclude '.*/sandbox\.c' --fail-under-line $least .
