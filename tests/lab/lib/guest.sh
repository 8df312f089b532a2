# SPDX-License-Identifier: LGPL-2.1-or-later
# shellcheck shell=bash
# lab guest: the test guest "ft" on a host, by stock virsh in that host.

GUEST_WAIT_S=240
GUEST_DISK_MIB=64

cmd_guest() {
    local action=${1:-} host=${2:-primary}
    require_up
    is_vhost "$host" || bad_usage "guest needs primary or secondary"
    case $action in
    up) guest_up "$host" ;;
    down) guest_down "$host" ;;
    console) cat "$LAB_STATE/log/$host/ft-console.log" ;;
    xml) COLO_LAB=$LAB_NAME "$LAB_SRC/guest/domain" "$host" ;;
    *) bad_usage "guest needs up, down, console or xml" ;;
    esac
}

guest_up() {
    local host=$1 xml console=$LAB_STATE/log/$1/ft-console.log out disks n
    disks=$(for n in $(seq "${LAB_GUEST_DISKS:-1}"); do guest_disk "$n"; done)
    xml=$(COLO_LAB=$LAB_NAME "$LAB_SRC/guest/domain" "$host") || exit 1
    # One command in the host: each costs a second in the kvm back-end.
    out=$( (cmd_exec "$host" sh -c '
        set -e
        [ "$(virsh -c qemu:///system domstate ft 2>/dev/null)" != running ] || { echo running; exit 0; }
        for disk; do [ -e "$disk" ] || truncate -s '$GUEST_DISK_MIB'M "$disk"; done
        rm -f /var/log/ft-console.log
        cat > /run/lab/ft.xml
        virsh -q -c qemu:///system define /run/lab/ft.xml
        virsh -q -c qemu:///system start ft' sh $disks 2>&1) <<< "$xml") ||
        die "cannot start the guest at $host" "$out" "lab exec $host virsh start ft"
    case $out in running*) note "the guest runs at $host already"; return 0 ;; esac
    wait_for $GUEST_WAIT_S grep -aq GUEST-READY "$console" ||
        die "the guest at $host is not ready after $GUEST_WAIT_S s" "$(tail -n 1 "$console")" \
            "lab guest console $host"
    ns_exec client curl -sf --noproxy '*' --max-time 10 "http://$GUEST_IP/1m.sha256" > /dev/null ||
        die "the guest at $host does not answer" "no HTTP from $GUEST_IP" "lab status; lab heal"
}

# Asks the guest to power off and waits until libvirt says it is off. A checkpoint pauses the guest for
# some milliseconds, and libvirt refuses to shut a paused one down: then it is asked again.
guest_down() {
    local out
    out=$( (cmd_exec "$1" sh -c '
        v="virsh -q -c qemu:///system"
        for i in $(seq 50); do
            out=$($v shutdown ft 2>&1) && break
            case $out in *"domain is not running"*) sleep 0.01 ;; *) i=50 ;; esac
            [ $i -lt 50 ] || { echo "$out"; exit 1; }
        done
        for i in $(seq 300); do
            state=$($v domstate ft 2>&1)
            case $state in "shut off"* | *"failed to get domain"*) exit 0 ;; esac
            sleep 0.2
        done
        echo "after 60 s it is: $state"
        exit 1') 2>&1) || die "the guest at $1 did not shut down" "$out" "lab exec $1 virsh destroy ft"
}

cmd_client() {
    [ $# -ge 1 ] || bad_usage "client needs a program"
    cmd_exec client python3 "$LAB_SRC/client.py" "$@"
}
