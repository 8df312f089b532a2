# SPDX-License-Identifier: LGPL-2.1-or-later
# shellcheck shell=bash
# Common to the tests of the main job.  A test is a bash script that sources this file, brings the
# lab to the state it needs (need_protected, need_unprotected, ...), says `check NAME COMMAND...`
# for each behaviour and ends with `finish`.  It runs by itself, with a lab of its own, or by run.sh,
# which lends it one that the next test uses too.
#
# From the environment:
#   COLO_LAB_BACKEND  back-end of the lab: auto (default), netns or kvm
#   COLO_PREFIX       where virtcolod, colo-comparator and virsh-colo are installed (/usr/local)
#   COLO_LAB          the lab's name (mainjob)
#   MJ_LONG           1: more moments and longer loads than CI has time for
#   MJ_SHARED         1 (set by run.sh): the lab stays up when the test ends
#
# The host where the guest runs and the other one are $P and $S: tests do not care which is which.
set -u -o pipefail
MJ_DIR=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
LAB=$MJ_DIR/../lab/lab
export COLO_LAB=${COLO_LAB:-mainjob}
BACKEND=${COLO_LAB_BACKEND:-auto}
PREFIX=$(readlink -f "${COLO_PREFIX:-/usr/local}")
VIRSH_COLO=$PREFIX/bin/virsh-colo
LONG=${MJ_LONG:-0}
GUEST_IP=10.9.0.10
PAIR=ab
CONF=/etc/libvirt-colo/virtcolod.conf
MARKS_FILTER='filter-mirror|filter-redirector'
# Deadlines only end a test that hangs: they are no claims about speed.
SETTLE_S=60

[ "$(id -u)" = 0 ] || { echo "1..0 # SKIP the lab needs root"; exit 0; }
for part in virtcolod:sbin colo-comparator:sbin virsh-colo:bin; do
    [ -x "$PREFIX/${part#*:}/${part%:*}" ] || {
        echo "1..0 # SKIP ${part%:*} is not in $PREFIX/${part#*:}: make install, or set COLO_PREFIX"
        exit 0
    }
done
TMP=$(mktemp -d "${TMPDIR:-/var/tmp}/mainjob.XXXXXX")
P=primary S=secondary
tests=0 failures=0 loads=() load_names=()
LAB_LOG=$("$LAB" path log)
DIRTY=$("$LAB" path state)/mainjob-dirty

# --- ending, whatever happens ------------------------------------------------------------------

cleanup() {
    local pid
    trap - EXIT
    for pid in ${loads[@]+"${loads[@]}"}; do
        kill "$pid" 2> /dev/null && wait "$pid" 2> /dev/null
    done
    [ "${MJ_SHARED:-0}" = 1 ] || "$LAB" down > /dev/null 2>&1
    rm -rf "$TMP"
}
trap cleanup EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

# --- TAP ---------------------------------------------------------------------------------------

# check NAME COMMAND...: one test; what the command printed follows when it failed, and once a
# script the ends of all logs.
check() {
    local name=$1 out
    shift
    tests=$((tests + 1))
    if out=$("$@" 2>&1); then
        echo "ok $tests - $name"
        return 0
    fi
    failures=$((failures + 1))
    echo "not ok $tests - $name"
    printf '%s\n' "failed: $*" "$out" | sed 's/^/#   /'
    [ $failures = 1 ] && dump
    touch "$DIRTY" 2> /dev/null
    return 1
}

skip() {
    tests=$((tests + 1))
    echo "ok $tests - $1 # SKIP $2"
}

say() {
    printf '# %s\n' "$*"
}

# bail WHAT: the test cannot go on.
bail() {
    tests=$((tests + 1)) failures=$((failures + 1))
    echo "not ok $tests - $1"
    dump
    touch "$DIRTY" 2> /dev/null
    finish
}

finish() {
    echo "1..$tests"
    [ $failures = 0 ]
    exit
}

# What a failure is judged by.
dump() {
    local host log
    for host in primary secondary; do
        echo "#   == $host: $(status $host)"
        echo "#   == $host: virsh: $(virsh_at $host list --all --name 2>&1 | tr '\n' ' ')"
        for log in virtcolod comparator; do
            tail -n 12 "$LAB_LOG/$host/$log.log" 2> /dev/null | sed "s/^/#   $host $log: /"
        done
        "$LAB" guest console $host 2> /dev/null | tail -n 4 | tr -d '\r' | sed "s/^/#   $host console: /"
        on $host bridge fdb show br br0 2>&1 | grep "^52:54:" | sed "s/^/#   $host fdb: /"
    done
    on switch bridge fdb show 2>&1 | grep "^52:54:" | sed "s/^/#   switch fdb: /"
    on client ip neighbor show 2>&1 | sed "s/^/#   client neighbor: /"
}

# --- small things ------------------------------------------------------------------------------

not() { ! "$@"; }

is() { [ "$1" = "$2" ] || { echo "expected '$2', found '$1'"; return 1; }; }

# at_least FOUND NUMBER WHAT
at_least() { [ "${1:-0}" -ge "$2" ] || { echo "$3: expected at least $2, found ${1:-nothing}"; return 1; }; }

# wait_for SECONDS COMMAND...: 0 as soon as the command succeeds; else what it printed last.
wait_for() {
    local end=$((${EPOCHREALTIME/./} + $1 * 1000000)) out
    shift
    until out=$("$@" 2>&1); do
        [ "${EPOCHREALTIME/./}" -lt "$end" ] || { echo "waited in vain for: $*: $out"; return 1; }
        sleep 0.1
    done
}

on() { "$LAB" exec "$@" < /dev/null; }
colo() { local host=$1; shift; on "$host" timeout 120 "$VIRSH_COLO" "$@"; }
virsh_at() { local host=$1; shift; on "$host" timeout 60 virsh -q -c qemu:///system "$@"; }
daemon() { "$LAB" daemon "$@"; }
other() { [ "$1" = primary ] && echo secondary || echo primary; }

# json KEY...: one member of the object on standard input; nested by several keys.
json() {
    python3 -c '
import json, sys
try:
    value = json.load(sys.stdin)
    for key in sys.argv[1:]:
        value = value[key]
except (ValueError, KeyError, TypeError):
    sys.exit(1)
print("" if value is None else value)' "$@"
}

status() { colo "$1" colo-status ft --json 2>&1; }
field() { status "$1" | json "$2"; }
state() { field "$1" state; }
state_is() { is "$(state "$1")" "$2"; }
state_in() {
    local host=$1 found
    shift
    found=$(state "$host")
    case " $* " in *" $found "*) ;; *) echo "expected one of '$*', found '$found'"; return 1 ;; esac
}

# One of the helper's counters, as colo-stats prints it: stat HOST counters released-equal
stat() { local host=$1; shift; colo "$host" colo-stats ft --json | json stats "$@"; }

# --- logs --------------------------------------------------------------------------------------

# From here on: log_since HOST prints what virtcolod of the host has logged.
mark_logs() {
    local host
    for host in primary secondary; do
        cat "$LAB_LOG/$host/virtcolod.log" 2> /dev/null | wc -l > "$TMP/mark-$host"
    done
}

log_since() { tail -n +$(($(cat "$TMP/mark-$1") + 1)) "$LAB_LOG/$1/virtcolod.log"; }

# No state changed on either host since mark_logs: protection never ended, not even for a moment.
no_state_change() {
    local host
    for host in primary secondary; do
        log_since $host | grep -E "(primary|secondary|none): (unprotected|preparing|syncing|degraded|failing-over|committing|alone|fenced|manual)" &&
            { echo "state changed on $host"; return 1; }
    done
    return 0
}

# --- the lab -----------------------------------------------------------------------------------

quiet() {
    local out
    out=$("$@" 2>&1) || { printf '%s\n' "failed: $*" "$out" | sed 's/^/#   /'; return 1; }
}

# A lab from zero: both hosts, the guest on primary, the pair, the copy of the disk.
lab_fresh() {
    P=primary S=secondary
    say "fresh lab: $1"
    "$LAB" down > /dev/null 2>&1
    rm -f "$DIRTY"
    quiet "$LAB" up --backend "$BACKEND" --prefix "$PREFIX" || bail "lab up"
    guest_start || bail "guest up"
    quiet colo primary colo-pair-define $PAIR --peer secondary || bail "colo-pair-define"
    quiet colo primary colo-prepare ft --pair $PAIR || bail "colo-prepare"
}

# What the guests run on: tcg or kvm.
accel() { sed -n 's/^LAB_ACCEL=//p' "$("$LAB" path state)/env"; }

guest_start() { quiet env LAB_GUEST_ARGS="${GUEST_ARGS:-disk=20}" "$LAB" guest up primary; }

# Links, hosts and daemons are as after `lab up`; FALSE when that needs a fresh lab.
lab_mend() {
    local host part
    [ ! -e "$DIRTY" ] || { echo "the test before failed"; return 1; }
    "$LAB" status > /dev/null 2>&1 || { echo "the lab is not up"; return 1; }
    for part in $("$LAB" status | sed -n 's/^cut: \([a-z]*\)-\(.*\)/\1:\2/p'); do
        "$LAB" heal "$part" || return 1
    done
    isolate off
    for host in primary secondary; do
        for part in libvirtd comparator virtcolod; do
            case $(daemon $host status $part) in
            *running*) ;;
            *paused*) daemon $host resume $part || return 1 ;;
            *) daemon $host start $part || return 1 ;;
            esac
        done
    done
}

# Sets P and S: P runs the guest.
find_roles() {
    local host
    for host in primary secondary; do
        [ "$(field $host role)" = primary ] && in_list $host || continue
        P=$host S=$(other $host)
        return 0
    done
    return 1
}

# Both hosts say protected, of one generation, and the guest answers.
protected() {
    local p s
    find_roles || { echo "no host says that it is the running primary"; return 1; }
    p=$(status $P) s=$(status $S)
    is "$(echo "$p" | json state)" protected && is "$(echo "$s" | json state)" protected &&
        is "$(echo "$s" | json role)" secondary &&
        is "$(echo "$p" | json generation)" "$(echo "$s" | json generation)"
}

# None of the copy's virtio devices is one that QEMU has given up.
devices_work() {
    local path out
    out=$(qmp "$S" '{"execute":"x-query-virtio"}') && grep -q net0 <<< "$out" || { echo "$out"; return 1; }
    for path in $(grep -o '/machine/[^"]*' <<< "$out"); do
        out=$(qmp "$S" "{\"execute\":\"x-query-virtio-status\",\"arguments\":{\"path\":\"$path\"}}") || return 1
        grep -q '"broken":false' <<< "$out" || { echo "$path: $out"; return 1; }
    done
}

# And stays so: a checkpoint while the guest boots can break a virtio device of the copy
# (src/domain/steps-virtio.h), which is given up then.
protected_well() { protected && devices_work; }

# It is on the way there by itself.
may_become_protected() {
    find_roles && state_in $P alone committing preparing syncing protected
}

need_protected() {
    local why
    if why=$(lab_mend) && why=$(may_become_protected); then
        find_roles
        if [ "$(state $P)" = alone ] || protected > /dev/null; then
            why=$(wait_for $SETTLE_S protected_well) && { find_roles; mark_logs; return; }
        elif why=$(wait_for $SETTLE_S protected_well); then
            find_roles
            mark_logs
            return
        fi
    fi
    why=$(echo "$why" | tail -n 1)
    if [ "$why" = "the lab is not up" ] || [ -e "$DIRTY" ] || ! can_protect; then
        lab_fresh "$why"
    fi
    quiet colo $P colo-protect ft --pair $PAIR --wait || bail "colo-protect"
    wait_for $SETTLE_S protected_well > /dev/null || bail "protected on both hosts"
    find_roles
    mark_logs
}

# The guest runs on one host, unprotected: one colo-protect makes what is needed.
can_protect() {
    local host
    for host in primary secondary; do
        in_list $host || continue
        case $(state $host 2> /dev/null) in '' | unprotected | alone) ;; *) return 1 ;; esac
        P=$host S=$(other $host)
        not in_list $S
        return
    done
    return 1
}

# The guest runs on P and nobody protects it.
need_unprotected() {
    local why
    if why=$(lab_mend); then
        may_become_protected > /dev/null && wait_for $SETTLE_S protected > /dev/null &&
            quiet colo "$P" colo-unprotect ft
        can_protect && wait_for 10 unprotected > /dev/null && { mark_logs; return; }
        why="the guest cannot be unprotected"
    fi
    lab_fresh "$(echo "$why" | tail -n 1)"
    mark_logs
}

# The guest runs on P as if it had never been protected; nothing of it is on S.
unprotected() {
    state_in $P unprotected '' && plain_guest $P && no_copy $S
}

# Nothing of ours is left in the guest of that host: filters, COLO, mirrors.
plain_guest() {
    local objects jobs
    is "$(virsh_at "$1" domstate ft)" running || return 1
    objects=$(qmp "$1" '{"execute":"qom-list","arguments":{"path":"/objects"}}') || { echo "$objects"; return 1; }
    ! grep -E "$MARKS_FILTER" <<< "$objects" || { echo "filters are left on $1"; return 1; }
    jobs=$(qmp "$1" '{"execute":"query-block-jobs"}') && is "$(json return <<< "$jobs")" '[]' &&
        not grep -q '"colo"' <<< "$(qmp "$1" '{"execute":"query-migrate"}')"
}

# No copy of the domain is on that host: no QEMU, no quarantine bridge, no overlay.
no_copy() {
    not in_list "$1" && not on "$1" sh -c 'ls /sys/class/net | grep colo-q' &&
        not on "$1" sh -c 'ls /var/lib/libvirt/images | grep -E "raw.+"'
}

in_list() { virsh_at "$1" list --name | grep -qx ft; }
qmp() { virsh_at "$1" qemu-monitor-command ft "$2"; }
qemu_pid() { on "$1" cat /run/libvirt/qemu/ft.pid; }

# isolate on|off: the two hosts cannot reach each other, the witness can reach both.
isolate() {
    local host
    for host in primary secondary; do
        "$LAB" exec switch bridge link set dev "pair-$host" isolated "$1" < /dev/null 2> /dev/null
    done
    return 0
}

# configure HOST KEY VALUE: one key of virtcolod.conf; virtcolod reads it when it starts again.
configure() {
    on "$1" sed -i "/^ *$2 *=/d" $CONF && on "$1" sh -c 'echo "$1 = $2;" >> "$3"' sh "$2" "$3" $CONF
}

# --- load --------------------------------------------------------------------------------------

# load_start [INTERVAL_MS]: a checked TCP session (tick) and one whose answers differ on the two
# copies (random): each of its answers needs a checkpoint.
load_start() {
    loads=() load_names=()
    load_add tick tick --interval "${1:-20}"
    load_add random random --interval "${1:-20}"
    wait_for 30 answers_go_on 3 || bail "the guest answers the load"
}

# load_add NAME PROGRAM [OPTION...]: one more program of client.py, whose answers are waited for too.
load_add() {
    local name=$1 program=$2
    shift 2
    "$LAB" client "$program" "$@" --out "$TMP/$name.log" > /dev/null 2> "$TMP/$name.err" &
    loads+=($!)
    load_names+=("$name")
}

answers() { grep -c '^R' "$TMP/$1.log"; }
at_least_answers() { at_least "$(answers "$1")" "$2" "answers of $1"; }

# More answers come: N of each program from now on.
answers_go_on() {
    local name n=${1:-10} from
    for name in "${load_names[@]}"; do
        ! grep '^E' "$TMP/$name.log" || return 1
        from=$(answers "$name")
        wait_for 30 at_least_answers "$name" $((from + n)) || return 1
    done
}

# Ends the load; every answer must have come, in order and right.
load_right() {
    local pid rc=0
    for pid in "${loads[@]}"; do
        kill -TERM "$pid" 2> /dev/null
    done
    for pid in "${loads[@]}"; do
        wait "$pid" || rc=1
    done
    (cd "$TMP" && cat "${load_names[@]/%/.err}")
    return $rc
}

# `check` runs commands in a subshell, which cannot wait for the load: this cannot be one of them.
check_load() {
    local rc
    load_right > "$TMP/load.out" 2>&1
    rc=$?
    loads=()
    check "$1" sh -c 'cat "$1"; exit "$2"' sh "$TMP/load.out" $rc
}

# The longest gap between two answers of the tick session, ms.
worst_gap() { "$LAB" client report "$TMP/tick.log" --json 2> /dev/null | json gap_ms max; }

# What the guest's writer of disk INDEX (0) says: guest_disk errors [INDEX]
guest_disk() {
    on client timeout 20 bash -c "exec 3<>/dev/tcp/$GUEST_IP/11; echo disk ${2:-0} >&3; read -r -t 15 line <&3; echo \"\$line\"" |
        sed -n "s/.*\b$1=\([0-9]*\).*/\1/p"
}

# The guest's disk INDEX (0) is right: all that it reads back is what it wrote, and it goes on writing.
disk_right() {
    local from i=${1:-0}
    is "$(guest_disk ready $i)" 1 && is "$(guest_disk errors $i)" 0 || return 1
    from=$(guest_disk durable $i)
    wait_for 30 eval "at_least \"\$(guest_disk durable $i)\" $((from + 3)) 'durable blocks'" && is "$(guest_disk errors $i)" 0
}

# --- protection that goes on -------------------------------------------------------------------

# Remembers what must stay the same while something of ours dies.
remember() {
    GENERATION=$(field $P generation)
    QEMUS="$(qemu_pid $P) $(qemu_pid $S)"
    CHECKPOINTS=$(stat $P committed)
    mark_logs
}

# Protection never ended since remember: same generation, same QEMUs, states as they were, and the
# session that was there then commits checkpoints still.
never_ended() {
    wait_for $SETTLE_S protected && is "$(field $P generation)" "$GENERATION" &&
        is "$(qemu_pid $P) $(qemu_pid $S)" "$QEMUS" && no_state_change &&
        colo $P colo-checkpoint ft && # an idle guest needs none by itself
        at_least "$(stat $P committed)" $((CHECKPOINTS + 1)) "committed epoch"
}

# The pair protects the guest again, by itself, in a later generation.
protected_again() {
    wait_for $SETTLE_S protected && at_least "$(field $P generation)" $((GENERATION + 1)) generation
}
