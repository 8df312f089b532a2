#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""Writes seeds for fuzz-compare (its input format is described there) into a folder: small ones that
each reach something, and the beginnings of the traces of real stacks (tests/unit/data/traces)."""
import os
import struct
import sys

FIN, SYN, RST, PSH, ACK = 1, 2, 4, 8, 16
TIMES, SACK, SYN_OPTIONS, OTHER = 4, 5, 6, 7
PRIMARY, SECONDARY, BOTH = 0, 1, 10


def tcp(op, seq, ack, flags=ACK, length=0, fill=0, port=0, window=50, options=0, ip=0):
    return bytes([op, seq, ack, flags, length, fill, port, window, options, ip, 0])


def raw(primary, frame):
    return bytes([2 if primary else 3]) + struct.pack(">H", len(frame)) + frame


def ethernet(ethertype, payload):
    return bytes.fromhex("525400000001525400000002") + struct.pack(">H", ethertype) + payload


def ipv4(protocol, payload, fragment=0, options=b"", ip_id=1):
    return ethernet(0x0800, struct.pack(
        ">BBHHHBBH4s4s", 0x45 + len(options) // 4, 0, 20 + len(options) + len(payload), ip_id, fragment,
        64, protocol, 0, bytes([10, 0, 0, 1]), bytes([10, 0, 0, 2])) + options + payload)


def pieces(family, ip_id, cuts):
    """Fragments of a datagram of 43 bytes, cut at these places, each a frame."""
    data, frames = bytes(range(43)), []
    for begin, end in zip([0] + cuts, cuts + [43]):
        if family == 4:
            frames.append(ipv4(17, data[begin:end], ip_id=ip_id,
                               fragment=begin // 8 | (0x2000 if end < 43 else 0)))
        else:
            frames.append(ethernet(0x86dd, struct.pack(">IHBB", 6 << 28, 8 + end - begin, 44, 64)
                                   + bytes(31) + b"\1" + struct.pack(
                                       ">BBHI", 17, 0, begin | (end < 43), ip_id) + data[begin:end]))
    return frames


def fragments(family, primary_cuts, secondary_cuts, backwards=False):
    said = [raw(True, frame) for frame in pieces(family, 7, primary_cuts)]
    heard = [raw(False, frame) for frame in pieces(family, 9, secondary_cuts)]
    return b"".join(said[::-1] + heard if backwards else said + heard[::-1])


ENTER_P, ENTER_S, COMMIT = b"\4", b"\5", b"\6"
HANDSHAKE = tcp(BOTH, 1, 1, SYN | ACK, options=SYN_OPTIONS)
UDP = struct.pack(">HHHH", 53, 99, 12, 0) + b"data"
SEEDS = {
    "stream": HANDSHAKE + tcp(PRIMARY, 2, 1, length=30) + tcp(SECONDARY, 2, 1, length=10)
    + tcp(SECONDARY, 12, 1, length=40) + tcp(PRIMARY, 32, 1, length=20, options=TIMES)
    + tcp(PRIMARY, 10, 1, length=15),
    "clamp": HANDSHAKE + tcp(SECONDARY, 2, 5, length=10) + tcp(PRIMARY, 2, 20, length=10)
    + tcp(SECONDARY, 12, 20),
    "sack": HANDSHAKE + tcp(SECONDARY, 2, 5, length=10) + tcp(PRIMARY, 2, 5, length=10, options=SACK)
    + tcp(PRIMARY, 12, 5, options=SACK) + tcp(SECONDARY, 12, 5, options=SACK),
    "fin": HANDSHAKE + tcp(BOTH, 2, 1, ACK | FIN, length=5) + tcp(BOTH, 8, 2),
    "reset": tcp(BOTH, 0, 3, RST | ACK) + tcp(PRIMARY, 0, 3, length=3),
    "diverge": HANDSHAKE + tcp(PRIMARY, 2, 1, length=9, fill=255) + tcp(SECONDARY, 2, 1, length=9)
    + ENTER_P + COMMIT + ENTER_S + tcp(BOTH, 11, 1, length=9),
    "epochs": HANDSHAKE + ENTER_S + tcp(SECONDARY, 2, 9, length=9) + tcp(PRIMARY, 2, 9, length=9)
    + ENTER_P + tcp(PRIMARY, 11, 9, length=9) + b"\x16" + COMMIT,
    "other-options": tcp(BOTH, 2, 1, length=4, options=OTHER),
    "reconnect": HANDSHAKE + tcp(BOTH, 2, 1, length=9) + tcp(BOTH, 90, 5, SYN | ACK)
    + tcp(BOTH, 91, 5, length=9),
    "gates": tcp(PRIMARY, 2, 1, length=9) + b"\x09" + tcp(BOTH, 2, 1, length=9) + b"\x19\x07"
    + tcp(PRIMARY, 2, 1) + b"\x08",
    "udp": raw(True, ipv4(17, UDP)) + raw(False, ipv4(17, UDP)),
    "icmp": raw(True, ipv4(1, b"\0\0\0\0\1\2\3\4")) + raw(False, ipv4(1, b"\0\0\0\0\1\2\3\5")),
    "fragment": raw(True, ipv4(17, UDP, fragment=0x2000)) + raw(False, ipv4(17, UDP, fragment=0x2000)),
    "fragments-4": fragments(4, [16], [8, 24]),
    "fragments-4-backwards": fragments(4, [8, 16, 32], [24], backwards=True),
    "fragments-6": fragments(6, [16], [8, 24]) + raw(True, pieces(6, 1, [])[0]) + raw(False, pieces(6, 2, [])[0]),
    "fragments-overlap": fragments(4, [16], [24]) + raw(True, pieces(4, 7, [8, 32])[1]),
    "ip-options": raw(True, ipv4(6, b"\0P\0c" + bytes(8) + b"\x50\x10" + bytes(6), options=b"\1\1\1\0")),
    "arp": raw(True, ethernet(0x0806, bytes(28))) + raw(False, ethernet(0x0806, bytes(28))),
    "vlan": raw(True, ethernet(0x8100, b"\0\7\x86\xdd" + b"\x60" + bytes(43))),
}

TRACES = os.path.join(os.path.dirname(__file__), "..", "unit", "data", "traces")
TRACE_SEED_MAX = 16000  # longer inputs cost the fuzzer more than they reach


def trace(path):
    """As tests/bench/traces/mirror.py writes it; all with virtio-net headers of 12 bytes."""
    with open(path, "rb") as file:
        data = file.read()
    at, records = 24, b""
    while at < len(data):
        length, = struct.unpack_from("=I", data, at + 8)
        frame = data[at + 16:at + 16 + length]
        at += 16 + length
        if len(records) + length > TRACE_SEED_MAX:
            break
        records += raw(frame[0] == 0, frame[1:])
    return records


folder = sys.argv[1]
os.makedirs(folder, exist_ok=True)
for name, records in SEEDS.items():
    for vnet in range(3 if name in ("stream", "clamp") else 1):
        with open(os.path.join(folder, f"{name}-{vnet}"), "wb") as seed:
            seed.write(bytes([vnet]) + records)
for name in os.listdir(TRACES):
    with open(os.path.join(folder, f"trace-{name}"), "wb") as seed:
        seed.write(bytes([2]) + trace(os.path.join(TRACES, name)))
