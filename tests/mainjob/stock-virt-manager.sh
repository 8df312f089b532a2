#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# virt-manager, with both URIs by which it reaches us: the connection, a protected guest and its details
# as its accessibility tree says them, a refusal with its remedy, and a pause, which interrupts the
# protection (virt-manager-reader.py).
# Pictures: build/pictures, or $MJ_PICTURES.
. "$(dirname "$0")/lib.sh"
PICTURES=${MJ_PICTURES:-$MJ_DIR/../../build/pictures}

# session NAME URI: what was seen, in $TMP/NAME
session() {
    mkdir -p -m 700 "$TMP/home-$1"
    on "$P" env HOME="$TMP/home-$1" timeout 150 /usr/bin/python3 "$MJ_DIR/virt-manager-reader.py" "$2" ft "$PICTURES/virt-manager-$1" \
        sh -c "virsh -q -c qemu:///system domstate ft; '$VIRSH_COLO' colo-status ft" > "$TMP/$1" 2> "$TMP/$1.err" && return
    cat "$TMP/$1"
    tail -n 5 "$TMP/$1.err" "$TMP/home-$1/virt-manager.log"
    return 1
}

# seen NAME LINE: exactly; seen_with NAME WORDS
seen() { grep -qxF -- "$2" "$TMP/$1" || { cat "$TMP/$1"; return 1; }; }
seen_with() { grep -q -- "$2" "$TMP/$1" || { cat "$TMP/$1"; return 1; }; }
picture_of() { [ "$(head -c 8 "$1" | od -An -tx1 | tr -d ' \n')" = 89504e470d0a1a0a ] && at_least "$(wc -c < "$1")" 10000 bytes; }

for part in virt-manager Xvfb dbus-run-session; do command -v $part > /dev/null || bail "$part is installed"; done
mkdir -p "$PICTURES"
while read -r name uri label; do
    need_protected
    remember
    rm -f "$PICTURES/virt-manager-$name"-*.png
    check "$uri: virt-manager shows it, is refused a change, and pauses it" session "$name" "$uri"
    check "$uri: the connection is '$label'" seen "$name" "connection: $label"
    check "$uri: the protected guest is listed, running" seen "$name" "listed: ft Running"
    check "$uri: its details have a window" seen "$name" "details: ft on $label"
    check "$uri: its UUID" seen "$name" "overview: c0100000-0000-4000-8000-0000000000f7"
    check "$uri: its hypervisor" seen_with "$name" '^overview: \(QEMU TCG\|KVM\)$'
    check "$uri: its disk" seen "$name" "hardware: VirtIO Disk 1"
    check "$uri: its card" seen "$name" "hardware: NIC :77:00:10"
    check "$uri: a change is refused with the command that helps" seen_with "$name" "^refused: .*virsh-colo colo-unprotect ft"
    check "$uri: Pause works, and is seen" seen_with "$name" "^status: Paused"
    check "$uri: libvirt says so too" seen "$name" paused
    check "$uri: the protection was interrupted for it" seen_with "$name" "^State: *alone"
    check "$uri: the guest runs again" is "$(virsh_at "$P" domstate ft)" running
    check "$uri: protected again, by itself" protected_again
    check "$uri: nothing of the refused change is there" not grep -q "never set" <<< "$(virsh_at "$P" dumpxml ft)"
    for picture in connection details refused; do
        check "$uri: a picture: $picture" picture_of "$PICTURES/virt-manager-$name-$picture.png"
    done
done << 'LIST'
colo colo:///system colo
socket qemu+unix:///system?socket=/run/libvirt/virtcolod-sock QEMU/KVM
LIST
finish
