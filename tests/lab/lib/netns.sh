# SPDX-License-Identifier: LGPL-2.1-or-later
# shellcheck shell=bash
# Back-end netns: a host is a set of namespaces of this machine.

netns_host_start() {
    local host=$1 pid init
    ns_add "$host"
    plug "$host" eth0 pair
    plug "$host" eth1 vm
    spawn "host-$host" "$LAB_STATE/log/$host/console" ip netns exec "$(ns_name "$host")" \
        unshare --pid --fork --kill-child --mount --mount-proc --uts --ipc \
        bash "$LAB_SRC/lib/hostinit" "$LAB_STATE/env-$host"
    wait_for 5 netns_find_init "$host" || die "host $host did not start" \
        "$(tail -1 "$LAB_STATE/log/$host/console")" "see $LAB_STATE/log/$host/console"
}

# Records the host's process 1 (the only child of unshare), as this machine sees it.
netns_find_init() {
    local pid init
    pid=$(pid_live "$LAB_STATE/pids/host-$1") || return 1
    init=$(pgrep -P "$pid") || return 1
    pid_record "$LAB_STATE/pids/init-$1" "$init"
}

netns_host_live() {
    pid_live "$LAB_STATE/pids/init-$1"
}

netns_host_kill() {
    ports_down "$1"
    pid_kill "$LAB_STATE/pids/init-$1" KILL || die "host $1 did not die" "" "lab down"
    pid_kill "$LAB_STATE/pids/host-$1" KILL
    ns_exists "$1" && ip netns del "$(ns_name "$1")"
    # The ports vanish with the namespace's end of the cable; that end may linger a moment.
    wait_for 5 ports_gone "$1" || die "the ports of $1 are still there" "" "lab down"
}

ports_gone() {
    local sw port
    sw=$(ns_name switch)
    for port in "pair-$1" "vm-$1"; do
        ip -n "$sw" link del "$port" 2> /dev/null
        ip -n "$sw" link show "$port" > /dev/null 2>&1 && return 1
    done
    return 0
}

netns_host_exec() {
    local pid host=$1
    shift
    pid=$(netns_host_live "$host") || die "host $host is not running" "" "lab reboot $host"
    exec nsenter -t "$pid" -m -u -i -n -p -- "${EXEC_ENV[@]}" "$@"
}
