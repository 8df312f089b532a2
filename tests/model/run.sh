#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
#
# Searches the ownership model exhaustively and prints TAP. --long searches larger configurations.
# A search counts only if it was complete: no depth limit reached, no memory limit, no hash compaction,
# no bitstate. A negative control (one rule broken) passes only if spin finds the named violation; a
# witness only if its state is reached.
set -u
export LC_ALL=C

usage() { echo "usage: $0 [--long]" >&2; exit 2; }
long=0
case ${1-} in
    '') ;;
    --long) long=1 ;;
    *) usage ;;
esac
[ $# -le 1 ] || usage

source_dir=$(cd "$(dirname "$0")" && pwd) || exit 1
for tool in spin gcc; do
    command -v "$tool" >/dev/null || { echo "Bail out! $tool is missing"; exit 1; }
done
build=$(mktemp -d "${TMPDIR:-/tmp}/colo-model.XXXXXX") || { echo "Bail out! mktemp failed"; exit 1; }
trap 'rm -rf "$build"' EXIT
trap 'exit 130' INT TERM HUP

readonly DEPTH=100000          # reaching it is a failure
readonly MEMORY_MIB=3072        # so is this
count=0
failed=0

# report ok|not NAME: one TAP line.
report()
{
    count=$((count + 1))
    if [ "$1" = ok ]; then
        echo "ok $count - $2"
    else
        failed=$((failed + 1))
        echo "not ok $count - $2"
        sed 's/^/#   /' "$build/out" | tail -n 30
    fi
}

# search SAFETY|LIVE FLAG...: fills $build/out; returns 1 if model or verifier could not be built.
search()
{
    local kind=$1 cc='-DSAFETY -DNOCLAIM' run=''
    shift
    [ "$kind" = LIVE ] && { cc=''; run=-a; set -- -DLIVE "$@"; }
    rm -rf "$build/run" && mkdir "$build/run" && cd "$build/run" || return 1
    { [ -z "$reach" ] || echo "#define REACH $reach"; cat "$source_dir/ownership.pml"; } >model.pml ||
        return 1
    # gcc's warnings are about spin's generated code
    spin "$@" -a model.pml >"$build/out" 2>&1 && [ -f pan.c ] &&
        ! grep -q 'Error' "$build/out" &&
        gcc -w $optimize $cc -DVECTORSZ=256 -DMEMLIM=$MEMORY_MIB -o pan pan.c >>"$build/out" 2>&1 ||
        return 1
    ./pan $run -n -m$DEPTH >"$build/out" 2>&1
    sed -n 's/^ *\([0-9]*\) states, stored.*/# states \1/p; s/^ *\([0-9]*\) transitions.*/# transitions \1/p
            s/.*depth reached \([0-9]*\),.*/# depth \1/p' "$build/out" | paste -sd' ' | sed 's/ # /, /g'
    return 0
}

# complete: whether $build/out is that of a finished, exact search without errors.
complete()
{
    grep -q 'errors: 0$' "$build/out" && grep -q 'states, stored' "$build/out" &&
        grep -q '^Full statespace search' "$build/out" &&
        ! grep -Eiq 'too small|not completed|out of memory|MEMLIM|bitstate|hash.?compact|aborting|truncat' \
            "$build/out"
}

holds()    # NAME SAFETY|LIVE FLAG...
{
    local name=$1
    shift
    if search "$@" && complete; then report ok "$name"; else report not "$name"; fi
}

breaks()   # NAME EXPECTED-MESSAGE SAFETY|LIVE FLAG...
{
    local name=$1 expected=$2
    shift 2
    if search "$@" && grep -q 'errors: [1-9]' "$build/out" && grep -Fq "$expected" "$build/out"; then
        report ok "$name"
    else
        report not "$name"
    fi
}

control()  # BUG-NAME PROPERTY FLAG...
{
    local bug=$1 property=$2 message only
    shift 2
    case $property in
        I1) only=1 message='assertion violated I1_output_commit' ;;
        I2) only=2 message='assertion violated I2_always_a_survivor' ;;
        I3) only=3 message='assertion violated I3_one_owner' ;;
        relinquished) only=4 message='assertion violated (relg[h]<gen[h])' ;;
        viable) only=5 message='assertion violated q[h]' ;;
        live) breaks "negative control $bug breaks liveness" 'acceptance cycle' LIVE "-D$bug" "$@"
              return ;;
    esac
    breaks "negative control $bug breaks $property" "$message" SAFETY "-D$bug" -DONLY=$only "$@"
}

witness()  # NAME STATE FLAG...
{
    local name=$1 reach=$2
    shift 2
    breaks "reachable: $name" 'assertion violated  !(reached)' SAFETY "$@"
}

props='I1 I2 I3, relinquished and rebooted hosts never take'
optimize=-O1
reach=''
if [ $long = 0 ]; then
    holds "register, 3 generations, 2 faults, 1 link change: $props" SAFETY -DMAXG=3 -DFAULTS=2 -DFLAPS=1
    holds "register, 4 generations, 2 faults, 1 link change: $props" SAFETY -DMAXG=4 -DFAULTS=2 -DFLAPS=1
    holds "register vanishes: $props" SAFETY -DWIPE
    holds "register restored to an older generation that both had left: $props" SAFETY -DROLLBACK
    holds "manual back-end, 5 generations: $props" SAFETY -DMANUALBE -DMAXG=5 -DFAULTS=3
    holds "output resumes after 1 fault, any wrong suspicion" LIVE -DMAXG=4 -DFAULTS=1
    holds "output resumes after a switchover, any wrong suspicion" LIVE -DMAXG=4 -DFAULTS=0 -DFLAPS=2
else
    optimize=-O2
    holds "register, 5 generations, 3 faults, 2 link changes: $props" SAFETY -DMAXG=5 -DFAULTS=3 -DFLAPS=2
    holds "register, 6 generations, 4 faults, 3 link changes: $props" SAFETY -DMAXG=6 -DFAULTS=4 -DFLAPS=3
    holds "register vanishes, 5 generations, 3 faults: $props" SAFETY -DWIPE -DMAXG=5 -DFAULTS=3
    holds "register restored to an older generation, 5 generations, 3 faults: $props" \
        SAFETY -DROLLBACK -DMAXG=5 -DFAULTS=3
    holds "manual back-end, 9 generations, 5 faults: $props" SAFETY -DMANUALBE -DMAXG=9 -DFAULTS=5 -DFLAPS=3
    holds "output resumes after 1 fault, any wrong suspicion, 3 link changes" LIVE -DMAXG=6 -DFAULTS=1 -DFLAPS=3
    holds "output resumes after a switchover, 4 link changes" LIVE -DMAXG=6 -DFAULTS=0 -DFLAPS=4
fi

optimize=-O0
witness 'roles swapped and paired again in generation 2' 'st[1] == PAIRED && gen[1] == 2'
witness 'back at the first host, paired in generation 3' 'st[0] == PAIRED && gen[0] == 3' -DMAXG=4
witness 'both hosts take at once' 'st[0] == TAKING && st[1] == TAKING'
witness 'a confirmation sent before the CAS arrives after it won' \
    'SOLE(1) && gate[0] == G_CONF && q[0] && conf == 1'
witness 'a consent accepted while the register lags' 'SOLE(1) && dst[1] == D_ACC && rg == 1'
witness 'a rebooted host starts its guest again from its disk' \
    'faults == 1 && flaps == 0 && SOLE(0) && gen[0] == 2 && rown == 0 && relg[1] == 0 && st[1] == OUT && gen[1] == 0'
witness 'manual back-end: paired again after the operator decided' 'st[1] == PAIRED && gen[1] == 3' \
    -DMANUALBE -DMAXG=5

control BUG_CAS_AFTER_RELINQUISH I3
control BUG_CAS_AFTER_RELINQUISH relinquished
control BUG_RELINQUISH_NOT_DURABLE relinquished
control BUG_RELINQUISH_NOT_DURABLE I3
control BUG_ATTEMPT_NOT_DURABLE I3
control BUG_CONSENT_WHILE_TAKING I3
control BUG_UNKNOWN_IS_LOST I3
control BUG_UNKNOWN_IS_WON I3
control BUG_UNKNOWN_NEVER_READ live -DMAXG=4 -DFAULTS=1
control BUG_CONFIRM_AFTER_CAS I1
control BUG_RELEASE_BEFORE_PAIR_CAS I2
control BUG_SOLE_WHILE_PAIRING I1
control BUG_SOLE_WHILE_PAIRING I3
control BUG_SOLE_AFTER_CUT I1
control BUG_PAIR_NOT_DURABLE I3
control BUG_REBOOT_TAKES I1
control BUG_REBOOT_TAKES viable
control BUG_RESTART_WITHOUT_CAS I3
control BUG_TAKE_FROM_ALONE I3
control BUG_NO_QUIESCE I3
control BUG_LOWER_REGISTER_TRUSTED I3 -DROLLBACK
control BUG_OPERATOR_PLUS_ONE I3 -DROLLBACK
control BUG_RECREATE_BY_ANYONE I3 -DWIPE
control BUG_OPERATOR_NOT_SURE I3
control BUG_OPERATOR_NOT_SURE I3 -DMANUALBE

echo "1..$count"
echo "# $((count - failed)) passed, $failed failed"
[ $failed = 0 ]
