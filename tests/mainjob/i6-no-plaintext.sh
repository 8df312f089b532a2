#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# I6: while a domain becomes protected and is protected, nothing of its network traffic, its memory,
# its disk or its XML is readable in what the hosts send each other.
. "$(dirname "$0")/lib.sh"
need_unprotected
marker="MARK-$(od -An -N12 -tx1 /dev/urandom | tr -d ' \n')"

# capture FILE PORT: every frame at that port of the switch.
capture() {
    "$LAB" exec switch python3 "$MJ_DIR/../lab/client.py" capture --interface "$2" --out "$1" \
        > "$1.out" 2>&1 &
    loads+=($!)
    wait_for 10 grep -q capturing "$1.out" || bail "capture on $2"
}

# The marker goes to the guest and comes back, often.
send_marker() {
    on client timeout 60 bash -c "exec 3<>/dev/tcp/$GUEST_IP/7
        for i in {1..50}; do
            echo $marker >&3; read -r -t 20 line <&3 && [ \"\$line\" = $marker ] || exit 1
        done"
}

capture "$TMP/pair.pcap" pair-$P
capture "$TMP/vm.pcap" vm-$P
check "protected while all is captured" colo $P colo-protect ft --pair $PAIR --wait
before=$(stat $P counters disk-bytes-to-peer)
check "the guest answers with the marker" send_marker
check "checkpoints are sent" colo $P colo-checkpoint ft
check "the copy got the input" at_least "$(stat $P counters input-frames)" 50 "mirrored frames"
check "disk writes are sent" wait_for 30 eval \
    "at_least \$(stat $P counters disk-bytes-to-peer) $((before + 8192)) 'disk bytes'"
for pid in "${loads[@]}"; do
    kill -TERM "$pid"
    wait "$pid" || say "capture: $(cat "$TMP"/*.out)"
done
loads=()

has() { LC_ALL=C grep -aqF -e "$2" "$TMP/$1.pcap"; }
# Bytes of frames to or from a TCP port, from the pcap file.
port_bytes() {
    python3 - "$TMP/pair.pcap" "$1" <<'P'
import struct, sys
total, port = 0, int(sys.argv[2])
with open(sys.argv[1], "rb") as f:
    f.read(24)
    while head := f.read(16):
        frame = f.read(struct.unpack("<IIII", head)[2])
        if frame[12:14] == b"\x08\x00" and frame[23] == 6:
            tcp = 14 + (frame[14] & 15) * 4
            if port in struct.unpack(">HH", frame[tcp:tcp + 4]):
                total += len(frame)
print(total)
P
}
check "the search finds the marker where it may be: in the VM network" has vm "$marker"
check "the disk and the memory went over the data port" at_least "$(port_bytes 16515)" 30000000 bytes
check "and requests over the control port" at_least "$(port_bytes 16516)" 5000 bytes
# What the guest's disk writer writes, what a migration stream and its devices begin with, XML and
# JSON of ours, HTTP.
for text in "$marker" OLCBLKv1 QEVM serial8250 '<domain' '<disk' '"execute"' '"method"' '"psk"' \
    '/var/lib/libvirt' 'HTTP/1'; do
    check "the pair network has no '${text/#MARK-*/marker}'" not has pair "$text"
done
finish
