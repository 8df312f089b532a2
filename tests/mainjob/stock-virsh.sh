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
while read -r line; do
    # shellcheck disable=SC2086
    check "virsh $line" same $line
done << 'LIST'
hostname
version
nodeinfo
nodecpumap
capabilities
domcapabilities
cpu-models x86_64
maxvcpus
sysinfo
list --all
list --all --name --uuid
domstate ft --reason
domid ft
domuuid ft
domname ft
dumpxml ft
dumpxml ft --inactive
domblklist ft --details
domiflist ft
domif-getlink ft vnet0
vcpucount ft
vcpupin ft
emulatorpin ft
memtune ft
blkiotune ft
numatune ft
schedinfo ft
domcontrol ft
domjobinfo ft
desc ft
desc ft --title
metadata ft http://example.org/none
snapshot-list ft
checkpoint-list ft
managedsave-dumpxml ft
domfsinfo ft
guestinfo ft
qemu-agent-command ft {}
iothreadinfo ft
perf ft
get-user-sshkeys ft root
domhostname ft
dominfo no-such-domain
start no-such-domain
destroy no-such-domain
undefine no-such-domain
dumpxml no-such-domain
autostart ft
autostart ft --disable
screenshot ft
ttyconsole ft
domdisplay ft
vncdisplay ft
pool-list --all --details
pool-info default
pool-dumpxml default
pool-refresh default
pool-list --all --uuid
pool-info no-such-pool
vol-list default
vol-info no-such-volume --pool default
net-list --all
net-info no-such-network
nodedev-list
nodedev-list --cap net
secret-list
secret-dumpxml 0e7a24d4-6c22-4b29-8a5f-3f3b7f2a6c11
nwfilter-list
nwbinding-list
iface-list --all
allocpages
domxml-from-native qemu-argv /nonexistent
find-storage-pool-sources-as dir
pool-capabilities
hypervisor-cpu-baseline /nonexistent
qemu-monitor-command ft --hmp info
LIST
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
