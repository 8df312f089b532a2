#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# Runs the unit tests of a build folder (make check) and prints each program's TAP; and whether the tarball would have
# all that git has.
#   tests/unit/run.sh BUILD-DIR
set -u
build=${1:?usage: tests/unit/run.sh BUILD-DIR}
rc=0
make -C "$build" check -j"$(nproc)" || rc=$?
# Automake keeps each program's TAP in its log.
for f in "$build"/tests/unit/*.log; do
    echo "# $(basename "$f" .log)"
    grep -E '^(ok|not ok|Bail out)' "$f"
done
if out=$(make -s -C "$build" distdir distdir=colo-distdir 2>&1); then
    echo "ok - the tarball has all files"
else
    rc=1
    echo "not ok - the tarball has all files"
    grep -v '^make' <<< "$out" | tail -n 3 | sed 's/^/# /'
fi
chmod -R u+w "$build/colo-distdir" 2> /dev/null
rm -rf "$build/colo-distdir"
exit $rc
