#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""What a client of the lab's guest waits for; ms, one a line. Every answer is checked.

    guest.py download HOST COUNT     10 MB over HTTP, each on a connection of its own
    guest.py echo HOST COUNT         2 MB to port 7 and back: the guest receives as much as it sends
    guest.py connect HOST COUNT      a new connection until the first byte of an answer
    guest.py random HOST SECONDS     an answer that is another on each copy, on one connection, again
                                     and again
"""
import hashlib
import socket
import sys
import threading
import time
import urllib.request

TIMEOUT_S = 120
ECHO = bytes(range(251)) * (2 * 1024 * 1024 // 251)


def connected(host, port):
    sock = socket.create_connection((host, port), TIMEOUT_S)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return sock


def download(host, count):
    url = f"http://{host}/10m"
    with urllib.request.urlopen(url + ".sha256", timeout=TIMEOUT_S) as answer:
        expected = answer.read().decode().strip()
    for _ in range(int(count)):
        begin = time.monotonic()
        with urllib.request.urlopen(url, timeout=TIMEOUT_S) as answer:
            body = answer.read()
        yield time.monotonic() - begin
        if hashlib.sha256(body).hexdigest() != expected:
            sys.exit("guest.py: the file is another")


def echo(host, count):
    for _ in range(int(count)):
        with connected(host, 7) as sock:
            begin = time.monotonic()
            sender = threading.Thread(target=sock.sendall, args=(ECHO,))
            sender.start()
            body = bytearray()
            while len(body) < len(ECHO) and (piece := sock.recv(1 << 16)):
                body += piece
            yield time.monotonic() - begin
            sender.join()
        if body != ECHO:
            sys.exit(f"guest.py: {len(body)} bytes came back, or others")


def ask(sock, text):
    sock.sendall(text)
    answer = b""
    while not answer.endswith(b"\n"):
        piece = sock.recv(4096)
        if not piece:
            sys.exit("guest.py: the guest closed the connection")
        answer += piece
    return answer


def connect(host, count):
    for _ in range(int(count)):
        begin = time.monotonic()
        with connected(host, 8) as sock:
            answer = ask(sock, b"x\n")
            yield time.monotonic() - begin
        if answer != b"1 x\n":
            sys.exit(f"guest.py: {answer}")
        time.sleep(0.1)


def random(host, seconds):
    end = time.monotonic() + float(seconds)
    seen = set()
    with connected(host, 9) as sock:
        while time.monotonic() < end:
            begin = time.monotonic()
            answer = ask(sock, b"x\n")
            yield time.monotonic() - begin
            if answer in seen:
                sys.exit("guest.py: the same answer twice")
            seen.add(answer)


if __name__ == "__main__":
    programs = {"download": download, "echo": echo, "connect": connect, "random": random}
    if len(sys.argv) != 4 or sys.argv[1] not in programs:
        sys.exit(__doc__)
    for took in programs[sys.argv[1]](*sys.argv[2:]):
        print(f"{took * 1000:.3f}", flush=True)
