#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# OpenStack: nova's own LibvirtDriver at colo:///system on both hosts (nova-host.py). The life of an
# instance, live migration to the peer, what nova-compute of each host sees of a protected instance
# before and after a failover, and the way back. What nova did is looked for at qemu:///system and in the guest.
. "$(dirname "$0")/lib.sh"
NAME=instance-00000001
INSTANCES=/var/lib/libvirt/nova/instances
UUID=c0100000-0000-4000-8000-00000000a0a0
FT=c0100000-0000-4000-8000-0000000000f7
IMAGE=c0100000-0000-4000-8000-00000000001
SNAPSHOT=c0100000-0000-4000-8000-00000000005
ADDRESS=10.9.0.12
TLS_PORT=16520
declare -A TO FROM
computes=()

# nova_start HOST: its nova-compute; it ends when nobody can write to it any more.
nova_start() {
    mkfifo "$TMP/to-$1" "$TMP/from-$1"
    "$LAB" exec "$1" timeout 600 /usr/bin/python3 "$MJ_DIR/nova-host.py" "$1" "$TMP/images" "$TMP/database" "$TLS_PORT" \
        < "$TMP/to-$1" > "$TMP/from-$1" 2> "$TMP/nova-$1.log" &
    computes+=($!)
    exec {TO[$1]}> "$TMP/to-$1" {FROM[$1]}< "$TMP/from-$1"
    answer "$1"
}

answer() {
    local line=
    read -r -t 180 -u "${FROM[$1]}" line
    case $line in
    ok*) line=${line#ok} && printf '%s\n' "${line# }" ;;
    *) printf '%s\n' "${line:-no answer}" "$(tail -n 3 "$TMP/nova-$1.log")" && return 1 ;;
    esac
}

# nova HOST STEP [ARGUMENT]
nova() {
    local host=$1
    shift
    printf '%s\n' "$*" >&"${TO[$host]}"
    answer "$host"
}

# fails_with TEXT COMMAND...
fails_with() {
    local text=$1 out
    shift
    ! out=$("$@") || { echo "it was done: $out"; return 1; }
    grep -qF -- "$text" <<< "$out" || { echo "$out"; return 1; }
}

# What libvirt says, by the direct way.
domstate() { is "$(virsh_at "$1" domstate $NAME 2>&1)" "$2"; }
absent() { not grep -qx "${2:-$NAME}" <<< "$(virsh_at "$1" list --all --name)"; }
then_is() { local host=$1 state=$2; shift 2; nova "$host" "$@" && domstate "$host" "$state" && nova "$host" power; }

# ask PORT [LINE]: one line of the nova instance.
ask() {
    on client timeout 20 bash -c "exec 3<>/dev/tcp/$ADDRESS/$1; echo ${2:-x} >&3; read -r -t 15 line <&3; echo \"\$line\""
}
answers_at() { is "$(ask 7 hello)" hello; }
boots() { wait_for 60 answers_at && MARK=$(ask 9); }
same_guest() { wait_for 30 answers_at && grep -q '^have=1 ' <<< "$(ask 11 "have $MARK")"; }
another_guest() { wait_for 60 answers_at && grep -q '^have=0 ' <<< "$(ask 11 "have $MARK")"; }

snapshot_is_the_disk() {
    nova "$P" snapshot "${SNAPSHOT}2" && domstate "$P" paused &&
        on "$P" qemu-img compare -U "$TMP/images/${SNAPSHOT}2" $INSTANCES/$UUID/disk
}

snapshot_of_running() {
    nova "$P" snapshot "${SNAPSHOT}1" && domstate "$P" running && qemu-img check "$TMP/images/${SNAPSHOT}1" &&
        is "$(virsh_at "$P" blockjob $NAME vda --raw 2>&1)" "" &&
        is "$(json disk_format < "$TMP/images/${SNAPSHOT}1.json")" qcow2 && grep -q '^Persistent: *yes' <<< "$(virsh_at "$P" dominfo $NAME)"
}

# In the order in which nova's conductor and both computes do it.
live_migration() {
    local data disks
    data=$(nova "$S" check_destination) || { echo "$data"; return 1; }
    disks=$data
    data=$(nova "$P" check_source "$data") || { echo "$data"; return 1; }
    nova "$S" check_done "$disks" || return 1
    disks=$(nova "$P" disks) && data=$(nova "$S" pre_migration "$data $disks") || { echo "$disks $data"; return 1; }
    nova "$P" migrate "$data $S" && nova "$S" post_migration
}

need_unprotected
/usr/bin/python3 -c 'import nova' 2> /dev/null || bail "python3-nova is installed"
mkdir "$TMP/images"
cp "$("$LAB" path cache)/guest/vmlinuz" "$TMP/images/${IMAGE}2"
cp "$("$LAB" path cache)/guest/initrd" "$TMP/images/${IMAGE}3"
truncate -s 64M "$TMP/images/${IMAGE}1"
# The destination's libvirtd, to which nova's live_migration_uri leads, listens.
on "$S" sh -c 'grep -q "^listen_tls" /etc/libvirt/libvirtd.conf || printf "listen_tls = 1\ntls_port = \"%s\"\n" '$TLS_PORT' >> /etc/libvirt/libvirtd.conf'
quiet daemon "$S" restart libvirtd || bail "libvirtd listens"
for host in "$P" "$S"; do nova_start "$host" > /dev/null || bail "nova-compute of $host starts"; done

check "nova is at colo:///system" is "$(nova "$P" uri)" colo:///system
check "it finds a hypervisor of type QEMU" grep -q "^QEMU $P " <<< "$(nova "$P" resources)"
check "spawn" then_is "$P" running spawn
check "the instance has booted" boots
boots
check "console output" wait_for 30 eval 'nova "$P" console | grep -q GUEST-READY'
check "pause" then_is "$P" paused pause
check "a snapshot of it is its disk" snapshot_is_the_disk
check "unpause" then_is "$P" running unpause
check "a snapshot while it runs" snapshot_of_running
check "suspend" then_is "$P" "shut off" suspend
check "it is saved" grep -q '^Managed save: *yes' <<< "$(virsh_at "$P" dominfo $NAME)"
check "resume" then_is "$P" running resume
check "it is the guest that it was" same_guest
id=$(virsh_at "$P" domid $NAME)
check "soft reboot" then_is "$P" running reboot SOFT
check "by power button: another run of libvirt's domain" not is "$(virsh_at "$P" domid $NAME)" "$id"
check "booted anew" another_guest
boots
check "hard reboot" then_is "$P" running reboot HARD
check "booted anew, too" another_guest
check "power off" then_is "$P" "shut off" power_off
check "power on" then_is "$P" running power_on
boots
check "live migration to the peer" live_migration
check "it runs there" domstate "$S" running
check "and is gone here" absent "$P"
check "it is the guest that it was, at its address" same_guest
check "destroy, there" nova "$S" destroy
check "libvirt has forgotten it" absent "$S"
check "its disk is gone" not on "$S" test -e $INSTANCES/$UUID

# Nova's record says that the lab's guest is at $P. Each nova-compute lists what its host has (resources,
# orphans) and asks for the power state of what the records say is there (docs/clients.md).
quiet colo "$P" colo-protect ft --pair $PAIR --wait || bail "colo-protect"
wait_for $SETTLE_S protected > /dev/null || bail "protected on both hosts"
old=$P survivor=$S
check "protected: the nova-compute of its host has it" is "$(nova "$old" instances)" $FT
check "and knows that it runs" is "$(nova "$old" power $FT)" running
check "that of the peer has nothing" is "$(nova "$survivor" instances)" ""
check "what COLO cannot bear is refused, with the remedy" fails_with "virsh-colo colo-unprotect ft" nova "$old" pause $FT
check "and nothing has changed" protected
daemon "$old" pause comparator # the old host's resync waits, so that there is time to look
on "$old" sh -c 'kill -9 "$(cat /run/libvirt/qemu/ft.pid)"'
check "failover: the peer serves" wait_for $SETTLE_S state_in "$survivor" alone preparing syncing
check "the survivor's nova-compute has it" is "$(nova "$survivor" instances)" $FT
check "and sees it run" is "$(nova "$survivor" power $FT)" running
check "the old host's sees it shut down: without sync_power_state_interval = -1 nova would stop the instance" \
    is "$(nova "$old" power $FT)" shutdown
check "but cannot start it a second time" fails_with "fenced" nova "$old" start $FT
check "the guest runs on" disk_right
daemon "$old" resume comparator
check "protected again, the other way round" wait_for $SETTLE_S protected
check "the old host's nova-compute lists it no more" is "$(nova "$old" instances)" ""
check "with the record moved there, the survivor's nova-compute manages it: unprotected" colo "$survivor" colo-unprotect ft
check "paused" eval 'nova "$survivor" pause $FT && is "$(virsh_at "$survivor" domstate ft)" paused'
check "and going on" eval 'nova "$survivor" unpause $FT && is "$(virsh_at "$survivor" domstate ft)" running'
quiet colo "$survivor" colo-protect ft --pair $PAIR --wait || bail "colo-protect"
check "protected as before" wait_for $SETTLE_S protected
check "colo-switchover: it is where nova's record says" colo "$survivor" colo-switchover ft
check "protected there" wait_for $SETTLE_S eval 'protected && is "$P" "$old"'
check "its nova-compute has it" is "$(nova "$old" instances)" $FT
check "that of the peer does not" is "$(nova "$survivor" instances)" ""
for host in "${!TO[@]}"; do exec {TO[$host]}>&-; done
wait "${computes[@]}"
on "$S" sed -i '/^listen_tls/d; /^tls_port/d' /etc/libvirt/libvirtd.conf
finish
