#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# I2: a disk that is not copied any more ends the protection at once: the copy is not the guest's
# state. Its mirror loses its connection, and the peer's file system runs full. The guest goes on
# alone, and protection comes back by itself. When the primary dies before anybody has decided that,
# the copy as of its newest checkpoint goes on.
. "$(dirname "$0")/lib.sh"
IMAGES=/var/lib/libvirt/images
SMALL=/var/cache/libvirt/small

# Its NBD connection, inside QEMU. (To cancel the mirror would be no test: QEMU 7.2 may die of that
# while the guest writes, and a checkpoint starts a guest again that was stopped for it.)
cut_mirror() {
    is "$(qmp "$P" '{"execute":"yank","arguments":{"instances":[{"type":"block-node","node-name":"colo-nbd-virtio-disk0"}]}}' | json return)" '{}'
}
# The images of the peer on a file system of 100 MiB, which holds a copy of 64 and little more.
small() {
    on "$S" sh -c 'truncate -s 100M "$1" && mkfs.ext4 -q -F -m 0 "$1" && mount -o loop "$1" "$2" && truncate -s 64M "$2/ft.raw"' sh $SMALL $IMAGES
}
large() { on "$S" sh -c 'umount "$1" && rm "$2"' sh $IMAGES $SMALL; }
alone() { wait_for 30 eval "log_since $P | grep -q 'primary: alone'"; }

need_protected
load_start
remember
qemu=$(qemu_pid "$P")
check "the mirror of the disk loses its connection" cut_mirror
check "mirror cut: the primary goes on alone" alone
check "mirror cut: and serves its sessions" answers_go_on 10
check "mirror cut: protection returns by itself" protected_again
check "mirror cut: the same QEMU runs" is "$(qemu_pid "$P")" "$qemu"

remember
for host in $P $S; do daemon "$host" kill virtcolod > /dev/null; done
cut_mirror > /dev/null
daemon "$S" start virtcolod > /dev/null
sleep 2
check "nobody decides: the copy is not given up" state_is "$S" protected
on "$P" sh -c 'kill -9 "$(cat /run/libvirt/qemu/ft.pid)"'
daemon "$P" start virtcolod > /dev/null
check "the primary dies: the copy goes on" wait_for 30 state_in "$S" committing alone preparing syncing protected
check "the primary dies: and serves its sessions" answers_go_on 10
check "the primary dies: protection returns by itself" protected_again
find_roles

quiet colo "$P" colo-unprotect ft || bail "colo-unprotect"
if quiet small; then
    configure "$S" checkpoint_max_overlay_bytes '"8M"'
    daemon "$S" restart virtcolod > /dev/null
    wait_for 30 colo "$P" colo-protect ft --pair $PAIR --wait > /dev/null
    check "protected, with a peer that has little room" wait_for 20 protected
    remember
    qemu=$(qemu_pid "$P")
    on "$S" sh -c "dd if=/dev/zero of=$IMAGES/full bs=64k conv=fsync status=none; true"
    check "the peer is full: the primary goes on alone" alone
    check "the peer is full: the guest serves its sessions" answers_go_on 10
    check "the peer is full: the same QEMU runs" is "$(qemu_pid "$P")" "$qemu"
    check "the peer is full: the guest's disk is right" disk_right
    quiet colo "$P" colo-unprotect ft
    wait_for 20 not in_list "$S" > /dev/null
    large
    configure "$S" checkpoint_max_overlay_bytes '"1G"'
    daemon "$S" restart virtcolod > /dev/null
else
    skip "a peer that runs full" "no loop device for a small file system"
fi
check "with room again it is protected" eval "wait_for 30 colo $P colo-protect ft --pair $PAIR --wait && wait_for 20 protected"
check_load "every answer came, in order and right"
check "the disk is right" disk_right
finish
