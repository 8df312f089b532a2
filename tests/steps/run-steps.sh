#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# Runs steps-driver against two libvirtds of its own, each in a network and a mount namespace, with
# TCG guests (and the two workarounds of the lab). TAP on standard output.
#   run-steps.sh PATH/TO/steps-driver [arguments of it]
# Needs root, libvirtd, qemu-system-x86_64. Everything is removed at the end, also on Ctrl-C.
set -u
here=$(cd "$(dirname "$0")" && pwd)
driver=${1:-${abs_top_builddir:-.}/tests/steps/steps-driver}
[ $# -gt 0 ] && shift

skip() {
    echo "1..0 # SKIP $1"
    exit 0
}
[ "$(id -u)" = 0 ] || skip "needs root"
for program in libvirtd qemu-system-x86_64 qemu-img virsh ip unshare gcc; do
    command -v "$program" > /dev/null || skip "$program is missing"
done
[ -x "$driver" ] || { echo "Bail out! $driver is not there"; exit 1; }

work=$(mktemp -d /var/tmp/colo-steps.XXXXXX)
net=cst$$
pids=

# Ends every QEMU of the host in folder $1 by its pid file, then its libvirtd.
end_host() {
    local file pid
    for file in "$1"/run/libvirt/qemu/*.pid; do
        pid=$(cat "$file" 2> /dev/null) || continue
        [ "$(readlink "/proc/$pid/exe")" = "$(readlink -f "$(command -v qemu-system-x86_64)")" ] &&
            grep -qz "$work" "/proc/$pid/environ" && kill -KILL "$pid"
    done
}
cleanup() {
    trap - EXIT INT TERM
    for host in p s; do end_host "$work/$host"; done
    for pid in $pids; do kill -TERM "$pid" 2> /dev/null; done
    for pid in $pids; do wait "$pid" 2> /dev/null; done
    for name in w p s; do ip netns del "$net$name" 2> /dev/null; done
    if [ -n "${COLO_KEEP:-}" ]; then echo "# kept: $work"; else rm -rf "$work"; fi
}
trap cleanup EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

lab=$here/../lab
guest=$("$lab/guest/build" 2> "$work/guest.log") || skip "no test guest: $(tail -1 "$work/guest.log")"
gcc -shared -fPIC -O2 -o "$work/bqlfix.so" "$lab/tcg/bqlfix.c" -ldl || exit 1

set -e
for name in w p s; do
    ip netns add "$net$name"
    ip -n "$net$name" link set lo up
    ip netns exec "$net$name" sysctl -qw net.ipv6.conf.default.disable_ipv6=1
    ip -n "$net$name" link add br0 type bridge forward_delay 0
    ip -n "$net$name" link set br0 up
done
ip -n "${net}w" addr add 10.9.0.1/24 dev br0
for name in p s; do
    ip link add "up$name$$" netns "${net}w" type veth peer name uplink netns "$net$name"
    ip -n "${net}w" link set "up$name$$" master br0 up
    ip -n "$net$name" link set uplink master br0 up
    ip netns exec "$net$name" unshare -m "$here/host.sh" "$work/$name" > "$work/$name.log" 2>&1 &
    pids="$pids $!"
done
set +e
for name in p s; do
    for ((i = 0; i < 200; i++)); do
        virsh -q -c "qemu+unix:///system?socket=$work/$name/run/libvirt/libvirt-sock" list \
            > /dev/null 2>&1 && break
        sleep 0.1
    done
done
export COLO_STEPS_DIR=$work COLO_STEPS_GUEST=$guest COLO_STEPS_NET=$net
ip netns exec "${net}w" "$driver" --tap "$@"
