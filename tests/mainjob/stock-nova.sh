#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# OpenStack: nova's own LibvirtDriver at colo:///system on both hosts (nova-host.py). The life of an
# instance, live migration to the peer, what nova-compute of each host sees of a protected instance
# before and after a failover, and the way back. What nova did is looked for at qemu:///system and in the guest.
. "$(dirname "$0")/lib.sh"
NAME=instance-00000001
INSTANCES=/var/lib/libvirt/nova/instances
UUID=c0100000-0000-4000-8000-00000000a0a0
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

# Under TCG nova's guests need what guest/domain gives the lab's own: a wrapper of QEMU does it. The same
# in both hosts, with a libvirtd that listens: nova's live_migration_uri leads there.
hosts_for_nova() {
    local host cache
    cache=$("$LAB" path cache)
    cat > "$TMP/qemu" << X
#!/bin/sh
export QEMU_MODULE_DIR=/usr/lib/x86_64-linux-gnu/qemu
case " \$* " in *" guest=$NAME,"*)
    export LD_PRELOAD=$cache/bqlfix.so
    set -- "\$@" -m 131080K -object memory-backend-ram,id=xram,size=131080K -machine memory-backend=xram ;;
esac
exec /run/lab/qemu-real "\$@" -L /usr/share/seabios -L /usr/share/qemu -L /usr/lib/ipxe/qemu
X
    chmod 755 "$TMP/qemu"
    for host in primary secondary; do
        on $host sh -c "printf 'listen_tls = 1\ntls_port = \"$TLS_PORT\"\n' >> /etc/libvirt/libvirtd.conf"
        if [ "$(accel)" = tcg ]; then
            "$LAB" put $host "$TMP/qemu" /run/lab/qemu && on $host sh -c ': > /run/lab/qemu-real && chmod 755 /run/lab/qemu &&
                mount --bind /usr/bin/qemu-system-x86_64 /run/lab/qemu-real && mount --bind /run/lab/qemu /usr/bin/qemu-system-x86_64' || return 1
        fi
        daemon $host restart libvirtd || return 1
    done
}

hosts_as_before() {
    local host
    for host in primary secondary; do
        on $host sed -i '/^listen_tls/d; /^tls_port/d' /etc/libvirt/libvirtd.conf
        [ "$(accel)" != tcg ] || on $host umount /usr/bin/qemu-system-x86_64 /run/lab/qemu-real || return 1
        daemon $host restart libvirtd || return 1
    done
}

# Of the instance, not of the lab's guest.
its_state() { colo "$1" colo-status $NAME --json 2>&1 | json state; }
its_state_in() {
    local host=$1 found
    shift
    found=$(its_state "$host")
    case " $* " in *" $found "*) ;; *) echo "expected one of '$*', found '$found'"; return 1 ;; esac
}
its_role() { is "$(colo "$1" colo-status $NAME --json 2>&1 | json role)" "$2"; }
its_protection() { is "$(its_state "$HOME_HOST")" protected && is "$(its_state "$OTHER")" protected && its_role "$1" primary; }
its_disk_right() { is "$(ask 11 disk | sed -n 's/.* errors=\([0-9]*\).*/\1/p')" 0; }
kill_its_qemu() { on "$1" sh -c "kill -9 \$(cat /run/libvirt/qemu/$NAME.pid)"; }

# What docs/clients.md says of an instance whose disk lies in its own directory.
prepare() {
    local dir=$INSTANCES/$UUID
    on "$OTHER" virsh -q -c colo:///system pool-define-as nova-$UUID dir --target $dir &&
        on "$OTHER" virsh -q -c colo:///system pool-build nova-$UUID && on "$OTHER" virsh -q -c colo:///system pool-start nova-$UUID &&
        "$LAB" put "$OTHER" "$TMP/images/${IMAGE}2" $dir/kernel && "$LAB" put "$OTHER" "$TMP/images/${IMAGE}3" $dir/ramdisk &&
        colo "$HOME_HOST" colo-prepare $NAME --pair $PAIR
}

need_unprotected
/usr/bin/python3 -c 'import nova' 2> /dev/null || bail "python3-nova is installed"
mkdir "$TMP/images"
cp "$("$LAB" path cache)/guest/vmlinuz" "$TMP/images/${IMAGE}2"
cp "$("$LAB" path cache)/guest/initrd" "$TMP/images/${IMAGE}3"
truncate -s 64M "$TMP/images/${IMAGE}1"
quiet hosts_for_nova || bail "libvirtd listens"
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

# Nova's record says that the instance is at HOME_HOST. Each nova-compute lists what its host has
# (resources, orphans) and asks for the power state of what the records say is there (docs/clients.md).
HOME_HOST=$S OTHER=$P
boots
check "the instance can be protected" prepare
check "and is" colo "$HOME_HOST" colo-protect $NAME --pair $PAIR --wait
check "on both hosts" wait_for $SETTLE_S its_protection "$HOME_HOST"
check "the nova-compute of its host has it" grep -qw $UUID <<< "$(nova "$HOME_HOST" instances)"
check "and knows that it runs" is "$(nova "$HOME_HOST" power)" running
check "that of the peer does not" not grep -qw $UUID <<< "$(nova "$OTHER" instances)"
check "what COLO cannot bear is refused, with the remedy" fails_with "virsh-colo colo-unprotect $NAME" nova "$HOME_HOST" plug "$INSTANCES/$UUID/disk"
check "and nothing has changed" its_protection "$HOME_HOST"

daemon "$HOME_HOST" pause comparator # its resync waits, so that there is time to look
kill_its_qemu "$HOME_HOST"
check "failover: the peer serves" wait_for $SETTLE_S its_state_in "$OTHER" alone preparing syncing
check "it is the guest that it was" same_guest
check "the survivor's nova-compute has it" grep -qw $UUID <<< "$(nova "$OTHER" instances)"
check "and sees it run" is "$(nova "$OTHER" power)" running
check "the old host's sees it shut down: unless told not to, nova would stop the instance" is "$(nova "$HOME_HOST" power)" shutdown
check "but cannot start it a second time" fails_with "fenced" nova "$HOME_HOST" start
daemon "$HOME_HOST" resume comparator
check "protected again, the other way round" wait_for $SETTLE_S its_protection "$OTHER"
check "the old host's nova-compute lists it no more" not grep -qw $UUID <<< "$(nova "$HOME_HOST" instances)"

check "the way back: colo-switchover" colo "$OTHER" colo-switchover $NAME
check "it is where nova's record says, protected" wait_for $SETTLE_S its_protection "$HOME_HOST"
check "the nova-compute there has it" grep -qw $UUID <<< "$(nova "$HOME_HOST" instances)"
check "that of the peer does not" not grep -qw $UUID <<< "$(nova "$OTHER" instances)"
check "it is the guest that it was" same_guest

kill_its_qemu "$HOME_HOST"
check "another failover" wait_for $SETTLE_S its_protection "$OTHER"
check "the other way: nova's record is moved" nova "$OTHER" moved
check "unprotected there" colo "$OTHER" colo-unprotect $NAME
check "nova pauses it there" then_is "$OTHER" paused pause
check "lets it go on" then_is "$OTHER" running unpause
check "it is the guest that it was, its disk is right" eval 'same_guest && its_disk_right'
check "hard reboot, from nova's own description of it" then_is "$OTHER" running reboot HARD
check "booted anew, from the same disk" eval 'another_guest && wait_for 30 eval "ask 11 disk | grep -q ready=1" && its_disk_right'
check "destroy" nova "$OTHER" destroy
check "libvirt has forgotten it" absent "$OTHER"
check "its disk is gone" not on "$OTHER" test -e $INSTANCES/$UUID

for host in "${!TO[@]}"; do exec {TO[$host]}>&-; done
wait "${computes[@]}"
on "$HOME_HOST" sh -c "virsh -q -c colo:///system undefine $NAME; rm -rf $INSTANCES/$UUID" > /dev/null 2>&1
on "$OTHER" sh -c "virsh -q -c colo:///system pool-destroy nova-$UUID; virsh -q -c colo:///system pool-undefine nova-$UUID" > /dev/null 2>&1
quiet hosts_as_before || bail "the hosts are as before"
finish
