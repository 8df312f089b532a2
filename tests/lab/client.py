#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""Client programs of the lab: they load the guest, check every answer and log with times.

    client.py tick|random|time|http|many|capture [options]   run until --count, --duration or SIGTERM
    client.py report FILE [--since NS | --since-real US]   gaps and round trips of a log

A log is text: one record a line, fields separated by blanks, times in CLOCK_MONOTONIC ns.
    # clock mono_ns=M real_ns=R       both clocks at one moment: converts `lab kill-host` times
    S SEQUENCE TIME                   sent
    R SEQUENCE TIME ANSWER...         received and right
    E TIME what happened              the session is broken or an answer is wrong
    # end ok|failed sent=N received=N
Exit code: 0 all right, 1 a wrong, missing or broken answer, 2 wrong usage.
"""
import argparse
import hashlib
import json
import os
import re
import selectors
import signal
import socket
import statistics
import struct
import sys
import time

GUEST = "10.9.0.10"
PORTS = {"tick": 8, "many": 8, "random": 9, "time": 10}
UUID = re.compile(r"^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[0-9a-f]{4}-[0-9a-f]{12}$")
DRAIN_S = 10  # answers may be this late after the last line was sent
SECOND = 1000000000

stopping = False


def stop(_signal, _frame):
    """SIGTERM and SIGINT end a program in order: outstanding answers are still awaited."""
    global stopping
    stopping = True


class Log:
    """The log file (standard output without --out), flushed line by line."""

    def __init__(self, path):
        self.file = open(path, "w", buffering=1) if path else sys.stdout
        self.failures = 0
        self.line(f"# clock mono_ns={time.monotonic_ns()} real_ns={time.time_ns()}")

    def line(self, text):
        self.file.write(text + "\n")

    def error(self, text):
        self.failures += 1
        self.line(f"E {time.monotonic_ns()} {text}")
        print(f"client: {text}", file=sys.stderr)

    def end(self, sent, received):
        word = "failed" if self.failures else "ok"
        self.line(f"# end {word} sent={sent} received={received}")
        self.file.flush()
        return 1 if self.failures else 0


class CheckTick:
    """Port 8: the answer to line N of the connection is `N line`."""

    def request(self, seq):
        return f"t{seq}"

    def wrong(self, seq, answer):
        expected = f"{seq} t{seq}"
        return None if answer == expected else f"answer {seq}: expected '{expected}', found '{answer}'"


class CheckRandom:
    """Port 9: a UUID that never came before."""

    def __init__(self):
        self.seen = set()

    def request(self, seq):
        return f"r{seq}"

    def wrong(self, seq, answer):
        if not UUID.match(answer):
            return f"answer {seq}: not a UUID: '{answer}'"
        if answer in self.seen:
            return f"answer {seq}: UUID given before: {answer}"
        self.seen.add(answer)
        return None


class CheckTime:
    """Port 10: neither of the guest's clocks goes back."""

    def __init__(self):
        self.last = (0, 0)

    def request(self, seq):
        return f"c{seq}"

    def wrong(self, seq, answer):
        try:
            now = tuple(int(word) for word in answer.split())
            assert len(now) == 2
        except (ValueError, AssertionError):
            return f"answer {seq}: not two times: '{answer}'"
        for name, before, after in zip(("monotonic", "realtime"), self.last, now):
            if after < before:
                return f"answer {seq}: the guest's {name} clock went back by {before - after} ns"
        self.last = now
        return None


def session(args, check):
    """One TCP connection; a line every interval whatever the answers do; all answers checked."""
    log = Log(args.out)
    sent = received = 0
    data = unsent = b""
    try:
        sock = socket.create_connection((args.host, args.port), timeout=10)
    except OSError as error:
        log.error(f"cannot connect to {args.host} port {args.port}: {error}")
        return log.end(0, 0)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    sock.setblocking(False)
    selector = selectors.DefaultSelector()
    selector.register(sock, selectors.EVENT_READ)
    interval = int(args.interval * 1e6)
    start = due = time.monotonic_ns()
    end = start + int(args.duration * SECOND) if args.duration else None
    drain = None
    while True:
        now = time.monotonic_ns()
        more = not (stopping or (args.count and sent >= args.count) or (end and now >= end))
        if more and now >= due:
            seq = sent + 1
            line = (check.request(seq) + "\n").encode()
            log.line(f"S {seq} {time.monotonic_ns()}")
            unsent += line
            sent = seq
            due += interval
        elif not more:
            if received == sent:
                break
            drain = drain or now + DRAIN_S * SECOND
            if now >= drain:
                log.error(f"{sent - received} answers are missing after {DRAIN_S} s")
                break
        # While nothing is acknowledged the kernel takes some 90 lines: the rest waits here.
        try:
            while unsent:
                unsent = unsent[sock.send(unsent):]
        except BlockingIOError:
            pass
        except OSError as error:
            log.error(f"the connection broke at line {sent}: {error}")
            break
        wait = max(0, (due - now) / SECOND) if more else 0.05
        if not selector.select(min(wait, 0.05) if not stopping else 0.05):
            continue
        try:
            chunk = sock.recv(65536)
        except OSError as error:
            log.error(f"the connection broke after answer {received}: {error}")
            break
        now = time.monotonic_ns()
        if not chunk:
            log.error(f"the connection ended after answer {received} of {sent}")
            break
        data += chunk
        *lines, data = data.split(b"\n")
        for raw in lines:
            answer = raw.decode("ascii", "replace")
            if received == sent:
                log.error(f"an answer nobody asked for: '{answer}'")
                break
            received += 1
            wrong = check.wrong(received, answer)
            if wrong:
                log.error(wrong)
            else:
                log.line(f"R {received} {now} {answer}")
    sock.close()
    return log.end(sent, received)


def many(args):
    """
    A new connection every interval, each with one line at once and one at the end, so that at any
    moment some are new; the newest --keep stay open. An answer to every line must come.
    """
    log = Log(args.out)
    selector = selectors.DefaultSelector()
    opened, number, received = [], 0, 0
    interval = int(args.interval * 1e6)
    due = time.monotonic_ns()
    end = due + int(args.duration * SECOND) if args.duration else None
    drain = None

    def send(conn):
        conn["lines"] += 1
        conn["sent"] = time.monotonic_ns()
        conn["sock"].send(f"m{conn['number']}\n".encode())

    def close(conn):
        selector.unregister(conn["sock"])
        conn["sock"].close()
        opened.remove(conn)

    while not log.failures:
        now = time.monotonic_ns()
        more = not (stopping or (args.count and number >= args.count) or (end and now >= end))
        if more and now >= due:
            number += 1
            due = max(due + interval, now - SECOND)
            sock = socket.socket()
            sock.setblocking(False)
            sock.connect_ex((args.host, args.port))
            conn = {"number": number, "sock": sock, "lines": 0, "answers": 0, "data": b"", "born": now}
            log.line(f"S {number} {now}")
            opened.append(conn)
            selector.register(sock, selectors.EVENT_WRITE, conn)
        elif not more:
            if drain is None:
                drain = now + 3 * DRAIN_S * SECOND
                for conn in opened:
                    if conn["lines"]:
                        send(conn)
            waiting = [c for c in opened if c["answers"] < max(1, c["lines"])]
            if not waiting:
                break
            if now >= drain:
                for conn in waiting:
                    log.error(f"connection {conn['number']}, opened {(now - conn['born']) / 1e9:.3f} s ago:"
                              f" {conn['answers']} answers to {conn['lines']} lines")
                break
        for key, events in selector.select(min(0.05, max(0, (due - now) / SECOND)) if more else 0.05):
            conn = key.data
            try:
                if events & selectors.EVENT_WRITE:
                    failure = conn["sock"].getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
                    if failure:
                        raise OSError(failure, os.strerror(failure))
                    selector.modify(conn["sock"], selectors.EVENT_READ, conn)
                    send(conn)
                    continue
                chunk = conn["sock"].recv(4096)
                if not chunk:
                    raise OSError("the other side ended it")
            except OSError as error:
                log.error(f"connection {conn['number']} broke after {conn['answers']} answers: {error}")
                break
            *lines, conn["data"] = (conn["data"] + chunk).split(b"\n")
            for answer in lines:
                conn["answers"] += 1
                expected = f"{conn['answers']} m{conn['number']}"
                if answer.decode("ascii", "replace") != expected:
                    log.error(f"connection {conn['number']}: expected '{expected}', found {answer!r}")
                received += 1
                log.line(f"R {conn['number']} {time.monotonic_ns()} {expected}")
        if more:
            for conn in [c for c in opened[:-args.keep] if c["answers"] and c["answers"] == c["lines"]]:
                close(conn)
    return log.end(sum(c["lines"] for c in opened), received)


def fetch(host, path, timeout):
    """Body of http://host/path; OSError or ValueError when it is not complete."""
    with socket.create_connection((host, 80), timeout=timeout) as sock:
        sock.sendall(f"GET {path} HTTP/1.0\r\nHost: {host}\r\n\r\n".encode())
        parts = []
        while True:
            chunk = sock.recv(262144)
            if not chunk:
                break
            parts.append(chunk)
    head, _, body = b"".join(parts).partition(b"\r\n\r\n")
    if b" 200 " not in head.split(b"\r\n")[0] + b" ":
        raise ValueError(f"status line {head[:60]!r}")
    length = re.search(rb"(?i)content-length: (\d+)", head)
    if length and int(length.group(1)) != len(body):
        raise ValueError(f"{len(body)} of {int(length.group(1))} bytes")
    return body


def http(args):
    """Downloads a file over and over, each on a connection of its own, and checks its sum."""
    log = Log(args.out)
    sent = received = 0
    end = time.monotonic() + args.duration if args.duration else None
    try:
        expected = fetch(args.host, args.path + ".sha256", args.timeout).decode().strip()
    except (OSError, ValueError) as error:
        log.error(f"cannot fetch {args.path}.sha256: {error}")
        return log.end(0, 0)
    while not stopping and not (args.count and sent >= args.count):
        if end and time.monotonic() >= end:
            break
        sent += 1
        log.line(f"S {sent} {time.monotonic_ns()}")
        try:
            body = fetch(args.host, args.path, args.timeout)
        except (OSError, ValueError) as error:
            log.error(f"download {sent} of {args.path}: {error}")
            break
        now = time.monotonic_ns()
        found = hashlib.sha256(body).hexdigest()
        if found != expected:
            log.error(f"download {sent} of {args.path}: sha256 {found}, expected {expected}")
            break
        received += 1
        log.line(f"R {received} {now} {len(body)}")
        time.sleep(args.interval / 1000)
    return log.end(sent, received)


def capture(args):
    """Writes every frame of the interface to a pcap file (ns); its times are CLOCK_MONOTONIC."""
    so_timestampns, packet_statistics, sol_packet = 35, 6, 263
    sock = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.ntohs(3))
    sock.setsockopt(socket.SOL_SOCKET, 33, 64 << 20)  # SO_RCVBUFFORCE
    sock.setsockopt(socket.SOL_SOCKET, so_timestampns, 1)
    sock.bind((args.interface, 0))
    sock.settimeout(0.1)
    count = 0
    end = time.monotonic() + args.duration if args.duration else None
    with open(args.out, "wb") as out:
        out.write(struct.pack("<IHHiIII", 0xA1B23C4D, 2, 4, 0, 0, 65535, 1))
        out.flush()
        print(f"capturing on {args.interface}", flush=True)
        while not stopping and not (end and time.monotonic() >= end):
            try:
                frame, control, _flags, _address = sock.recvmsg(65535, 64)
            except socket.timeout:
                out.flush()
                continue
            mono = time.monotonic_ns()
            for level, kind, data in control:
                if level == socket.SOL_SOCKET and kind == so_timestampns:
                    seconds, ns = struct.unpack("qq", data[:16])
                    mono -= time.time_ns() - (seconds * SECOND + ns)
            out.write(struct.pack("<IIII", mono // SECOND, mono % SECOND, len(frame), len(frame)))
            out.write(frame)
            count += 1
    _packets, dropped = struct.unpack("II", sock.getsockopt(sol_packet, packet_statistics, 8))
    print(f"captured frames={count} dropped={dropped}")
    return 1 if dropped else 0


def summary(values):
    """n, min, median, p95, max of a list of ms."""
    values = sorted(values)
    if not values:
        return {"n": 0}
    return {
        "n": len(values),
        "min": round(values[0], 3),
        "median": round(statistics.median(values), 3),
        "p95": round(values[min(len(values) - 1, int(0.95 * len(values)))], 3),
        "max": round(values[-1], 3),
    }


def report(args):
    """Gaps between answers and round trips, from a moment on; exit 1 when the log tells a failure."""
    sent, gaps, trips = {}, [], []
    since, last, worst, failures, ended = args.since or 0, None, (0, 0), 0, False
    with open(args.file) as file:
        for text in file:
            words = text.split()
            if text.startswith("# clock") and args.since_real:
                mono, real = (int(word.split("=")[1]) for word in words[2:4])
                since = args.since_real * 1000 - real + mono
            elif text.startswith("# end"):
                ended = True
            elif words[0] == "S":
                sent[words[1]] = int(words[2])
            elif words[0] == "R":
                now = int(words[2])
                if now >= since:
                    trips.append((now - sent[words[1]]) / 1e6)
                    if last is not None:
                        gaps.append((now - last) / 1e6)
                        worst = max(worst, (now - last, last))
                last = now
            elif words[0] == "E":
                failures += 1
                print(f"failure: {text.strip()}", file=sys.stderr)
    result = {"gap_ms": summary(gaps), "round_trip_ms": summary(trips), "failures": failures,
              "complete": ended, "worst_gap_at_ns": worst[1]}
    if args.json:
        print(json.dumps(result))
    else:
        for name in ("gap_ms", "round_trip_ms"):
            print(f"{name:14s}" + "  ".join(f"{k} {v}" for k, v in result[name].items()))
        print(f"failures {failures}" + ("" if ended else "  (the log has no end)"))
    return 1 if failures else 0


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    commands = parser.add_subparsers(dest="command", required=True)
    for name in ("tick", "random", "time", "many", "http"):
        sub = commands.add_parser(name)
        sub.add_argument("--host", default=GUEST)
        sub.add_argument("--interval", type=float, default=0 if name == "http" else 10, help="ms")
        sub.add_argument("--count", type=int, help="lines or downloads")
        sub.add_argument("--duration", type=float, help="s")
        sub.add_argument("--out", help="log file; standard output without it")
        if name == "http":
            sub.add_argument("--path", default="/1m")
            sub.add_argument("--timeout", type=float, default=30, help="s without a byte")
        else:
            sub.add_argument("--port", type=int, default=PORTS[name])
        if name == "many":
            sub.add_argument("--keep", type=int, default=100, help="connections that stay open")
    sub = commands.add_parser("capture")
    sub.add_argument("--interface", default="eth0")
    sub.add_argument("--duration", type=float, help="s")
    sub.add_argument("--out", required=True)
    sub = commands.add_parser("report")
    sub.add_argument("file")
    sub.add_argument("--since", type=int, help="CLOCK_MONOTONIC ns")
    sub.add_argument("--since-real", type=int, help="realtime us, as lab kill-host prints")
    sub.add_argument("--json", action="store_true")
    args = parser.parse_args()

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)
    checks = {"tick": CheckTick, "random": CheckRandom, "time": CheckTime}
    if args.command in checks:
        return session(args, checks[args.command]())
    return {"http": http, "many": many, "capture": capture, "report": report}[args.command](args)


if __name__ == "__main__":
    try:
        sys.exit(main())
    except BrokenPipeError:
        os._exit(1)
