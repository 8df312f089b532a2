#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# Runs inside a lab host: starts and ends its daemons.  Nothing restarts them by itself.
#   daemons.sh start|stop|kill|pause|resume|restart|status DAEMON
#   daemons.sh boot       all that start with the host
# DAEMON: libvirtd, comparator, virtcolod.  Its listeners are those of the systemd units.
set -u
. "$(cd "$(dirname "$0")" && pwd)/lib/common.sh"
. /run/lab/env

LIBVIRTD_WAIT_S=60
STOP_WAIT_S=10

pid_file() {
    echo "/run/lab/$1.pid"
}

# Program of a daemon.
program() {
    case $1 in
    libvirtd) echo /usr/sbin/libvirtd ;;
    comparator) echo "$LAB_PREFIX/sbin/colo-comparator" ;;
    virtcolod) echo "$LAB_PREFIX/sbin/virtcolod" ;;
    *) die "no such daemon: $1" "" "daemons are libvirtd, comparator and virtcolod" ;;
    esac
}

# run NAME FDEXEC-ARGUMENTS...: starts it apart from this shell and records its pid.
run() {
    local name=$1 i
    shift
    setsid "$LAB_CACHE/fdexec" -l "/var/log/$name.log" "$@" < /dev/null &
    pid_record "$(pid_file "$name")" $! || die "$name ended at once" \
        "$(tail -2 "/var/log/$name.log" 2>/dev/null)" "see /var/log/$name.log of this host"
    # fdexec becomes the program once all listeners are bound.
    for ((i = 0; i < 400; i++)); do
        pid_live "$(pid_file "$name")" > /dev/null || die "$name ended at once" \
            "$(tail -2 "/var/log/$name.log" 2>/dev/null)" "see /var/log/$name.log of this host"
        [ "$(readlink "/proc/$!/exe")" = "$(readlink -f "$LAB_CACHE/fdexec")" ] || return 0
        sleep 0.01
    done
    die "$name did not start" "fdexec still runs" "see /var/log/$name.log of this host"
}

start() {
    local bin user=nobody listen=
    bin=$(program "$1") || exit 1
    pid_live "$(pid_file "$1")" > /dev/null && return 0
    [ -x "$bin" ] || die "cannot start $1" "$bin is not there" \
        "lab up --prefix DIR with DIR a make install tree"
    case $1 in
    libvirtd)
        rm -f /run/libvirtd.pid
        # It listens for TLS where its file says so, which only counts with this option.
        grep -q '^listen_tls = 1' /etc/libvirt/libvirtd.conf && listen=--listen
        run libvirtd -- "$bin" -p /run/libvirtd.pid $listen
        wait_for $LIBVIRTD_WAIT_S virsh -q -c qemu:///system list || die "libvirtd does not answer" \
            "$(tail -2 /var/log/libvirtd.log)" "see /var/log/libvirtd.log and /var/log/libvirt"
        ;;
    comparator)
        getent passwd colo-comparator > /dev/null && user=colo-comparator
        mkdir -p /run/libvirt-colo
        run comparator --unix control=/run/libvirt-colo/comparator-sock:0600 \
            --tcp data=0.0.0.0:16515 -- "$bin" --user "$user"
        ;;
    virtcolod)
        mkdir -p /run/libvirt /run/libvirt-colo
        # The host's own file, whatever sysconfdir the prefix was configured with.
        run virtcolod --unix rpc=/run/libvirt/virtcolod-sock:0777 \
            --unix rpc-ro=/run/libvirt/virtcolod-sock-ro:0777 --tcp control=0.0.0.0:16516 \
            -- "$bin" --config /etc/libvirt-colo/virtcolod.conf ${LAB_VIRTCOLOD_ARGS:-}
        ;;
    esac
}

stop() {
    local pid file
    file=$(pid_file "$1")
    pid=$(pid_live "$file") || return 0
    kill -CONT "$pid"
    kill -TERM "$pid"
    wait_for $STOP_WAIT_S not_live "$file" ||
        die "$1 did not stop" "still running $STOP_WAIT_S s after SIGTERM" "lab daemon $LAB_HOST kill $1"
    rm -f "$file"
}

not_live() {
    ! pid_live "$1"
}

status() {
    local pid state
    if pid=$(pid_live "$(pid_file "$1")"); then
        state=$(awk '/^State:/ {print $2}' "/proc/$pid/status")
        [ "$state" = T ] && echo "$1 paused $pid" || echo "$1 running $pid"
    else
        echo "$1 stopped"
    fi
}

action=${1:-} name=${2:-}
case $action in
boot)
    start libvirtd
    [ -n "$LAB_PREFIX" ] || exit 0
    start comparator
    start virtcolod
    exit
    ;;
esac
program "$name" > /dev/null || exit 1
case $action in
start | stop | status) "$action" "$name" ;;
restart) stop "$name" && start "$name" ;;
kill) pid_kill "$(pid_file "$name")" KILL ;;
pause) pid_kill "$(pid_file "$name")" STOP ;;
resume) pid_kill "$(pid_file "$name")" CONT ;;
*) die "no such action: $action" "" "actions are start stop kill pause resume restart status" ;;
esac
