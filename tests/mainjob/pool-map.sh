#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# The pair's pool map: the copy lies in another storage pool at the peer, takes over from there, and
# the way back leads to the first pool again.
. "$(dirname "$0")/lib.sh"
HERE=/var/lib/libvirt/images
THERE=/var/lib/libvirt/fast

fails() {
    local pattern=$1 out
    shift
    ! out=$(colo "$@" 2>&1) || { echo "it succeeded: $out"; return 1; }
    grep -E -- "$pattern" <<< "$out"
}
pool_map() { colo "$1" colo-pair-info $PAIR --json | json pool-map "$2"; }
define() { colo "$P" colo-pair-define $PAIR --peer "$S" "$@"; }
undefine() { colo "$P" colo-pair-undefine $PAIR; }
pool_at_peer() {
    on "$S" mkdir -p $THERE && virsh_at "$S" pool-define-as fast dir --target $THERE &&
        virsh_at "$S" pool-start fast
}
# disk_of HOST PATH [OPTION]: libvirt of that host knows the disk by this path.
disk_of() { virsh_at "$1" domblklist ft ${3:-} | awk '{ print $2 }' | grep -qx "$2"; }
has() { on "$1" test -e "$2"; }

# failover NAME PATH: QEMU of $P is killed under load; $S goes on, on PATH.
failover() {
    GENERATION=$(field "$P" generation)
    old=$P new=$S
    blocks=$(guest_disk durable)
    on "$old" sh -c 'kill -9 "$(cat /run/libvirt/qemu/ft.pid)"'
    check "$1: the other host serves" \
        wait_for 60 state_in "$new" committing alone preparing syncing protected
    check "$1: the sessions go on" answers_go_on 20
    check "$1: no block that was durable is missing" \
        at_least "$(guest_disk durable)" "$blocks" "durable blocks"
    check "$1: the disk is right" disk_right
    check "$1: protected again by itself" protected_again
    find_roles
    check "$1: the survivor is the primary" is "$P" "$new"
    check "$1: its persistent definition has the path of its own pool" \
        disk_of "$new" "$2" --inactive
}

need_unprotected
first=$P second=$S
check "the pair is undefined" undefine
on "$second" rm -f $HERE/ft.raw
check "a pool that is named twice is refused" fails "'default' is named twice" \
    "$P" colo-pair-define $PAIR --peer "$S" --pool-map default=fast,default=slow
check "an unknown pool of the peer is defined, since the peer may still get it" \
    define --pool-map default=fast
check "preparing names the pool, the host and the remedy" \
    fails "'fast' on $second.*pool-define-as" "$P" colo-prepare ft --pair $PAIR
check "a pair is not changed under its name" fails "default=fast.*undefine" \
    "$P" colo-pair-define $PAIR --peer "$S" --pool-map default=other
quiet pool_at_peer || bail "pool at the peer"
check "the map is shown here" is "$(pool_map "$first" default)" fast
check "and at the peer, as the way back" is "$(pool_map "$second" fast)" default
check "it is in the table" eval "colo $first colo-pair-info $PAIR | grep -q 'default=fast'"
daemon "$second" restart virtcolod > /dev/null
check "it is kept over a restart" wait_for 30 eval "is \"\$(pool_map $second fast)\" default"
on "$first" chown man:man $HERE/ft.raw
check "colo-prepare makes the copy" colo "$P" colo-prepare ft --pair $PAIR
check "the copy is in the mapped pool" has "$second" $THERE/ft.raw
check "with the owner of the original" is "$(on "$second" stat -c %U:%G $THERE/ft.raw)" man:man
on "$first" chown root:root $HERE/ft.raw && on "$second" chown root:root $THERE/ft.raw
check "libvirt knows it as a volume" virsh_at "$second" vol-info ft.raw --pool fast
check "nothing was made at the primary's path" not has "$second" $HERE/ft.raw

check "protect" colo "$P" colo-protect ft --pair $PAIR --wait
check "protected on both hosts" wait_for 60 protected
check "the secondary runs on the mapped copy" disk_of "$second" $THERE/ft.raw
load_start
check "the guest is compared" answers_go_on 10

failover "there" $THERE/ft.raw
check "the new secondary runs on the disk of the first pool" disk_of "$first" $HERE/ft.raw
check "nothing was made at the peer's path" not has "$first" $THERE/ft.raw
failover "and back" $HERE/ft.raw
check "the secondary runs on the mapped copy again" disk_of "$second" $THERE/ft.raw

check_load "the sessions lived through all of it"
check "the disk is right" disk_right
# The next test gets its pair without a map.
touch "$DIRTY"
finish
