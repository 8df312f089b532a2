#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# Nobody can do through colo:///system what qemu:///system refuses him: root, a member of the group
# libvirt and somebody who is not, at the socket for all and at the read-only one, with access by the
# socket's group, by polkit (yes and no), and with libvirt's access control by identity. The same
# calls at both URIs give the same answers, refusals included.
. "$(dirname "$0")/lib.sh"
USERS="root colo-member colo-other"
RULES=/etc/polkit-1/rules.d/00-access-matrix.rules
LIBVIRTD_CONF=/etc/libvirt/libvirtd.conf

# --- the host: users, a bus and polkit of its own ------------------------------------------------

host_up() {
    on "$P" sh -c '
        set -e
        grep -q "^colo-member:" /etc/passwd || {
            echo "colo-member:x:60123:60123::/:/bin/sh" >> /etc/passwd; echo "colo-member:x:60123:" >> /etc/group
            echo "colo-other:x:60124:60124::/:/bin/sh" >> /etc/passwd; echo "colo-other:x:60124:" >> /etc/group
            sed -i "s/^\(libvirt:[^:]*:[^:]*:\)\(.*\)/\1\2,colo-member/; s/:,/:/" /etc/group
        }
        cp -p '$LIBVIRTD_CONF' /run/access-libvirtd.conf
        cp -p '$CONF' /run/access-virtcolod.conf
        mkdir -p /run/dbus; rm -f /run/dbus/pid
        dbus-daemon --system --fork --print-pid > /run/access-dbus.pid'
}

polkit_restart() {
    on "$P" sh -c '
        [ ! -s /run/access-polkit.pid ] || { kill $(cat /run/access-polkit.pid); sleep 0.2; }
        /usr/lib/polkit-1/polkitd --no-debug > /var/log/polkitd.log 2>&1 < /dev/null & echo $! > /run/access-polkit.pid'
    wait_for 10 on "$P" pkcheck --action-id org.libvirt.unix.monitor --process $$ --list-temp > /dev/null 2>&1
    wait_for 10 on "$P" sh -c 'dbus-send --system --print-reply --dest=org.freedesktop.DBus / org.freedesktop.DBus.ListNames |
        grep -q org.freedesktop.PolicyKit1'
}

host_down() {
    on "$P" sh -c '
        rm -f '$RULES'
        for file in polkit dbus; do [ ! -s /run/access-$file.pid ] || kill $(cat /run/access-$file.pid); rm -f /run/access-$file.pid; done
        [ ! -s /run/access-libvirtd.conf ] || mv /run/access-libvirtd.conf '$LIBVIRTD_CONF'
        [ ! -s /run/access-virtcolod.conf ] || mv /run/access-virtcolod.conf '$CONF > /dev/null 2>&1
    daemon "$P" restart libvirtd > /dev/null 2>&1
    daemon "$P" restart virtcolod > /dev/null 2>&1
}
trap 'host_down; cleanup' EXIT

# setting NAME AUTH LINES RULES MODE: what libvirt, virtcolod and polkit are told, and the mode of our
# socket, which is systemd's matter elsewhere.
setting() {
    local key
    say "$1"
    on "$P" sh -c 'cp -p /run/access-libvirtd.conf '$LIBVIRTD_CONF'; cp -p /run/access-virtcolod.conf '$CONF'
        sed -i "/unix_sock_group\|auth_unix/d" '$LIBVIRTD_CONF'; printf "%s\n" "$1" >> '$LIBVIRTD_CONF'
        printf "%s\n" "$2" > '$RULES'; chmod 644 '$RULES sh "unix_sock_group = \"libvirt\"
auth_unix_rw = \"$2\"
auth_unix_ro = \"$2\"
$3" "$4" || return 1
    configure "$P" unix_sock_group '"libvirt"'
    for key in auth_unix_rw auth_unix_ro; do configure "$P" $key "\"$2\""; done
    polkit_restart && quiet daemon "$P" restart libvirtd && quiet daemon "$P" restart virtcolod &&
        on "$P" sh -c 'chgrp libvirt /run/libvirt/virtcolod-sock && chmod "$1" /run/libvirt/virtcolod-sock' sh "$5" &&
        wait_for 30 on "$P" virsh -q -c colo:///system list > /dev/null
}

# --- the matrix ----------------------------------------------------------------------------------

# ask [refused]
ask() {
    local user socket
    for user in $USERS; do
        for socket in rw ro; do
            on "$P" bash "$MJ_DIR/access-ask.sh" $user "$TMP" $socket "$@"
        done
    done
}

# same USER SOCKET [rw]: answers of both URIs; what each could do is counted for what follows.
same() { diff "$TMP/$1.$2.qemu" "$TMP/$1.$2.colo"; }
refused() { grep -c '^error:' "$TMP/$1.$2.$3"; }

# matrix NAME [refused]
matrix() {
    local user socket
    ask "${@:2}"
    for user in $USERS; do
        for socket in rw ro; do
            check "$1: $user at the $socket socket hears the same: $(refused $user $socket qemu) errors" same $user $socket
        done
    done
}
may() { not grep -q '^error: failed to connect' "$TMP/$1.$2.qemu"; }
may_not() { grep -q '^error: failed to connect' "$TMP/$1.$2.qemu"; }
# Our own commands are asked of nobody whom libvirt would not let near QEMU's monitor.
door() {
    on "$P" setpriv --reuid "$1" --regid "$(on "$P" id -g "$1")" --init-groups timeout 60 virsh -q -c colo:///system \
        qemu-monitor-command ft --hmp colo-pair-list 2>&1
}
door1() {
    on "$P" setpriv --reuid "$1" --regid "$(on "$P" id -g "$1")" --init-groups timeout 60 "$VIRSH_COLO" colo-pair-undefine nobody 2>&1
}
# looks USER COMMAND...: what only reads, by the same door at the read-only socket.
looks() {
    local user=$1
    shift
    on "$P" setpriv --reuid "$user" --regid "$(on "$P" id -g "$user")" --init-groups env HOME=/ \
        timeout 60 "$VIRSH_COLO" -r "$@" 2>&1
}
sees() { grep -qE "$3" <<< "$(looks "$1" "$2" ${4:-})"; }

# says DOOR USER PATTERN
says() {
    local out
    out=$("$1" "$2")
    grep -qE "$3" <<< "$out" || { echo "$1 $2: $out"; return 1; }
}

need_unprotected
for part in polkit-1/polkitd:/usr/lib/polkit-1/polkitd dbus-daemon:/usr/bin/dbus-daemon pkcheck:/usr/bin/pkcheck; do
    on "$P" test -x "${part#*:}" || bail "${part%%:*} is installed"
done
host_up || bail "the host has a bus of its own"
on "$P" bash "$MJ_DIR/access-ask.sh" root "$TMP" rw # what the calls change is changed now

setting "by the socket's group" none 'unix_sock_rw_perms = "0770"' '' 0770 || bail "access by group is set"
matrix group
check "group: a member may" may colo-member rw
check "group: another may not" may_not colo-other rw
check "group: another may look" may colo-other ro
check "group: a member has our commands" says door colo-member "name: $PAIR"
check "group: another hears which pairs there are, as of libvirt's capabilities" sees colo-other colo-pair-list "$PAIR"
check "group: but not the doctor, who tells of the whole host" sees colo-other colo-doctor 'read only|denied|forbidden'
check "group: another has not" not says door colo-other "name: $PAIR"

setting "polkit as Debian ships it" polkit '' '' 0777 || bail "polkit is set"
matrix polkit
check "polkit: a member may" may colo-member rw
check "polkit: another may not" may_not colo-other rw

setting "polkit says no to everybody, yes to another" polkit '' '
polkit.addRule(function(action, subject) {
    if (action.id == "org.libvirt.unix.manage")
        return subject.user == "colo-other" ? polkit.Result.YES : polkit.Result.NO;
    if (action.id == "org.libvirt.unix.monitor")
        return subject.user == "colo-other" ? polkit.Result.YES : polkit.Result.NO;
});' 0777 || bail "polkit is set to no"
matrix "polkit no"
check "polkit no: a member may not" may_not colo-member rw
check "polkit no: nor look" may_not colo-member ro
check "polkit no: our commands neither" not says door colo-member "name: $PAIR"
check "polkit no: of which they hear nothing either" not sees colo-member colo-pair-list "$PAIR"
check "polkit no: nor by the other door" says door1 colo-member 'forbidden|denied'
check "polkit yes: another may" may colo-other rw

setting "libvirt's access control by identity" none 'unix_sock_rw_perms = "0770"
access_drivers = [ "polkit" ]' '
polkit.addRule(function(action, subject) {
    if (action.id.indexOf("org.libvirt.api.") != 0)
        return polkit.Result.NOT_HANDLED;
    if (subject.user == "colo-member" &&
        /\.(getattr|read|search-domains|search-storage-pools|search-storage-vols|search-networks)$/.test(action.id))
        return polkit.Result.YES;
    return polkit.Result.NO;
});' 0770 || bail "access control is set"
matrix identity
check "identity: a member may look" grep -q running "$TMP/colo-member.rw.colo"
check "identity: and not touch" grep -q 'access denied' "$TMP/colo-member.rw.colo"
check "identity: nor run our commands" not says door colo-member "name: $PAIR"
check "identity: nor by the other door" says door1 colo-member 'denied|forbidden|refused|connect'
check "identity: another, whom libvirt does not even let open, is not let in" not grep -q running "$TMP/colo-other.ro.colo"

# Protected, with the same rules: what COLO itself would say is for whom libvirt would let do it. Root's
# calls would be done at qemu:///.
quiet colo "$P" colo-protect ft --pair $PAIR --wait || bail "protected under access control"
USERS="colo-member colo-other"
matrix "identity, protected" refused
check "identity: a member sees that it runs" grep -q running "$TMP/colo-member.rw.colo"
check "identity: and hears no refusal of ours" not grep -q 'protected by COLO' "$TMP/colo-member.rw.colo"
check "root hears it" grep -qF "virsh-colo colo-unprotect ft" <<< "$(on "$P" virsh -q -c colo:///system setmem ft 65536 --live 2>&1)"
check "a member, who may read the domain, sees it in our list" sees colo-member colo-list ft
check "and its status" sees colo-member colo-status protected ft
check "another does not" not sees colo-other colo-list ft
check "nor its status" sees colo-other colo-status 'denied|connect' ft
check "events are not for a member" sees colo-member colo-events 'root alone' "--timeout 2"

pid=$(daemon "$P" status virtcolod)
on "$P" sh -c 'kill $(cat /run/access-dbus.pid); rm /run/access-dbus.pid; sleep 1'
check "virtcolod outlives the bus" is "$(daemon "$P" status virtcolod)" "$pid"
host_down
trap cleanup EXIT
check "the guest still runs" is "$(virsh_at "$P" domstate ft)" running
finish
