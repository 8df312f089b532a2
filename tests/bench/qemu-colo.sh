# SPDX-License-Identifier: LGPL-2.1-or-later
# shellcheck shell=bash
# QEMU's own COLO between the two hosts of the lab, set up as QEMU's docs/COLO-FT.txt says: quorum
# and replication over NBD, filters, colo-compare in the primary's QEMU, the migration channel.  None
# of our programs takes part.  The domain is the lab's; what the document puts on QEMU's command
# line is put in by QMP, because libvirt starts QEMU: hence the detour over a null node by which a
# running disk gets its quorum.
#
#   qemu_colo_start tcp PERIOD_MS        channels as in the document, over the pair network
#   qemu_colo_start unix PERIOD_MS DIR   the same over bare unix sockets in DIR, seen by both hosts
#
# Everything goes by destroying the domain on both hosts.  Needs lib.sh.

DISK_NODE=libvirt-1-format
DISK_PATH=/machine/peripheral/virtio-disk0
DISK_BYTES=67108864
NETDEV=hostnet0
P_IP=10.77.0.1 S_IP=10.77.0.2

# _addr PORT [HOST]: a QAPI SocketAddress; unix: a path named after the port.
_addr() {
    case $transport in
    tcp) echo "{\"type\":\"inet\",\"data\":{\"host\":\"${2:-$P_IP}\",\"port\":\"$1\"}}" ;;
    unix) echo "{\"type\":\"unix\",\"data\":{\"path\":\"$sockets/$1\"}}" ;;
    esac
}

# _chardev HOST ID ADDRESS server|client
_chardev() {
    local wait=""
    [ "$4" = server ] && wait=',"server":true,"wait":false' || wait=',"server":false'
    must qmp "$1" chardev-add "{\"id\":\"$2\",\"backend\":{\"type\":\"socket\",\"data\":{\"addr\":$3$wait}}}"
}

# _object HOST TYPE ID MEMBERS
_object() {
    must qmp "$1" object-add "{\"qom-type\":\"$2\",\"id\":\"$3\"${4:+,$4}}"
}

# _disk_over HOST NODE: the guest's disk is seen through NODE from now on.
_disk_over() {
    must qmp "$1" qom-set "{\"path\":\"$DISK_PATH\",\"property\":\"drive\",\"value\":\"$2\"}"
}

# A domain as the primary's, waiting for its state, away from the VM network.
_secondary_start() {
    "$LAB" cut vm:secondary
    "$TOP/tests/lab/guest/domain" secondary |
        sed "s,<qemu:commandline>,&<qemu:arg value='-incoming'/><qemu:arg value='defer'/>," |
        "$LAB" exec secondary sh -c '
            cd /var/lib/libvirt/images && rm -f ft.* && truncate -s '$DISK_BYTES' ft.raw &&
            qemu-img create -q -f qcow2 ft.hidden '$DISK_BYTES' &&
            qemu-img create -q -f qcow2 ft.active '$DISK_BYTES' &&
            cat > /run/lab/ft.xml && virsh -q define /run/lab/ft.xml && virsh -q start --paused ft' ||
        die "the secondary does not start"
}

_secondary_disk() {
    local images=/var/lib/libvirt/images
    must qmp secondary blockdev-add "{\"driver\":\"qcow2\",\"node-name\":\"hidden0\",\"backing\":\"$DISK_NODE\",
        \"file\":{\"driver\":\"file\",\"filename\":\"$images/ft.hidden\"}}"
    must qmp secondary blockdev-add "{\"driver\":\"qcow2\",\"node-name\":\"active0\",\"backing\":\"hidden0\",
        \"file\":{\"driver\":\"file\",\"filename\":\"$images/ft.active\"}}"
    must qmp secondary blockdev-add '{"driver":"replication","mode":"secondary","node-name":"childs0",
        "top-id":"colo-disk0","file":"active0"}'
    must qmp secondary blockdev-add '{"driver":"quorum","node-name":"colo-disk0","read-pattern":"fifo",
        "vote-threshold":1,"children":["childs0"]}'
    _disk_over secondary colo-disk0
    must qmp secondary nbd-server-start "{\"addr\":$(_addr 9999 $S_IP)}"
    must qmp secondary block-export-add "{\"type\":\"nbd\",\"id\":\"parent0\",\"name\":\"parent0\",
        \"node-name\":\"$DISK_NODE\",\"writable\":true}"
}

_mirror_ready() { qmp primary query-block-jobs | grep -q '"ready":true'; }
_no_jobs() { qmp primary query-block-jobs | grep -q '"return":\[\]'; }

_primary_disk() {
    local server
    case $transport in
    tcp) server="{\"type\":\"inet\",\"host\":\"$S_IP\",\"port\":\"9999\"}" ;;
    unix) server="{\"type\":\"unix\",\"path\":\"$sockets/9999\"}" ;;
    esac
    must qmp primary stop
    must qmp primary blockdev-add "{\"driver\":\"null-co\",\"node-name\":\"detour\",\"size\":$DISK_BYTES,
        \"read-zeroes\":true}"
    _disk_over primary detour
    must qmp primary blockdev-add "{\"driver\":\"quorum\",\"node-name\":\"colo-disk0\",\"read-pattern\":\"fifo\",
        \"vote-threshold\":1,\"children\":[\"$DISK_NODE\"]}"
    _disk_over primary colo-disk0
    must qmp primary cont
    must qmp primary blockdev-del '{"node-name":"detour"}'
    must qmp primary blockdev-add "{\"driver\":\"nbd\",\"node-name\":\"copy\",\"server\":$server,\"export\":\"parent0\"}"
    must qmp primary blockdev-mirror '{"job-id":"resync","device":"colo-disk0","target":"copy","sync":"full"}'
    wait_for $SETTLE_S _mirror_ready
    must qmp primary stop
    must qmp primary block-job-cancel '{"device":"resync"}'
    wait_for $SETTLE_S _no_jobs
    must qmp primary blockdev-del '{"node-name":"copy"}'
    must qmp primary blockdev-add "{\"driver\":\"replication\",\"mode\":\"primary\",\"node-name\":\"replication0\",
        \"file\":{\"driver\":\"nbd\",\"server\":$server,\"export\":\"parent0\"}}"
    must qmp primary x-blockdev-change '{"parent":"colo-disk0","node":"replication0"}'
}

# Taps of libvirt's domains have vnet headers, so every filter is told.
_network() {
    local vnet='"vnet_hdr_support":true' net="\"netdev\":\"$NETDEV\""
    _chardev primary mirror0 "$(_addr 9003)" server
    _chardev primary compare1 "$(_addr 9004)" server
    _chardev primary compare0 "$(_addr 9001 127.0.0.1)" server
    _chardev primary compare0-0 "$(_addr 9001 127.0.0.1)" client
    _chardev primary compare_out "$(_addr 9005 127.0.0.1)" server
    _chardev primary compare_out0 "$(_addr 9005 127.0.0.1)" client
    _object primary filter-mirror m0 "$net,\"queue\":\"tx\",\"outdev\":\"mirror0\",$vnet"
    _object primary filter-redirector redire0 "$net,\"queue\":\"rx\",\"indev\":\"compare_out\",$vnet"
    _object primary filter-redirector redire1 "$net,\"queue\":\"rx\",\"outdev\":\"compare0\",$vnet"
    _object primary iothread iothread1
    _object primary colo-compare comp0 '"primary_in":"compare0-0","secondary_in":"compare1",
        "outdev":"compare_out0","iothread":"iothread1",'"$vnet"
    _chardev secondary red0 "$(_addr 9003)" client
    _chardev secondary red1 "$(_addr 9004)" client
    _object secondary filter-redirector f1 "$net,\"queue\":\"tx\",\"indev\":\"red0\",$vnet"
    _object secondary filter-redirector f2 "$net,\"queue\":\"rx\",\"outdev\":\"red1\",$vnet"
    _object secondary filter-rewriter rew0 "$net,\"queue\":\"all\",$vnet"
}

_in_colo() { qmp primary query-migrate | grep -q '"status":"colo"'; }

# The guest "ft" runs at the primary; period of the checkpoints: $2 ms.
qemu_colo_start() { # tcp|unix PERIOD_MS [DIR]
    local transport=$1 sockets=${3:-} uri colo='{"capabilities":[{"capability":"x-colo","state":true}]}'
    case $transport in
    tcp) uri=tcp:$S_IP:9998 ;;
    unix) uri=unix:$sockets/9998 && rm -f "$sockets"/9* ;;
    esac
    _secondary_start
    _secondary_disk
    _network
    _primary_disk
    must qmp secondary migrate-set-capabilities "$colo"
    must qmp secondary migrate-incoming "{\"uri\":\"$uri\"}"
    must qmp primary migrate-set-capabilities "$colo"
    must qmp primary migrate-set-parameters "{\"x-checkpoint-delay\":$2}"
    must qmp primary migrate "{\"uri\":\"$uri\"}"
    must qmp primary cont
    wait_for $SETTLE_S _in_colo
}

qemu_colo_end() {
    no_guest
    "$LAB" heal vm:secondary
    on secondary sh -c 'rm -f /var/lib/libvirt/images/ft.*'
}
