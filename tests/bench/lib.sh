# SPDX-License-Identifier: LGPL-2.1-or-later
# shellcheck shell=bash
# Common to the benchmarks that need the lab: options, a netns lab of their own, the two doors to it
# (virsh-colo and QMP), statistics.  A benchmark sources this file, says `options "$@"` and
# `bench_lab`, and writes one value a line (ms) into files of $OUT, which stats.py turns into rows.
#
#   --prefix DIR   where virtcolod, colo-comparator and virsh-colo are installed; without it the tree
#                  is built and installed into DIR/build of --out (tests/build.sh)
#   --out DIR      where samples, logs and pictures go (build/bench)
#   COLO_LAB       the lab's name (bench-NAME)
#
# Exit code: 0 all was measured, 1 something failed, 2 wrong usage.  A figure that does not hold is
# printed, not judged: a machine's load is no fault of the program.
set -u -o pipefail
BENCH_DIR=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
TOP=$(cd "$BENCH_DIR/../.." && pwd)
LAB=$TOP/tests/lab/lab
PREFIX="" OUT="" ROUNDS="" SECONDS_A_ROUND=""
PAIR=ab
GUEST_MAC=52:54:00:77:00:10
SETTLE_S=60 # ends a benchmark that hangs; no claim about speed
clients=()

die() {
    printf '%s: %s\n' "${0##*/}" "$1" >&2
    exit "${2:-1}"
}

say() { printf '# %s\n' "$*" >&2; }

# options NAME DEFAULT-ROUNDS ARG...
options() {
    NAME=$1 ROUNDS=$2
    shift 2
    while [ $# -gt 0 ]; do
        case $1 in
        --prefix | --out | --rounds | --runs | --seconds)
            [ $# -ge 2 ] || die "$1 needs a value" 2
            case $1 in
            --prefix) PREFIX=$2 ;;
            --out) OUT=$2 ;;
            --seconds) SECONDS_A_ROUND=$2 ;;
            *) ROUNDS=$2 ;;
            esac
            shift 2
            ;;
        --help) usage; exit 0 ;;
        *) usage >&2; exit 2 ;;
        esac
    done
    [[ $ROUNDS =~ ^[1-9][0-9]*$ ]] || die "not a number of rounds: $ROUNDS" 2
    [ "$(id -u)" = 0 ] || die "the lab needs root"
    [ -n "$PREFIX" ] || PREFIX=$("$TOP/tests/build.sh" "${OUT:-$TOP/build/bench}/build" | tail -1) || exit 1
    PREFIX=$(readlink -f "$PREFIX") || die "no such folder"
    for part in sbin/virtcolod sbin/colo-comparator bin/virsh-colo; do
        [ -x "$PREFIX/$part" ] || die "$PREFIX/$part is missing: make install, or another --prefix"
    done
    OUT=${OUT:-$TOP/build/bench}/$NAME
    rm -rf "$OUT"
    mkdir -p "$OUT" || exit 1
    OUT=$(readlink -f "$OUT")
    export COLO_LAB=${COLO_LAB:-bench-$NAME}
}

cleanup() {
    local pid
    trap - EXIT
    for pid in ${clients[@]+"${clients[@]}"}; do
        kill "$pid" 2> /dev/null && wait "$pid" 2> /dev/null
    done
    "$LAB" down > /dev/null 2>&1
}

# A lab from zero with the pair defined; it is taken down at the end, whatever that is.
bench_lab() {
    trap cleanup EXIT
    trap 'exit 130' INT
    trap 'exit 143' TERM
    "$LAB" down > /dev/null 2>&1
    "$LAB" up --backend netns --prefix "$PREFIX" || exit 1
    must colo primary colo-pair-define $PAIR --peer secondary
    say "$(nproc) processors, load $(cut -d' ' -f1-3 /proc/loadavg), $("$LAB" status | head -1)"
}

# must COMMAND...: or the benchmark ends with what the command printed.
must() {
    local out
    out=$("$@" 2>&1) || die "failed: $*: $out"
}

# wait_for SECONDS COMMAND...: or the benchmark ends.
wait_for() {
    local end=$((${EPOCHREALTIME/./} + $1 * 1000000))
    shift
    until "$@" > /dev/null 2>&1; do
        [ "${EPOCHREALTIME/./}" -lt "$end" ] || die "waited in vain for: $*"
        sleep 0.1
    done
}

on() { "$LAB" exec "$@" < /dev/null; }
colo() { local host=$1; shift; on "$host" timeout 120 "$PREFIX/bin/virsh-colo" "$@"; }
virsh_at() { local host=$1; shift; on "$host" timeout 60 virsh -q "$@"; }
other() { [ "$1" = primary ] && echo secondary || echo primary; }
now_us() { echo "${EPOCHREALTIME/./}"; }

# qmp HOST COMMAND [ARGUMENTS]: prints QEMU's answer; fails when that is an error.
qmp() {
    local out
    out=$(virsh_at "$1" qemu-monitor-command ft "{\"execute\":\"$2\",\"arguments\":${3:-{\}}}") || return 1
    printf '%s\n' "$out"
    [[ $out != *'"error":{'* ]]
}

state_is() {
    colo "$1" colo-status ft --json 2> /dev/null | grep -q "\"state\": *\"$2\""
}

# An idle guest with a disk: it neither writes to it nor dirties memory on purpose.
idle_guest() {
    LAB_GUEST_ARGS="dirty=0 disk=0" "$LAB" guest up primary || exit 1
}

# The domain is gone on both hosts, and the filters of this script's own with it.
no_guest() {
    local host
    for host in primary secondary; do
        virsh_at $host destroy ft > /dev/null 2>&1
        virsh_at $host undefine ft > /dev/null 2>&1
    done
    return 0
}

protect() { must colo primary colo-protect ft --pair $PAIR --wait; }

# events FILE SECONDS: STOP and RESUME of the guest at the primary with QEMU's own times, as libvirt
# hands them on (the moment at which libvirt does so plays no part).
events() {
    "$LAB" exec primary virsh -q qemu-monitor-event ft --loop --timeout "$2" --regex \
        --event '^(STOP|RESUME)$' < /dev/null > "$1"
}

stats() { python3 "$BENCH_DIR/stats.py" "$@"; }
