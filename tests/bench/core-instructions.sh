#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# Instructions that the compare core executes for a pair of frames, counted by callgrind: the same on
# every run, whatever else the machine does. Usage: core-instructions.sh BENCH-CORE [CASE...]
# Prints rows of README.md; the callgrind files of each case stay in DIR (default: none kept).
set -eu

bench=$1
shift
[ $# -gt 0 ] || set -- 1460B-1-flow 64B-1-flow 64B-10000-flows 1B-1-flow
command -v valgrind > /dev/null || { echo "core-instructions: no valgrind" >&2; exit 77; }
work=${DIR:-$(mktemp -d)}
[ -n "${DIR:-}" ] || trap 'rm -rf "$work"' EXIT
for name in "$@"; do
    log=$work/$name.log
    pairs=$(valgrind --tool=callgrind --toggle-collect=round_ours \
        --callgrind-out-file="$work/callgrind.$name" "$bench" --case "$name" --rounds 2 2> "$log")
    awk -v name="$name" -v pairs="$pairs" '/Collected/ {
        printf "BENCH\tcore\t%s-instructions\t%.0f\t-\t-\tinstructions/pair\tn=1\tmin=%.0f\tmax=%.0f\n",
            name, $4 / pairs, $4 / pairs, $4 / pairs }' "$log"
done
