#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""I1 from outside: what reached the client, and when, against the commits of checkpoints.

    i1-check.py capture PCAP PORT LOG COMMITS     one JSON object on standard output
    i1-check.py known LOG [HOST] < nothing        asks the guest for each answer of a random LOG
    i1-check.py headers PCAP                      what the guest's TCP headers say, all connections

PCAP, LOG: as client.py writes them (CLOCK_MONOTONIC ns). COMMITS: lines of JSON arrays
[epoch, taken, committed] as "commits" of colo-stats has them; lines may repeat.

An answer is committed when a checkpoint was taken after its question was asked and committed before
its first byte reached the client. (It was produced between question and checkpoint: an answer that
no checkpoint separates from its question left without one.)
"headers": a client must never see acknowledgement, timestamp (RFC 7323) or right edge of the window
(RFC 9293 3.8.6) of a connection go back, whichever copy speaks. The window of a SYN-ACK does not count:
a guest that answers with SYN cookies (Linux, when its backlog is full) offers less after it.
Exit code 2: the material cannot be judged (an answer that was not captured, a missing commit).
"""
import bisect
import json
import socket
import statistics
import struct
import sys


def fail(text):
    print(f"i1-check: {text}", file=sys.stderr)
    sys.exit(2)


def read_log(path):
    """Questions and answers by number: {n: time}, {n: text}."""
    asked, answers = {}, {}
    with open(path) as log:
        for line in log:
            words = line.split()
            if words[0] == "S":
                asked[int(words[1])] = int(words[2])
            elif words[0] == "R":
                answers[int(words[1])] = " ".join(words[3:])
    return asked, answers


def read_stream(path, port):
    """Bytes that came from the guest's port, on one TCP connection, and when each first came:
    (bytes, [(offset, time)...]), a piece of new bytes each."""
    base, pieces, peer = None, {}, None
    with open(path, "rb") as file:
        file.read(24)
        while len(head := file.read(16)) == 16:
            seconds, ns, size, _ = struct.unpack("<IIII", head)
            frame = file.read(size)
            if len(frame) < 54 or frame[12:14] != b"\x08\x00" or frame[23] != 6:
                continue
            tcp = 14 + (frame[14] & 15) * 4
            source, dest, seq = struct.unpack(">HHI", frame[tcp : tcp + 8])
            if source != port or (peer and dest != peer):
                continue
            peer = dest
            flags, data = frame[tcp + 13], tcp + (frame[tcp + 12] >> 4) * 4
            if flags & 2:
                base = (seq + 1) & 0xFFFFFFFF
                continue
            if base is None:
                fail(f"the capture begins after the connection from port {port}")
            body = frame[data : 14 + struct.unpack(">H", frame[16:18])[0]]
            when = seconds * 10**9 + ns
            for i, byte in enumerate(body):
                pieces.setdefault((seq - base + i) & 0xFFFFFFFF, (byte, when))
    stream = bytearray()
    times = []
    while len(stream) in pieces:
        byte, when = pieces[len(stream)]
        times.append(when)
        stream.append(byte)
    return bytes(stream), times


def read_commits(path):
    commits = {}
    with open(path) as file:
        for line in file:
            for epoch, taken, committed in json.loads(line):
                commits[epoch] = (taken, committed)
    if not commits:
        fail("no commits")
    return commits


def capture(pcap, port, log, commits_path):
    asked, answers = read_log(log)
    stream, times = read_stream(pcap, int(port))
    commits = read_commits(commits_path)
    epochs = sorted(commits)
    lines = stream.split(b"\n")[:-1]
    if len(lines) != len(answers) or not answers:
        fail(f"{len(answers)} answers in the log, {len(lines)} in the capture")
    first, last = min(commits[epochs[0]]), max(commits[epochs[-1]])
    missing = epochs[-1] - epochs[0] + 1 - len(epochs)
    if missing:
        fail(f"{missing} commits between {epochs[0]} and {epochs[-1]} were not seen")
    taken = [commits[epoch][0] for epoch in epochs]
    without, margins, at = [], [], 0
    for n, line in enumerate(lines, 1):
        if line.decode() != answers[n]:
            fail(f"answer {n}: '{answers[n]}' in the log, {line!r} in the capture")
        came = times[at]
        at += len(line) + 1
        if asked[n] < first or came > last:
            fail(f"answer {n} lies outside the time that the commits cover")
        index = bisect.bisect_left(taken, asked[n])
        if index < len(taken) and commits[epochs[index]][1] <= came:
            margins.append((came - commits[epochs[index]][1]) / 1e6)
        else:
            without.append(n)
    print(json.dumps({
        "answers": len(lines), "without-commit": len(without), "commits": len(epochs),
        "first-without": without[:5],
        "commit-to-client-ms": {
            "min": round(min(margins), 3), "median": round(statistics.median(margins), 3),
            "max": round(max(margins), 3)} if margins else None}))


def known(log, host="10.9.0.10"):
    """Asks port 11 `have UUID` for every answer that the client got."""
    _, answers = read_log(log)
    with socket.create_connection((host, 11), timeout=30) as sock:
        file = sock.makefile("rw", newline="\n")

        def have(uuid):
            file.write(f"have {uuid}\n")
            file.flush()
            return file.readline().startswith("have=1")

        unknown = [n for n, uuid in answers.items() if not have(uuid)]
        stranger = have("00000000-0000-4000-8000-000000000000")
    print(json.dumps({"answers": len(answers), "unknown": len(unknown),
                      "first-unknown": unknown[:5], "stranger-known": stranger}))


def tcp_frames(path, host):
    """(time, connection, flags, seq, ack, window, tsval or None, wscale or None) of each TCP frame
    from host."""
    with open(path, "rb") as file:
        file.read(24)
        while len(head := file.read(16)) == 16:
            seconds, ns, size, _ = struct.unpack("<IIII", head)
            frame = file.read(size)
            if len(frame) < 54 or frame[12:14] != b"\x08\x00" or frame[23] != 6 or frame[26:30] != host:
                continue
            tcp = 14 + (frame[14] & 15) * 4
            end = tcp + (frame[tcp + 12] >> 4) * 4
            seq, ack, window = struct.unpack(">II2xH", frame[tcp + 4 : tcp + 16])
            tsval = wscale = None
            at = tcp + 20
            while at < end and frame[at]:
                if frame[at] == 8:
                    tsval = struct.unpack(">I", frame[at + 2 : at + 6])[0]
                elif frame[at] == 3:
                    wscale = frame[at + 2]
                at += 1 if frame[at] == 1 else max(2, frame[at + 1])
            key = frame[30:34] + frame[tcp : tcp + 4]
            yield seconds * 10**9 + ns, key, frame[tcp + 13], seq, ack, window, tsval, wscale


def headers(pcap, host="10.9.0.10"):
    seen, back, frames, first = {}, {"ack": [], "tsval": [], "edge": []}, 0, None
    for when, key, flags, seq, ack, window, tsval, wscale in tcp_frames(pcap, socket.inet_aton(host)):
        frames += 1
        if flags & 2:
            seen[key] = {"scale": wscale or 0}
        elif key not in seen or flags & 4:
            continue  # began before the capture: the scale is not known; a reset has no window
        now = {"ack": ack}
        if not flags & 2:
            now["edge"] = (ack + (window << seen[key]["scale"])) & 0xFFFFFFFF
        if tsval is not None:
            now["tsval"] = tsval
        for name, value in now.items():
            behind = (seen[key].get(name, value) - value) & 0xFFFFFFFF
            if 0 < behind < 1 << 31:
                back[name].append(behind)
                first = first or {"field": name, "time": when, "flags": flags, "seq": seq, "value": value,
                                  "before": seen[key][name], "port": struct.unpack(">HH", key[4:])}
            else:
                seen[key][name] = value
    print(json.dumps({"connections": len(seen), "frames": frames,
                      **{f"{name}-back": len(steps) for name, steps in back.items()},
                      "worst": {name: max(steps, default=0) for name, steps in back.items()},
                      "first": first}))


if __name__ == "__main__":
    commands = {"capture": capture, "known": known, "headers": headers}
    if len(sys.argv) < 3 or sys.argv[1] not in commands:
        sys.exit(__doc__)
    commands[sys.argv[1]](*sys.argv[2:])
