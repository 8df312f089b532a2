#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# Installs packages, builds, runs every test; needs root and Debian 12, nothing else.
#   tests/check.sh [--long] [SUITE...]      suites: unit model fuzz steps hardware lab mainjob driver clients hostile demo
# Each suite prints TAP and its time. The last line is "N passed, N failed, N skipped"; exit 1 when
# one failed, or was skipped that should run here.
set -u
top=$(cd "$(dirname "$0")/.." && pwd)
logs=$top/build/check/logs
long=
passed=0 failed=0 skipped=0 child=

say() {
    printf '\n== %s\n' "$*"
}

# Counts the TAP lines of $1; a suite that failed ($2) without saying which test counts as one.
count() {
    local ok nok skip
    skip=$(grep -cE '^ok .*# SKIP' "$1")
    ok=$(($(grep -cE '^ok ' "$1") - skip))
    nok=$(grep -cE '^not ok ' "$1")
    [ "$2" = 0 ] || [ "$nok" -gt 0 ] || {
        echo "not ok - suite ended with exit code $2"
        nok=1
    }
    [ $((ok + nok + skip)) -gt 0 ] || {
        echo "not ok - suite ran no test"
        nok=1
    }
    # What this machine cannot have is no failure; any other skip hides a test that should run.
    local hidden
    hidden=$(grep -E '^ok .*# SKIP' "$1" | grep -cv 'hardware:')
    if [ "$hidden" -gt 0 ] && [ "${CI:-}" = true ]; then
        echo "not ok - $hidden tests were skipped that should run here"
        nok=$((nok + 1)) skip=$((skip - hidden))
    fi
    passed=$((passed + ok)) failed=$((failed + nok)) skipped=$((skipped + skip))
}

# suite NAME MINUTES PROGRAM...: runs it; whatever it started has ended after it. MINUTES end one that
# hangs: several times what it needs, for a busy machine that is slow is no failure.
suite() {
    local name=$1 minutes=$2 start=$SECONDS rc
    shift 2
    [ ${#wanted[@]} = 0 ] || [[ " ${wanted[*]} " = *" $name "* ]] || return 0
    [ -n "$long" ] && minutes=$((minutes * 6))
    say "$name"
    timeout --foreground -k 60 "${minutes}m" "$@" > "$logs/$name.log" 2>&1 &
    child=$!
    wait "$child"
    rc=$?
    child=
    # The tests and figures; of what a test said besides, only what follows a failure.
    awk '/^(ok|not ok|Bail out)/ { failing = !/^ok/; print; next }
         failing || /^# (.*passed|BENCH|figure)/' "$logs/$name.log"
    [ $rc = 0 ] || tail -40 "$logs/$name.log"
    count "$logs/$name.log" $rc
    [ $rc != 124 ] || echo "suite $name was ended after $minutes minutes"
    printf -- '-- %s: %d s, exit %d\n' "$name" $((SECONDS - start)) $rc
}

cleanup() {
    local lab
    [ -z "$child" ] || { kill -TERM "$child" && wait "$child"; } 2> /dev/null
    for lab in "$COLO_LAB_DIR"/*/; do
        [ -d "$lab" ] && "$top/tests/lab/lab" --name "$(basename "$lab")" down --purge > /dev/null 2>&1
    done
}

wanted=()
for arg; do
    case $arg in
    --long) long=--long ;;
    -*) echo "usage: tests/check.sh [--long] [unit|model|fuzz|steps|hardware|lab|mainjob|driver|clients|hostile|demo...]" >&2 && exit 2 ;;
    *) wanted+=("$arg") ;;
    esac
done

# Labs of this run are its own: another run, or a person's lab, is not touched.
export COLO_LAB_DIR=${COLO_LAB_DIR:-/var/tmp/libvirt-colo-check.$$}
mkdir -p "$logs" "$COLO_LAB_DIR"
trap cleanup EXIT
trap 'exit 130' INT TERM # the EXIT trap ends what runs

say packages
start=$SECONDS
"$top/tests/packages.sh" > "$logs/packages.log" 2>&1 || { tail -20 "$logs/packages.log"; failed=1; }
echo "-- packages: $((SECONDS - start)) s"
say build
start=$SECONDS
if prefix=$("$top/tests/build.sh" "$top/build/check" | tail -1); then
    export COLO_PREFIX=$prefix
    echo "-- build: $((SECONDS - start)) s"
    suite unit 10 "$top/tests/unit/run.sh" "$top/build/check"
    suite model 6 "$top/tests/model/run.sh" $long
    suite fuzz 10 "$top/tests/fuzz/run.sh" $long
    suite steps 10 "$top/tests/steps/run-steps.sh" "$top/build/check/tests/steps/steps-driver"
    suite hardware 30 "$top/tests/kvm/hardware.sh"
    suite lab 8 "$top/tests/lab/test-lab.sh"
    suite mainjob 40 "$top/tests/mainjob/run.sh" --backend netns $long
    suite driver 15 "$top/tests/mainjob/run.sh" --backend netns --driver
    suite clients 15 "$top/tests/mainjob/run.sh" --backend netns --clients
    suite hostile 20 "$top/tests/mainjob/run.sh" --backend netns --hostile $long
    suite demo 15 "$top/tests/demo-act.sh"
else
    echo "not ok - build"
    failed=$((failed + 1))
fi

echo
echo "$passed passed, $failed failed, $skipped skipped"
[ "$failed" = 0 ]
