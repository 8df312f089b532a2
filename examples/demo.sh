#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# The main job, live: two hosts, a running guest that is protected while it runs, and three acts.
#   examples/demo.sh [--backend auto|netns|kvm] [--act 1|2|3]...
# Installs packages, builds, brings a lab up (tests/lab), and takes everything away again, also after
# a failure or Ctrl-C. As root on Debian 12. Exit code 1: a session broke, an answer or a disk block
# was wrong, or the stale copy was started.
set -u
top=$(cd "$(dirname "$0")/.." && pwd)
backend=auto acts=()
while [ $# -gt 0 ]; do
    case $1 in
    --backend) backend=${2:?} && shift 2 ;;
    --act) acts+=("${2:?}") && shift 2 ;;
    *) echo "usage: examples/demo.sh [--backend auto|netns|kvm] [--act 1|2|3]..." >&2 && exit 2 ;;
    esac
done
[ ${#acts[@]} -gt 0 ] || acts=(1 2 3)

export COLO_LAB=demo COLO_LAB_DIR=${COLO_LAB_DIR:-/var/tmp/libvirt-colo-demo.$$}
lab=$top/tests/lab/lab
work=$COLO_LAB_DIR/demo-logs
bad=0 clients=()
mkdir -p "$work"

title() { printf '\n\033[1m%s\033[0m\n' "$*"; }
since() { awk -v a="$t0" -v b="$(date +%s.%N)" 'BEGIN { printf "%7.2f s", b - a }'; }
event() { printf '  %s  %s\n' "$(since)" "$*"; }
wrong() { printf '  %s  WRONG: %s\n' "$(since)" "$*"; bad=$((bad + 1)); }

cleanup() {
    local pid
    for pid in "${clients[@]}"; do kill "$pid" 2>/dev/null; done
    "$lab" down --purge > /dev/null 2>&1
    rm -rf "$COLO_LAB_DIR"
}
trap cleanup EXIT
trap 'exit 130' INT TERM

colo() { # HOST COLO-COMMAND...
    local host=$1
    shift
    "$lab" exec "$host" "$prefix/bin/virsh-colo" "$@"
}

state() { colo "$1" colo-status ft --json 2>/dev/null | grep -oE '"state": *"[a-z-]+"' | head -1 | sed 's/.*"\([a-z-]*\)"/\1/'; }

role() { colo "$1" colo-status ft --json 2>/dev/null | grep -oE '"role": *"[a-z]+"' | head -1 | sed 's/.*"\([a-z]*\)"/\1/'; }

# Waits at most $2 s until the guest is served from host $1.
wait_served() {
    local end=$((SECONDS + $2))
    while [ $SECONDS -lt $end ]; do
        [ "$(role "$1")" = primary ] && event "the $1 host serves ($(state "$1"))" && return 0
        sleep 0.05
    done
    wrong "the guest is not served from $1"
}

# wait_state HOST SECONDS STATE...: waits until the domain is in one of the states.
wait_state() {
    local host=$1 end=$((SECONDS + $2)) now
    shift 2
    while [ $SECONDS -lt $end ]; do
        now=$(state "$host")
        [[ -n $now && " $* " = *" $now "* ]] && return 0
        sleep 0.2
    done
    wrong "the domain is '$now' on $host, not $*"
    return 1
}

load() { # starts the three clients
    "$lab" client tick --interval 20 --out "$work/tick" > /dev/null 2>&1 &
    clients+=($!)
    "$lab" client random --interval 200 --out "$work/random" > /dev/null 2>&1 &
    clients+=($!)
    "$lab" client http --interval 500 --timeout 60 --out "$work/http" > /dev/null 2>&1 &
    clients+=($!)
}

# Ends the clients; each exits 1 on a broken session or a wrong, missing or late answer.
judge_load() {
    local pid i=0 names=(tick random http)
    for pid in "${clients[@]}"; do
        kill -TERM "$pid" 2>/dev/null
        wait "$pid" || wrong "${names[$i]}: $(grep '^E' "$work/${names[$i]}" | head -1)"
        event "${names[$i]}: $(grep '^# end' "$work/${names[$i]}" | cut -c3-)"
        i=$((i + 1))
    done
    clients=()
    event "TCP session over the fault: $("$lab" client report "$work/tick" | grep '^gap' | tr -s ' ')"
}

check_disk() { # HOST
    local console
    console=$("$lab" guest console "$1" 2>/dev/null)
    if grep -qE 'DISK-CORRUPT|MEM-CORRUPT|Kernel panic' <<< "$console"; then
        wrong "the guest says: $(grep -E 'CORRUPT|panic' <<< "$console" | head -1)"
    else
        event "no corrupt block, no corrupt page, no panic"
    fi
}

# The survivor's guest goes down in order and starts again from its own disk.
restart_from_disk() { # HOST
    colo "$1" colo-unprotect ft > /dev/null 2>&1 # a re-protection may just have begun: end it
    "$lab" guest down "$1" > /dev/null 2>&1 || wrong "the guest did not shut down on $1"
    "$lab" exec "$1" virsh -q start ft > /dev/null 2>&1 || wrong "the guest does not start on $1"
    local end=$((SECONDS + 90))
    until "$lab" exec client curl -s -m 2 http://10.9.0.10/1m.sha256 > /dev/null 2>&1; do
        [ $SECONDS -lt $end ] || { wrong "the restarted guest does not answer"; return; }
        sleep 0.5
    done
    event "shut down and started again on $1 from its disk; all blocks are verified at start"
}

# The host that was cut comes back and must leave its stale copy alone.
reboot_cut_host() { # HOST
    local running
    "$lab" reboot "$1" > /dev/null 2>&1 || { wrong "the $1 host does not boot"; return; }
    # An empty list because libvirtd or virtcolod is not there yet would prove nothing.
    local end=$((SECONDS + 60))
    until [ -n "$(state "$1")" ]; do
        [ $SECONDS -lt $end ] || { wrong "virtcolod of the rebooted host does not answer"; return; }
        sleep 0.5
    done
    running=$("$lab" exec "$1" virsh -q list --name) || wrong "libvirtd of the rebooted host does not answer"
    if grep -qx ft <<< "$running"; then
        wrong "the rebooted $1 host started its stale copy"
    else
        event "the cut host is up again and has not started its stale copy ($(state "$1"))"
    fi
}

stage() { # a fresh lab with a protected, loaded guest
    "$lab" down --purge > /dev/null 2>&1
    rm -f "$work"/*
    t0=$(date +%s.%N)
    "$lab" up --backend "$backend" --prefix "$prefix" || exit 1
    event "two hosts, a witness (etcd), a client, a switch"
    "$lab" guest up || exit 1
    "$lab" exec primary virsh -q autostart ft || exit 1
    event "the guest runs on the primary, unprotected, and is started at boot"
    colo primary colo-pair-define ab --peer secondary > /dev/null || exit 1
    colo primary colo-prepare ft --pair ab > /dev/null || exit 1
    colo primary colo-protect ft --pair ab --wait > "$work/protect" 2>&1 || { cat "$work/protect"; exit 1; }
    event "protected while it runs"
    load
    sleep 5
    colo primary colo-status ft | sed 's/^/             /'
}

act1() {
    title "Act 1: the primary's QEMU is killed (SIGKILL)"
    stage
    "$lab" exec primary sh -c 'kill -9 "$(cat /run/libvirt/qemu/ft.pid)"'
    event "killed"
    wait_served secondary 60
    sleep 5
    judge_load
    check_disk secondary
    wait_state secondary 120 alone protected && restart_from_disk secondary
}

act2() {
    title "Act 2: the primary host loses power (all processes and links at once)"
    stage
    "$lab" kill-host primary > /dev/null
    event "cut"
    wait_served secondary 90
    sleep 5
    judge_load
    check_disk secondary
    wait_state secondary 120 alone
    restart_from_disk secondary
    reboot_cut_host primary
}

act3() {
    title "Act 3: the secondary host loses power"
    stage
    "$lab" kill-host secondary > /dev/null
    event "cut"
    wait_state primary 90 alone && event "the primary goes on alone"
    sleep 5
    judge_load
    check_disk primary
    restart_from_disk primary
    reboot_cut_host secondary
}

title "Packages and build"
"$top/tests/packages.sh" > "$work/packages" 2>&1 || { tail -5 "$work/packages"; exit 1; }
prefix=$("$top/tests/build.sh" "$top/build/demo" | tail -1) || exit 1
echo "  installed in $prefix"
for act in "${acts[@]}"; do
    bad_before=$bad
    "act$act"
    [ "$bad" = "$bad_before" ] && title "Act $act: passed" || title "Act $act: FAILED"
done
[ $bad = 0 ] && title "Demo: passed" || title "Demo: FAILED"
[ $bad = 0 ]
