#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# Builds every fuzzer with clang (libFuzzer, ASan, UBSan) and runs it on its seeds; prints TAP.
#   tests/fuzz/run.sh [--long] [NAME...]     20 s each in the short form, 10 minutes in the long one
# A find is kept beside the corpus and makes the test fail with the command that repeats it.
set -u
top=$(cd "$(dirname "$0")/../.." && pwd)
seconds=20
[ "${1:-}" = --long ] && seconds=600 && shift
work=$(mktemp -d "${TMPDIR:-/tmp}/colo-fuzz.XXXXXX")
keep=0
trap '[ $keep = 1 ] || rm -rf "$work"' EXIT
trap 'exit 130' INT TERM
cd "$top" || exit 1

util="src/util/framing.c src/util/json.c src/util/error.c"
# Sources of each fuzzer: what the file's header names.
declare -A sources=(
    [channel]="src/pair/channel-hello.c src/pair/channel-calls.c $util"
    [checkpoint-stream]="src/comparator/checkpoint-stream.c"
    [compare]="$(sed -n '/^libcolo_compare_la_SOURCES/,/[^\\]$/p' src/comparator/Compare.am | grep -o 'src/comparator/[a-z0-9-]*\.c')"
    [control]="src/comparator/request.c src/comparator/rewrite-rows.c src/util/tuning.c $util"
    [driver]="src/driver/driver.c src/driver/domstats.c src/driver/monitor.c src/driver/policy.c src/driver/policy-table.c
        src/driver/switchover.c tests/unit/driver-host.c src/domain/declaration.c src/domain/xml-util.c src/util/tuning.c
        src/rpc/frame.c src/rpc/message.c src/rpc/command-table.c src/rpc/remote-calls.c $work/rpc/colo-protocol.c
        src/util/json.c src/util/error.c"
    [domxml]="$(sed -n 's|^[[:space:]]*\(src/domain/[a-z-]*\.c\).*|\1|p' src/domain/Xml.am) src/util/tuning.c src/util/json.c src/util/error.c"
    [nbd-replies]="src/comparator/nbd-replies.c"
    [nbd-requests]="src/comparator/nbd-requests.c"
    [packets]="src/comparator/packet-reader.c"
    [record]="src/comparator/record.c"
    [rewrite]="$(ls src/comparator/{rewrite,rewrite-base,rewrite-table,segment,frame,frame-ipv6}.c 2>/dev/null)"
    [rpc]="src/rpc/frame.c src/rpc/message.c src/rpc/command-table.c src/rpc/remote-calls.c $work/rpc/colo-protocol.c src/util/json.c src/util/error.c"
)
flags="-std=gnu11 -D_GNU_SOURCE=1 -g -O1 -fsanitize=fuzzer,address,undefined -fno-sanitize-recover=undefined
    -DPACKAGE_VERSION=\"fuzz\" -Isrc -Iinclude -I$work
    $(pkg-config --cflags glib-2.0 json-c libxml-2.0 libvirt gnutls libtirpc)"
libs=$(pkg-config --libs glib-2.0 json-c libxml-2.0 gnutls libtirpc)

seeds() {
    local corpus=$work/corpus-$1
    mkdir -p "$corpus"
    case $1 in
    compare | driver | nbd-replies | nbd-requests | rewrite) python3 "tests/fuzz/fuzz-$1-seeds.py" "$corpus" ;;
    domxml) cp tests/unit/data/xml/*.xml "$corpus" ;;
    *) [ -d "tests/fuzz/seeds/$1" ] && cp "tests/fuzz/seeds/$1"/* "$corpus" ;;
    esac
}

# one NAME: its TAP line, without a number, into NAME.tap.
one() {
    local name=$1 out=$work/$1.log line
    if ! clang $flags "tests/fuzz/fuzz-$name.c" ${sources[$name]} $libs -o "$work/fuzz-$name" > "$out" 2>&1; then
        { echo "not ok - fuzz $name: does not build"; sed 's/^/# /' "$out" | head -20; } > "$work/$name.tap"
        return
    fi
    seeds "$name" >> "$out" 2>&1
    if "$work/fuzz-$name" -max_total_time=$seconds -timeout=10 -rss_limit_mb=2048 -print_final_stats=1 \
        -artifact_prefix="$work/find-$name-" "$work/corpus-$name" >> "$out" 2>&1; then
        line=$(grep -oE 'number_of_executed_units: *[0-9]+' "$out" | tail -1 | grep -oE '[0-9]+$')
        if [ "${line:-0}" -gt 1000 ]; then
            echo "ok - fuzz $name: $line inputs in $seconds s, no find" > "$work/$name.tap"
        else
            echo "not ok - fuzz $name: only ${line:-0} inputs ran" > "$work/$name.tap"
        fi
    else
        { echo "not ok - fuzz $name: $(ls "$work"/find-"$name"-* 2>/dev/null | head -1)"
          grep -E 'ERROR|runtime error|#[0-9] ' "$out" | head -12 | sed 's/^/# /'; } > "$work/$name.tap"
    fi
}

mkdir -p "$work/rpc"
mkdir -p "$work/domain" && src/util/embed.sh colo_protection_rng src/domain/colo-protection.rng > "$work/domain/colo-protection-rng.h" || exit 1
(cd src/rpc && rpcgen -h -o "$work/rpc/colo-protocol.h" colo-protocol.x &&
    rpcgen -c -o "$work/rpc/colo-protocol.c" colo-protocol.x) || exit 1
names=("$@")
[ ${#names[@]} -gt 0 ] || names=($(ls tests/fuzz/fuzz-*.c | sed 's|.*/fuzz-||; s|\.c$||' | grep -vx daemon)) # tests/mainjob/protocol-fuzz.sh
# As many at a time as there are processors.
for name in "${names[@]}"; do
    while [ "$(jobs -rp | wc -l)" -ge "$(nproc)" ]; do wait -n; done
    if [ -z "${sources[$name]:-}" ]; then
        echo "not ok - fuzz $name: run.sh does not know its sources" > "$work/$name.tap"
    else
        one "$name" &
    fi
done
wait
echo "1..${#names[@]}"
rc=0
for name in "${names[@]}"; do
    cat "$work/$name.tap"
    grep -q '^ok' "$work/$name.tap" || { rc=1 keep=1; }
done
[ $keep = 0 ] || echo "# kept for a look: $work"
exit $rc
