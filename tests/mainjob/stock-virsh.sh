#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# Stock virsh at colo:///system says what it says at qemu:///system: the same commands at both, the
# outputs side by side. Calls, streams, file descriptors and events go through virtcolod.
. "$(dirname "$0")/lib.sh"
VOL=stock-virsh-vol

at() { local uri=$1; shift; on "$P" timeout 60 virsh -q -c "$uri:///system" "$@" 2>&1; }

# same COMMAND...: at both URIs, exit code included. The URI itself is the difference.
same() {
    local uri
    for uri in qemu colo; do
        { at $uri "$@"; echo "exit $?"; } | sed 's,colo:///,qemu:///,' > "$TMP/out.$uri"
    done
    diff "$TMP/out.qemu" "$TMP/out.colo"
}

# works COMMAND...: at colo:///system.
works() { at colo "$@"; }

upload_and_back() {
    local rc
    on "$P" sh -c 'head -c 8388608 /dev/urandom > /tmp/up' &&
        works vol-create-as default $VOL 8M --format raw &&
        works vol-upload $VOL /tmp/up --pool default &&
        works vol-download $VOL /tmp/down --pool default && on "$P" cmp /tmp/up /tmp/down
    rc=$?
    works vol-delete $VOL --pool default > /dev/null
    on "$P" rm -f /tmp/up /tmp/down
    return $rc
}

# What a client of colo:/// hears of a suspend that another one does.
hears_events() {
    "$LAB" exec "$P" timeout 30 virsh -q -c colo:///system event ft lifecycle --loop --timeout 6 < /dev/null > "$TMP/events" 2>&1 &
    local watcher=$!
    sleep 2
    at qemu suspend ft > /dev/null && at qemu resume ft > /dev/null
    wait $watcher
    grep -q Suspended "$TMP/events" && grep -q Resumed "$TMP/events" || { cat "$TMP/events"; return 1; }
}

need_unprotected
check "it opens, and says its own URI" is "$(at colo uri)" "colo:///system"

# What is there is looked at (virsh-looks.commands), and a spare domain lives, with its storage, a network,
# a secret and a filter (virsh-life.commands).
FOLDER=/var/lib/libvirt/spare-files
life_files() {
    local dir=$TMP/life type=qemu
    mkdir "$dir"
    [ "$(accel)" = kvm ] && type=kvm
    cat > "$dir/pool.xml" << X
<pool type='dir'><name>spare-pool</name><uuid>c0100000-0000-4000-8000-0000000000b1</uuid><target><path>/var/lib/libvirt/spare</path></target></pool>
X
    cat > "$dir/vol.xml" << X
<volume><name>spare.raw</name><capacity unit='MiB'>1</capacity><target><format type='raw'/></target></volume>
X
    sed 's,spare.raw,spare-from.raw,' "$dir/vol.xml" > "$dir/vol-from.xml"
    cat > "$dir/net.xml" << X
<network><name>spare-net</name><uuid>c0100000-0000-4000-8000-0000000000b2</uuid><bridge name='spare0' stp='off' delay='0'/><mac address='52:54:00:77:00:3f'/></network>
X
    cat > "$dir/secret.xml" << X
<secret ephemeral='yes' private='no'><uuid>c0100000-0000-4000-8000-0000000000b3</uuid><description>spare</description></secret>
X
    cat > "$dir/filter.xml" << X
<filter name='spare-filter' chain='root'><uuid>c0100000-0000-4000-8000-0000000000b4</uuid><rule action='drop' direction='in' priority='500'><tcp dstportstart='25'/></rule></filter>
X
    cat > "$dir/backup.xml" << X
<domainbackup><disks><disk name='vda' type='file'><target file='$FOLDER/backup.qcow2'/><driver type='qcow2'/></disk></disks></domainbackup>
X
    cat > "$dir/spare.xml" << X
<domain type='$type'><name>spare</name><uuid>c0100000-0000-4000-8000-0000000000b0</uuid><memory unit='MiB'>96</memory><vcpu>1</vcpu>
<os><type arch='x86_64' machine='pc-i440fx-7.2'>hvm</type></os><features><acpi/></features><on_reboot>restart</on_reboot><devices>
<disk type='file' device='disk'><driver name='qemu' type='qcow2'/><source file='/var/lib/libvirt/spare/spare.qcow2'/><target dev='vda' bus='virtio'/></disk>
<interface type='bridge'><mac address='52:54:00:77:00:30'/><source bridge='br0'/><model type='virtio'/></interface>
<serial type='pty'/><graphics type='vnc' port='-1' autoport='yes' listen='127.0.0.1'/><video><model type='vga'/></video><memballoon model='none'/>
</devices></domain>
X
}

# script URI NAME: what the Nth command of virsh-NAME.commands said, in $TMP/NAME.URI.N. What virsh
# capabilities and domcapabilities say of COLO is the one difference: it is looked at by itself below.
script() {
    "$LAB" exec "$P" timeout 200 "$MJ_DIR/virsh-script.sh" "$1:///system" $FOLDER < "$MJ_DIR/virsh-$2.commands" 2>&1 |
        sed '/^  <colo:protection /,/^  <\/colo:protection>/d' |
        awk -v out="$TMP/$2.$1." '/^@@ /{ close(out n); n++ } { print > (out n) }'
}

same_part() { grep -qxF -- "@@ $3" "$TMP/$1.qemu.$2" && diff "$TMP/$1.qemu.$2" "$TMP/$1.colo.$2"; }

# both NAME: all of it at qemu:///system, then all of it at colo:///system.
both() {
    local uri line n=0 failing=0
    for uri in qemu colo; do
        on "$P" sh -c "rm -rf $FOLDER /var/lib/libvirt/spare && mkdir $FOLDER" || return 1
        for file in "$TMP"/life/*.xml; do "$LAB" put "$P" "$file" "$FOLDER/$(basename "$file")" || return 1; done
        script $uri "$1"
    done
    while IFS= read -r line; do
        n=$((n + 1))
        check "virsh $line" same_part "$1" $n "$line"
        grep -q 'exit 0$' "$TMP/$1.qemu.$n" || failing=$((failing + 1))
    done < "$MJ_DIR/virsh-$1.commands"
    say "$n commands, of which $failing fail at qemu:///system too"
}

life_files
both looks
both life
for line in capabilities domcapabilities; do
    check "virsh $line announces COLO" grep -q "<colo:protection .*supported='yes'" <<< "$(at colo $line)"
done

# A console, both ways: what the guest says as it boots, and what is typed, which its terminal echoes.
console_talks() {
    local cache
    cache=$("$LAB" path cache)/guest
    sed "s,<name>spare<,<name>talker<,; s,b0</uuid>,b5</uuid>,; /<disk /d; /<interface /d; s,</os>,<kernel>$cache/vmlinuz</kernel><initrd>$cache/initrd</initrd><cmdline>console=ttyS0 quiet gip=10.9.0.20</cmdline></os>," \
        "$TMP/life/spare.xml" > "$TMP/talker.xml"
    "$LAB" put "$P" "$TMP/talker.xml" $FOLDER/talker.xml && works create $FOLDER/talker.xml --paused || return 1
    on "$P" timeout 60 expect -c 'set timeout 30
        spawn virsh -c colo:///system console talker
        expect "Escape character"
        exec virsh -q -c qemu:///system resume talker
        expect "GUEST-READY" {} timeout { exit 1 } eof { exit 2 }
        send "round-trip"
        expect "round-trip" {} timeout { exit 3 } eof { exit 4 }
        send "\x1d"
        expect eof {} timeout { exit 5 }'
    local rc=$?
    at qemu destroy talker > /dev/null
    return $rc
}
check "virsh console, both ways" console_talks
on "$P" rm -rf $FOLDER /var/lib/libvirt/spare
check "suspended by one, seen by the other" eval 'works suspend ft > /dev/null && same domstate ft --reason && is "$(at qemu domstate ft)" paused'
check "and resumed" eval 'works resume ft > /dev/null && same domstate ft --reason && is "$(at qemu domstate ft)" running'
check "QEMU's monitor" is "$(at colo qemu-monitor-command ft '{"execute":"query-name"}' | json return name)" ft
check "a volume through streams, there and back" upload_and_back
check "events of another client's doing" hears_events
# The descriptor goes to virtcolod, to libvirtd and to QEMU, which knows it by its name then.
passes_fd() {
    on "$P" sh -c 'exec 7< /etc/hostname
        virsh -q -c colo:///system qemu-monitor-command ft --pass-fds 7 "{\"execute\":\"getfd\",\"arguments\":{\"fdname\":\"stock\"}}"
        virsh -q -c colo:///system qemu-monitor-command ft "{\"execute\":\"closefd\",\"arguments\":{\"fdname\":\"stock\"}}"' > "$TMP/fd" 2>&1
    is "$(grep -c '"return":{}' "$TMP/fd")" 2
}
check "a file descriptor reaches QEMU" passes_fd
at_ro() { on "$P" timeout 60 virsh -r -q -c "$1:///system" "${@:2}" 2>&1; }
read_only() {
    is "$(at_ro colo domstate ft)" running && is "$(at_ro colo list --all --name)" "$(at_ro qemu list --all --name)" &&
        is "$(at_ro colo destroy ft | tail -1)" "$(at_ro qemu destroy ft | tail -1)" && is "$(at_ro qemu domstate ft)" running
}
check "virsh -r: it looks, and is refused the rest in libvirt's words" read_only
nobody() { on "$P" setpriv --reuid 65534 --regid 65534 --clear-groups timeout 60 virsh -q "$@" 2>&1; }
check "anybody may look" is "$(nobody -r -c colo:///system domstate ft)" running
check "and nobody else may do more" eval '! nobody -c colo:///system destroy ft && is "$(at qemu domstate ft)" running'
check "virsh-colo: one line of both doors' commands" eval \
    'out=$(colo "$P" -q "domstate ft; colo-pair-list") && grep -qx running <<< "$out" && grep -q secondary <<< "$out"'
check "virsh-colo -r looks and changes nothing" eval \
    'is "$(colo "$P" -r -q domstate ft)" running && ! colo "$P" -r colo-pair-undefine $PAIR && colo "$P" -r colo-pair-list'
check "it completes domains" grep -qx ft <<< "$(colo "$P" complete -- colo-status f)"
finish
