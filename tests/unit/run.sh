#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# Runs the unit tests of a build folder (make check) and prints each program's TAP.
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
exit $rc
