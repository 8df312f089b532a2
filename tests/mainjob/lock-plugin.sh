#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# colo.so in stock libvirtd (lock_manager = "colo"): who goes to qemu:/// behind virtcolod's back cannot
# start a fenced domain, with virtcolod or without; protection, switchover, takeover and guests that COLO
# has nothing to do with are as ever.
. "$(dirname "$0")/lib.sh"
PLUGINS=$(dirname "$(find /usr/lib -path '*/libvirt/lock-driver/lockd.so' | head -1)")
OURS=$PREFIX/lib/libvirt/lock-driver/colo.so

plugin_on() {
    on "$1" sh -c 'mkdir -p /run/lab/lock-driver && cp "$1"/*.so "$2" /run/lab/lock-driver/ && mount --bind /run/lab/lock-driver "$1" &&
        echo "lock_manager = \"colo\"" >> /etc/libvirt/qemu.conf &&
        printf "socket = \"/run/libvirt/virtcolod-sock\"\nstate_dir = \"/var/lib/libvirt-colo\"\n" > /etc/libvirt/qemu-colo.conf' sh "$PLUGINS" "$OURS" &&
        daemon "$1" restart libvirtd
}
plugin_off() {
    # The loaded plugins keep their folder busy.
    on "$1" sh -c 'sed -i /^lock_manager/d /etc/libvirt/qemu.conf; rm -f /etc/libvirt/qemu-colo.conf' &&
        daemon "$1" restart libvirtd && on "$1" umount "$PLUGINS"
}

# refused HOST TEXT COMMAND...: libvirt at qemu:/// does not do it, and says why.
refused() {
    local host=$1 text=$2 out
    shift 2
    ! out=$(virsh_at "$host" "$@" 2>&1) || { echo "it was done: $out"; return 1; }
    grep -qF "$text" <<< "$out" || { echo "$out"; return 1; }
}

# A guest that nobody protects, with nothing in it.
other_starts() {
    on "$1" sh -c 'cat > /tmp/other.xml << X
<domain type="qemu"><name>other</name><memory>16384</memory><os><type arch="x86_64">hvm</type></os>
<devices><emulator>/usr/bin/qemu-system-x86_64</emulator></devices></domain>
X
        virsh -q -c qemu:///system create /tmp/other.xml && virsh -q -c qemu:///system suspend other &&
        virsh -q -c qemu:///system resume other && virsh -q -c qemu:///system destroy other'
}

[ -e "$OURS" ] || bail "colo.so is in $OURS"
[ "$PLUGINS" != . ] || bail "libvirt's lock managers are installed"
need_protected
load_start 50
for host in $P $S; do check "libvirtd of $host takes the plugin" plugin_on "$host"; done
check "protection went on" eval 'protected && no_state_change'
check "an unprotected guest starts, pauses, resumes" other_starts "$P"
old=$P
generation=$(field "$P" generation)
colo "$P" colo-switchover ft > /dev/null || bail "colo-switchover"
check "the other host goes on" wait_for 30 eval "in_list '$S' && not in_list '$old'"
new=$S
daemon "$new" stop virtcolod # else it protects again in a moment, and a copy runs on the old one by right
check "the old one may not start it" refused "$old" "may not run here" start ft
daemon "$old" stop virtcolod
check "nor without virtcolod" refused "$old" "is under COLO (fenced), and virtcolod" start ft
check "an unprotected guest starts without virtcolod" other_starts "$old"
daemon "$old" start virtcolod
daemon "$new" start virtcolod
check "protected again, through the plugin" wait_for 90 protected
find_roles
check "of a newer generation" at_least "$(field "$P" generation)" $((generation + 1)) generation
# The end of QEMU: the copy goes on, libvirt did not ask for its start.
on "$P" sh -c 'kill -9 "$(cat /run/libvirt/qemu/ft.pid)"'
check "a takeover is not in its way" wait_for 30 eval "in_list '$S' && not in_list '$P'"
check "protected again" wait_for 90 protected
find_roles
check_load "every answer came, in order and right"
check "the disk is right" disk_right
check "protection ends" colo "$P" colo-unprotect ft
check "then libvirt may pause and resume it" eval 'virsh_at "$P" suspend ft && virsh_at "$P" resume ft'
for host in $P $S; do check "libvirtd of $host without it again" plugin_off "$host"; done
find_roles
finish
