#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# Records traces of two Linux stacks and counts the false divergences in them, the compare core's
# and QEMU's.
#   bench-diverge.sh --program BENCH-DIVERGE [--out DIR] [--scale BYTES] [--seed N] [CASE...]
# Needs root.  Traces stay in DIR/diverge; cases as in traces/record.py, all by default.
# Exit code: 0 all was measured, 1 a trace failed, 2 wrong usage, 77 something is missing.
set -u -o pipefail
here=$(cd "$(dirname "$0")" && pwd)
out=$here/../../build/bench program="" record=()
while [ $# -gt 0 ]; do
    case $1 in
    --program | --out | --scale | --seed)
        [ $# -ge 2 ] || { echo "bench-diverge.sh: $1 needs a value" >&2; exit 2; }
        case $1 in
        --program) program=$2 ;;
        --out) out=$2 ;;
        *) record+=("$1" "$2") ;;
        esac
        shift 2
        ;;
    -*) sed -n '5,7s/^# *//p' "$0" >&2; exit 2 ;;
    *) record+=("$1"); shift ;;
    esac
done
[ -x "$program" ] || { echo "bench-diverge.sh: --program: no such program: '$program'" >&2; exit 2; }
rm -rf "$out/diverge"
rc=0
python3 "$here/traces/record.py" --out "$out/diverge" ${record[@]+"${record[@]}"} || rc=$?
[ $rc -le 1 ] || exit $rc
qemu=(--qemu qemu-system-x86_64)
command -v qemu-system-x86_64 > /dev/null || qemu=()
"$program" ${qemu[@]+"${qemu[@]}"} "$out"/diverge/*.pcap || rc=1
exit $rc
