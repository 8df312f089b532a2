#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# A NIC on vhost is refused, named, with its remedy; colo-prepare --fix changes it for the next start.
. "$(dirname "$0")/lib.sh"
need_unprotected
mac=$(virsh_at $P domiflist ft | awk '/br0/ {print $5}')
virsh_at $P dumpxml --inactive ft > "$TMP/good.xml"
# Without a driver libvirt uses vhost where there is KVM.
grep -v "<driver name='qemu'/>" "$TMP/good.xml" > "$TMP/vhost.xml"
"$LAB" put $P "$TMP/vhost.xml" /run/lab/vhost.xml
"$LAB" put $P "$TMP/good.xml" /run/lab/good.xml
check "the definition does not keep its NIC from vhost" virsh_at $P define /run/lab/vhost.xml
if [ "$(accel)" = kvm ]; then
    virsh_at $P destroy ft > /dev/null
    check "the guest starts with it" virsh_at $P start ft
    refusal=$(not colo $P colo-protect ft --pair $PAIR --wait 2>&1)
    check "protect is refused: names the NIC, vhost and the remedy" eval \
        'grep -q "error: .*interface.*$mac.*vhost.*driver name=.qemu" <<< "$refusal" || { echo "$refusal"; false; }'
else
    skip "protect is refused: names the NIC, vhost and the remedy" "hardware: emulated guests are never on vhost"
fi
found=$(colo $P colo-prepare ft --pair $PAIR 2>&1)
check "colo-prepare tells of vhost and of --fix" eval \
    'grep vhost <<< "$found" | grep -q -e --fix || { echo "$found"; false; }'
check "colo-prepare --fix" colo $P colo-prepare ft --pair $PAIR --fix
check "the definition keeps its NIC from vhost" eval \
    'virsh_at $P dumpxml --inactive ft | grep -A9 "<interface" | grep -q "driver name=.qemu"'
[ "$(accel)" != kvm ] || { virsh_at $P destroy ft && virsh_at $P start ft; } > /dev/null
virsh_at $P define /run/lab/good.xml > /dev/null
check "nothing of ours is in the guest" wait_for 20 plain_guest $P
finish
