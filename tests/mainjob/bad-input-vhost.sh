#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# A NIC on vhost is refused: named, with its remedy.  colo-prepare --fix changes it for the next start.
. "$(dirname "$0")/lib.sh"
need_unprotected
[ -c /dev/vhost-net ] || [ "$BACKEND" = kvm ] || say "no /dev/vhost-net: only the definition is judged"
mac=$(virsh_at $P domiflist ft | awk '/br0/ {print $5}')
virsh_at $P dumpxml --inactive ft | sed -e "s,<driver name='qemu'/>,<driver name='vhost'/>," > "$TMP/ft.xml"
cp "$TMP/ft.xml" "$TMP/vhost.xml"
virsh_at $P dumpxml --inactive ft > "$TMP/good.xml"
"$LAB" put $P "$TMP/vhost.xml" /run/lab/vhost.xml
check "the definition has a NIC on vhost" virsh_at $P define /run/lab/vhost.xml
found=$(colo $P colo-prepare ft --pair $PAIR 2>&1)
check "colo-prepare names the NIC and vhost" eval 'grep -i vhost <<< "$found" | grep -q "$mac" || { echo "$found"; false; }'
check "colo-prepare --fix" colo $P colo-prepare ft --pair $PAIR --fix
check "the definition has none any more" eval "not grep -q vhost <<< \"\$(virsh_at $P dumpxml --inactive ft)\""
"$LAB" put $P "$TMP/good.xml" /run/lab/good.xml
virsh_at $P define /run/lab/good.xml > /dev/null
check "the running guest was not touched" unprotected
finish
