# SPDX-License-Identifier: LGPL-2.1-or-later
# shellcheck shell=bash
# The lab's networks.  One namespace is the switch: it holds a bridge for each network and one
# port for each plug.  Only namespace names are visible to the machine; they carry the lab's name.
#
#   bridge vm    10.9.0.0/24   vm-primary  vm-secondary  vm-client
#   bridge pair  10.77.0.0/24  pair-primary pair-secondary pair-witness
#   bridge mgmt  10.78.0.0/24  mgmt-primary mgmt-secondary   (kvm back-end: the lab's own commands)

ns_name() {
    echo "colo-$LAB_NAME-$1"
}

ns_exists() {
    [ -e "/run/netns/$(ns_name "$1")" ]
}

ns_add() {
    ns_exists "$1" && return
    ip netns add "$(ns_name "$1")"
    ip -n "$(ns_name "$1")" link set lo up
}

ns_exec() {
    local ns
    ns=$(ns_name "$1")
    shift
    ip netns exec "$ns" "$@"
}

# plug HOST INTERFACE NETWORK: a cable from the host's namespace to the switch.
plug() {
    local port=$3-$1 sw
    sw=$(ns_name switch)
    ip -n "$sw" link show "$port" > /dev/null 2>&1 && return
    ip -n "$sw" link add "$port" type veth peer name "$2" netns "$(ns_name "$1")"
    ip -n "$sw" link set "$port" master "$3"
    port_apply "$port"
}

# tap_plug HOST NETWORK: a port of the switch that a virtual machine opens.
tap_plug() {
    local port=$2-$1 sw
    sw=$(ns_name switch)
    ip -n "$sw" link show "$port" > /dev/null 2>&1 || ip -n "$sw" tuntap add "$port" mode tap
    ip -n "$sw" link set "$port" master "$2"
    port_apply "$port"
}

# Sets a port up, or down while it is cut.
port_apply() {
    local state=up
    [ -e "$LAB_STATE/cut/$1" ] && state=down
    ip -n "$(ns_name switch)" link set "$1" "$state"
}

# Port of a link's name.
link_port() {
    case $1 in
    pair:primary | pair:secondary | pair:witness | vm:primary | vm:secondary | vm:client)
        echo "${1/:/-}" ;;
    witness) echo pair-witness ;;
    *) die "no such link: $1" "" \
        "links are pair:primary, pair:secondary, vm:primary, vm:secondary, vm:client, witness" ;;
    esac
}

link_cut() {
    local port
    port=$(link_port "$1") || exit 1
    mkdir -p "$LAB_STATE/cut"
    : > "$LAB_STATE/cut/$port"
    ip -n "$(ns_name switch)" link set "$port" down
}

link_heal() {
    local port
    port=$(link_port "$1") || exit 1
    rm -f "$LAB_STATE/cut/$port"
    ip -n "$(ns_name switch)" link show "$port" > /dev/null 2>&1 || return 0
    ip -n "$(ns_name switch)" link set "$port" up
}

# All ports of a host down in one call: the first half of a power loss.
ports_down() {
    local port
    for port in "pair-$1" "vm-$1"; do
        echo "link set $port down"
    done | ip -n "$(ns_name switch)" -force -batch - 2>/dev/null || true
}

net_up() {
    local sw network
    ns_add switch
    sw=$(ns_name switch)
    ns_exec switch sysctl -qw net.ipv6.conf.all.disable_ipv6=1 net.ipv6.conf.default.disable_ipv6=1 \
        2>/dev/null || true
    for network in vm pair mgmt; do
        ip -n "$sw" link show "$network" > /dev/null 2>&1 && continue
        ip -n "$sw" link add "$network" type bridge forward_delay 0 stp_state 0
        ip -n "$sw" link set "$network" up
    done
    ip -n "$sw" addr replace 10.78.0.254/24 dev mgmt

    ns_add witness
    plug witness eth0 pair
    ip -n "$(ns_name witness)" addr replace 10.77.0.3/24 dev eth0
    ip -n "$(ns_name witness)" link set eth0 up

    ns_add client
    plug client eth0 vm
    # What the client captures is what was on the wire: whole checksums, one frame a segment.
    { ns_exec client ethtool -K eth0 tx off tso off gso off gro off &&
        ns_exec switch ethtool -K vm-client tx off tso off gso off gro off; } > /dev/null 2>&1 ||
        note "warning: no ethtool; the client sees merged frames (apt-get install ethtool)"
    ip -n "$(ns_name client)" addr replace "$CLIENT_IP/24" dev eth0
    ip -n "$(ns_name client)" link set eth0 up
}

net_down() {
    local host
    for host in primary secondary witness client switch; do
        ns_exists "$host" && ip netns del "$(ns_name "$host")"
    done
    return 0
}
