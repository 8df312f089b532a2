#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""What a client saw of one failover.

    failover.py --tick LOG --pcap FILE --fault-real US --dir DIR --prefix CASE [--silence MS]

LOG is client.py's tick log, FILE client.py's capture at the client (times: CLOCK_MONOTONIC), US the
moment of the fault in realtime.  Appends one value (ms) to each of these files of DIR:

    CASE-first-frame   from the fault to the first frame of the new primary.  It carries the same MAC
                       as the old one: it is the frame that ends the first silence of at least
                       --silence ms between the fault and the end of the client's gap (the tick
                       session asks every 10 ms, the guest is never silent for that long by
                       itself); with no such silence the longest one counts.
    CASE-gap           the longest time between two answers of which the second came after the fault
    CASE-rto-wait      from the new primary's first frame to the client's next transmission of data:
                       time in which nothing could be answered because the client's TCP waited for
                       its retransmission timer.  gap = first-frame + rto-wait + the answer's way,
                       less what had passed since the last answer before the fault.
    CASE-rto-phases    text, one line: when the client transmitted data before the gap's end, ms after
                       the fault, `r` for a retransmission; the last ten

Exit code 1 when the log tells a failure or a part of the story is missing.
"""
import argparse
import struct
import sys

GUEST_MAC = bytes.fromhex("525400770010")
TICK_PORT = 8
TCP = 6


def read_log(path):
    """(monotonic ns - realtime ns, times of right answers in monotonic ns)"""
    offset, answers = None, []
    with open(path) as file:
        for line in file:
            words = line.split()
            if line.startswith("# clock"):
                mono, real = (int(word.split("=")[1]) for word in words[2:4])
                offset = mono - real
            elif words[0] == "R":
                answers.append(int(words[2]))
            elif words[0] == "E":
                sys.exit(f"failover.py: the session failed: {line.strip()}")
    if offset is None or not answers:
        sys.exit(f"failover.py: no answers in {path}")
    return offset, answers


def read_frames(path):
    """(monotonic ns, frame) of a pcap file as client.py writes it; a frame cut short ends it."""
    with open(path, "rb") as file:
        data = file.read()
    at = 24
    while at + 16 <= len(data):
        seconds, ns, length, _whole = struct.unpack_from("<IIII", data, at)
        at += 16
        if at + length > len(data):
            return
        yield seconds * 1000000000 + ns, data[at:at + length]
        at += length


def client_data(frame):
    """Sequence number and bytes of payload when the frame is the client's to the tick port."""
    if len(frame) < 54 or frame[12:14] != b"\x08\x00" or frame[23] != TCP or frame[6:12] == GUEST_MAC:
        return None
    head = 14 + (frame[14] & 15) * 4
    _sport, dport, seq = struct.unpack_from(">HHI", frame, head)
    length = struct.unpack_from(">H", frame, 16)[0] - (head - 14) - (frame[head + 12] >> 4) * 4
    return (seq, length) if dport == TICK_PORT and length > 0 else None


def first_frame(times, fault, end, silence):
    """End of the first silence of that length between fault and end; else of the longest one."""
    last, longest = fault, (0, None)
    for now in times:
        if not fault <= now <= end:
            continue
        longest = max(longest, (now - last, now))
        if now - last >= silence:
            return now
        last = now
    return longest[1]


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--tick", required=True)
    parser.add_argument("--pcap", required=True)
    parser.add_argument("--fault-real", type=int, required=True, help="us")
    parser.add_argument("--silence", type=float, default=250, help="ms")
    parser.add_argument("--dir", required=True)
    parser.add_argument("--prefix", required=True)
    args = parser.parse_args()

    offset, answers = read_log(args.tick)
    fault = args.fault_real * 1000 + offset
    frames = list(read_frames(args.pcap))
    after = [at for at in answers if at >= fault]
    if not after:
        sys.exit("failover.py: no answer came after the fault")
    before = max((at for at in answers if at < fault), default=fault)
    gap, gap_end = max((b - a, b) for a, b in zip([before] + after, after))

    begin = first_frame([at for at, frame in frames if frame[6:12] == GUEST_MAC], fault, gap_end,
                        args.silence * 1e6)
    if begin is None:
        sys.exit("failover.py: no frame of the guest in the client's gap")
    highest, phases, waited = None, [], None
    for at, frame in frames:
        data = client_data(frame)
        if not data:
            continue
        seq, length = data
        end = (seq + length) % (1 << 32)
        again = highest is not None and not 0 < (end - highest) % (1 << 32) < 1 << 31
        if not again:
            highest = end
        if fault <= at <= gap_end:
            phases.append(f"{'r' if again else ''}{(at - fault) / 1e6:.0f}")
            if at >= begin and waited is None:
                waited = at - begin
    values = {"first-frame": (begin - fault) / 1e6, "gap": gap / 1e6,
              "rto-wait": (waited or 0) / 1e6}
    for name, value in values.items():
        with open(f"{args.dir}/{args.prefix}-{name}", "a") as file:
            file.write(f"{value:.3f}\n")
    with open(f"{args.dir}/{args.prefix}-rto-phases", "a") as file:
        file.write(" ".join(phases[-10:]) + "\n")
    print(" ".join(f"{name} {value:.1f}" for name, value in values.items()))


if __name__ == "__main__":
    main()
