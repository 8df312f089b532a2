#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# The acceptance tests of the main job, as one TAP stream, on one lab that is kept up from test to
# test and taken down at the end.
#   run.sh [--backend auto|netns|kvm] [--prefix DIR] [--driver|--clients|--hostile] [--long] [--list] [TEST...]
# TEST is a script of this folder, with or without .sh; without any, all of them.
set -u
cd "$(dirname "$(readlink -f "$0")")" || exit 1

# Cheap ones first; those that end in another lab than they found last.
TESTS="i5-virtcolod-killed i5-virtcolod-stopped i5-libvirtd-restarted i6-no-plaintext
bad-input-ports bad-input-commands checkpoint-mode failover-refused unprotect-live bad-input-protect bad-input-vhost bad-input-peer
bad-input-peer-version bad-input-peer-qemu bad-input-peer-room
i2-disk-copy-lost i5-comparator-killed i5-comparator-killed-no-witness
guest-ends i3-pair-cut-both-reach i3-pair-cut-one-reaches i3-pair-cut-none-reaches
i3-rebooted-host merge-interrupted i1-primary-killed i1-new-connections guest-time i5-comparator-killed-manual several-disks-nics nic-of-network"
# colo:///system and the lock manager: with --driver, and only these.
DRIVER_TESTS="stock-virsh stock-python driver-protected driver-lifecycle reset-reboot lock-plugin"
# Large clients of libvirt at colo:///system: with --clients, and only these.
CLIENT_TESTS="stock-clients driver-remote stock-nova stock-virt-manager"
# Those who may not, and those who do it wrong: with --hostile, and only these.
HOSTILE_TESTS="access-matrix protocol-fuzz"
# Minutes each: only with --long.
LONG_TESTS="i2-primary-hangs i5-killed-while-protecting i1-output-after-commit i4-qmp i4-stalled-peer i4-stops-at-reply i4-held-limit i4-output-hold pool-map soak hvfeat-failover"

usage() {
    sed -n '3,6s/^# *//p' "$0"
    exit "$1"
}

names=()
while [ $# -gt 0 ]; do
    case $1 in
    --backend) export COLO_LAB_BACKEND=${2:-}; shift 2 || usage 2 ;;
    --prefix) export COLO_PREFIX=${2:-}; shift 2 || usage 2 ;;
    --long) export MJ_LONG=1; shift ;;
    --driver) TESTS=$DRIVER_TESTS LONG_TESTS=; shift ;;
    --clients) TESTS=$CLIENT_TESTS LONG_TESTS=; shift ;;
    --hostile) TESTS=$HOSTILE_TESTS LONG_TESTS=; shift ;;
    --list) printf '%s\n' $TESTS; exit 0 ;;
    --help) usage 0 ;;
    -*) usage 2 ;;
    *)
        name=$(basename "$1" .sh)
        [ -x "./$name.sh" ] || { echo "run.sh: no such test: $1" >&2; exit 2; }
        names+=("$name")
        shift
        ;;
    esac
done
[ ${#names[@]} -gt 0 ] || names=($TESTS ${MJ_LONG:+$LONG_TESTS})
[ "$(id -u)" = 0 ] || { echo "1..0 # SKIP the lab needs root"; exit 0; }

export MJ_SHARED=1 COLO_LAB=${COLO_LAB:-mainjob}
current=
cleanup() {
    trap - EXIT
    [ -n "$current" ] && kill "$current" 2> /dev/null && wait "$current" 2> /dev/null
    [ "${MJ_KEEP:-0}" = 1 ] || ../lab/lab down > /dev/null 2>&1
}
trap cleanup EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

count=0 failed=0 skipped=0
# number NAME: renumbers one script's TAP; a script without a plan was ended early: that fails.
number() {
    local name=$1 line planned=0
    while IFS= read -r line; do
        case $line in
        "1..0 # SKIP"*)
            count=$((count + 1)) skipped=$((skipped + 1)) planned=1
            echo "ok $count - $name # SKIP${line#*SKIP}"
            ;;
        1..*) planned=1 ;;
        "ok "* | "not ok "*)
            count=$((count + 1))
            case $line in not*) failed=$((failed + 1)) ;; *"# SKIP"*) skipped=$((skipped + 1)) ;; esac
            echo "${line%%ok *}ok $count - $name: ${line#*ok * - }"
            ;;
        *) printf '%s\n' "$line" ;;
        esac
    done
    [ $planned = 1 ] && return
    count=$((count + 1)) failed=$((failed + 1))
    echo "not ok $count - $name: ended without a plan"
}
all=$SECONDS
for name in "${names[@]}"; do
    begin=$SECONDS
    exec 3< <(exec "./$name.sh" 2>&1 < /dev/null)
    current=$!
    number "$name" <&3
    exec 3<&-
    wait $current
    current=
    echo "# time $name $((SECONDS - begin)) s"
done
echo "1..$count"
echo "# mainjob: $((count - failed - skipped)) passed, $failed failed, $skipped skipped in $((SECONDS - all)) s"
[ $failed = 0 ]
