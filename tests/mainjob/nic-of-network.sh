#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# A NIC of a libvirt network: each host has a network of that name with a bridge of its own. The
# takeover plugs the guest into it at once, and the survivor's definition names the network.
. "$(dirname "$0")/lib.sh"
NET="<network><name>lan</name><forward mode='bridge'/><bridge name='br0'/></network>"

net_up() { on "$1" sh -c "echo \"$NET\" > /run/lab/lan.xml && virsh -q net-define /run/lab/lan.xml && virsh -q net-start lan"; }
use_network() {
    virsh_at "$P" dumpxml --inactive ft |
        sed "s/<interface type='bridge'>/<interface type='network'>/; s/<source bridge='br0'\/>/<source network='lan'\/>/" > "$TMP/ft.xml"
    grep -q "network='lan'" "$TMP/ft.xml" && "$LAB" put "$P" "$TMP/ft.xml" /run/lab/ft.xml &&
        virsh_at "$P" destroy ft && virsh_at "$P" define /run/lab/ft.xml && virsh_at "$P" start ft
}
plugged_in() {
    on "$1" sh -c 'for tap in $(virsh -q domiflist ft | cut -d" " -f2); do
        basename "$(readlink "/sys/class/net/$tap/master")"; done' | grep -qx br0
}
refused() {
    local out
    out=$(colo "$P" colo-protect ft --pair $PAIR --wait 2>&1) && { echo "it was protected"; return 1; }
    grep -q "$1" <<< "$out" || { echo "$out"; return 1; }
}

need_unprotected
touch "$DIRTY" # the next test wants the lab's own guest
quiet net_up "$P" && quiet net_up "$S" && quiet use_network || bail "a guest on a libvirt network"
wait_for 60 eval 'is "$(guest_disk ready)" 1' > /dev/null || bail "the guest boots"
load_start
quiet virsh_at "$S" net-destroy lan
check "the network is not active on the peer: names both" refused "'lan' is not active on $S"
check "and nothing changed" wait_for 20 unprotected
quiet virsh_at "$S" net-start lan
check "protected" colo "$P" colo-protect ft --pair $PAIR --wait
check "on both hosts" wait_for 20 protected
remember
on "$P" sh -c 'kill -9 "$(cat /run/libvirt/qemu/ft.pid)"'
check "the secondary goes on for the same client" answers_go_on 10
say "figure nic-of-network gap ms: $(worst_gap)"
check "its tap is on the network's bridge" plugged_in "$S"
check "the merge ends" wait_for 30 state_in "$S" alone preparing syncing protected
check "the survivor's definition names the network" grep -q "<source network='lan'" <<< \
    "$(virsh_at "$S" dumpxml --inactive ft)"
check "protection comes back" protected_again
check_load "every answer came, in order and right"
check "the disk is right" disk_right
finish
