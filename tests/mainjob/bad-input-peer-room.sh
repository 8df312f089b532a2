#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# A peer without the memory or the space that a copy needs: prepare tells it, protect is refused with
# what is there, what is needed and the remedy, and nothing changed on either host.
. "$(dirname "$0")/lib.sh"
need_unprotected
load_start
qemu=$(qemu_pid $P)
IMAGES=/var/lib/libvirt/images
SMALL=/var/cache/libvirt/small

# fails PATTERN COMMAND ARGUMENT...: with exit code 1 and that error.
fails() {
    local pattern=$1 out rc
    shift
    out=$(colo $P "$@" 2>&1)
    rc=$?
    is $rc 1 && grep -qE "error: .*$pattern" <<< "$out" || { echo "exit $rc: $out"; return 1; }
}
refused() { fails "$1" colo-protect "${2:-ft}" --pair $PAIR --wait; }
# tells PATTERN DOMAIN: colo-prepare succeeds and lists that as not done.
tells() {
    local out
    out=$(colo $P colo-prepare "$2" --pair $PAIR 2>&1) && grep -E "$1" <<< "$out" | grep -q "no *$" || { echo "$out"; return 1; }
}
untouched() { wait_for 20 unprotected && is "$(qemu_pid $P)" "$qemu" && answers_go_on 3; }
# A file system of $1 MiB over the images of the peer.
small() {
    on $S sh -c 'truncate -s "$1M" "$2" && mkfs.ext4 -q -F -m 0 "$2" && mount -o loop "$2" "$3"' sh "$1" $SMALL $IMAGES
}
large() { on $S sh -c 'umount "$1" && rm "$2"' sh $IMAGES $SMALL; }
no_file() { not on $S sh -c "ls $IMAGES | grep raw"; }
# define NAME SED...: the guest's definition under another name, changed, without disk, NIC and console
# that it could share with the guest.
define() {
    local name=$1
    shift
    virsh_at $P dumpxml --inactive ft | sed -e "s/<name>ft</<name>$name</; /<uuid>/d; s#/ft\\(-console.log\\|.raw\\)#/$name\\1#" \
        -e '/<interface/,/<.interface>/d' "$@" > "$TMP/$name.xml"
    "$LAB" put $P "$TMP/$name.xml" /run/lab/$name.xml && virsh_at $P define /run/lab/$name.xml
}

# Memory: a guest with three quarters of what the host has, hardly any of it touched.
total=$(on $P sed -n 's/^MemTotal: *\([0-9]*\).*/\1/p' /proc/meminfo)
big=$((total * 3 / 4 / 1024 * 1024))
need="its copy needs $((big * 2 / 1024)) MiB of memory .*$S has [0-9]* MiB free: free memory there"
on $P truncate -s 1M $IMAGES/big.raw
quiet define big -e "s#\(<memory[^>]*>\|<currentMemory[^>]*>\)[0-9]*#\1$big#; s/131080K/${big}K/"
check "a guest with more memory than fits twice runs" virsh_at $P start big
check "memory: prepare makes its copy and tells that it will not fit" tells "$S .*domain 'big': $need" big
check "memory: protect is refused" refused "domain 'big': $need" big
check "memory: the guest goes on" is "$(virsh_at $P domstate big)" running
check "memory: no copy is left, no state either" eval \
    "not on $S virsh -q -c qemu:///system domstate big && is \"\$(colo $P colo-status big --json | json state)\" unprotected"
virsh_at $P destroy big > /dev/null
virsh_at $P undefine big > /dev/null
on $P rm $IMAGES/big.raw
on $S rm $IMAGES/big.raw
check "and nothing else changed" untouched

# Space for the copies: each of the two would fit alone.
if quiet small 100; then
    on $P truncate -s 64M $IMAGES/two.raw $IMAGES/two-2.raw
    quiet define two -e "s#<target dev='vda'.*#&</disk><disk type='file' device='disk'><driver name='qemu' type='raw'/><source file='$IMAGES/two-2.raw'/><target dev='vdb' bus='virtio'/>#"
    check "space: two copies, of which each fits alone: prepare is refused" \
        fails "domain 'two': disk vdb: storage pool 'default' of $S has [0-9]* MiB free, the copy needs up to 64 MiB beside 64 MiB .*: free space there" \
        colo-prepare two --pair $PAIR
    check "space: and has made none" no_file
    virsh_at $P undefine two > /dev/null
    on $P rm $IMAGES/two.raw $IMAGES/two-2.raw
    check "space: a copy that fits is made, prepare tells of the overlays" \
        tells "$S .*$IMAGES on $S has [0-9]* MiB free, the copy of vda may need .* 1024 for overlays" ft
    check "space: protect is refused, names the limit to lower" \
        refused "domain 'ft': $IMAGES on $S has [0-9]* MiB free, .*1024 for overlays: free space there, or lower checkpoint_max_overlay_bytes" ft
    check "and nothing changed" untouched
    configure $S checkpoint_max_overlay_bytes '"8M"'
    daemon $S restart virtcolod > /dev/null
    # Where the guest's program does not write.
    on $P dd if=/dev/urandom of=$IMAGES/ft.raw bs=1M seek=24 count=40 conv=notrunc,fsync status=none
    on $S dd if=/dev/zero of=$IMAGES/full bs=1M count=60 conv=fsync status=none
    check "space: protect is refused when the content does not fit" \
        refused "domain 'ft': $IMAGES on $S has [0-9]* MiB free, the copy of vda may need [0-9]* MiB: [45][0-9] for its content, 8 for overlays: free space there" ft
    check "and nothing changed" untouched
    on $S rm $IMAGES/full
    check "with that space free it is protected" colo $P colo-protect ft --pair $PAIR --wait
    check "unprotected" colo $P colo-unprotect ft
    large
    configure $S checkpoint_max_overlay_bytes '"1G"'
    daemon $S restart virtcolod > /dev/null
else
    skip "space on the peer" "no loop device for a small file system"
fi
check "with its own space again, it is protected" colo $P colo-protect ft --pair $PAIR --wait
check "on both hosts" wait_for 20 protected
check_load "the sessions lived through all of it"
finish
