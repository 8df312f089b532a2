#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""Command channel into a virtual machine of the kvm back-end.

    agent.py serve ADDRESS PORT            in the machine, started by its process 1
    agent.py run ADDRESS PORT WORD...      on the lab's side; streams and exit code are the command's

The channel has a network of its own (mgmt) that the lab never cuts, and nothing else uses it.
A connection is one command.  Both directions carry records: one byte kind, be32 length, bytes.
  to the machine: A arguments (JSON list), I standard input, C close of standard input
  from it:        O standard output, E standard error, X exit code (decimal)
When the connection ends early the command's process group is killed.
"""
import json
import os
import signal
import socket
import struct
import subprocess
import sys
import threading

CHUNK = 65536
MAX_RECORD = 1 << 20


def send_record(sock, kind, data=b""):
    sock.sendall(kind + struct.pack(">I", len(data)) + data)


def receive_exactly(sock, count):
    parts = []
    while count:
        data = sock.recv(min(count, CHUNK))
        if not data:
            raise EOFError
        parts.append(data)
        count -= len(data)
    return b"".join(parts)


def receive_record(sock):
    head = receive_exactly(sock, 5)
    length = struct.unpack(">I", head[1:])[0]
    if length > MAX_RECORD:
        raise EOFError
    return head[:1], receive_exactly(sock, length)


def serve_one(sock):
    """One command, in a thread of its own."""
    lock = threading.Lock()
    try:
        kind, data = receive_record(sock)
        assert kind == b"A"
        arguments = json.loads(data)
        try:
            process = subprocess.Popen(arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                       stderr=subprocess.PIPE, start_new_session=True, cwd="/")
        except OSError as error:
            send_record(sock, b"E", f"lab: {arguments[0]}: {error.strerror}\n".encode())
            send_record(sock, b"X", b"127")
            return
    except (EOFError, OSError, ValueError, AssertionError):
        return
    finished = threading.Event()

    def feed():
        try:
            while True:
                kind, data = receive_record(sock)
                if kind == b"C":
                    process.stdin.close()
                elif kind == b"I":
                    try:
                        process.stdin.write(data)
                        process.stdin.flush()
                    except (BrokenPipeError, ValueError):
                        pass  # the command reads no more
        except (EOFError, OSError):
            if not finished.is_set():
                try:
                    os.killpg(process.pid, signal.SIGKILL)
                except ProcessLookupError:
                    pass

    def forward(pipe, kind):
        while True:
            data = os.read(pipe.fileno(), CHUNK)
            if not data:
                return
            try:
                with lock:
                    send_record(sock, kind, data)
            except OSError:
                return

    threading.Thread(target=feed, daemon=True).start()
    forwarders = [threading.Thread(target=forward, args=pair, daemon=True)
                  for pair in ((process.stdout, b"O"), (process.stderr, b"E"))]
    for thread in forwarders:
        thread.start()
    code = process.wait()
    # A daemon that the command left behind may keep its output open: wait a little, not for ever.
    for thread in forwarders:
        thread.join(1)
    finished.set()
    try:
        with lock:
            send_record(sock, b"X", str(code if code >= 0 else 128 - code).encode())
        sock.shutdown(socket.SHUT_RDWR)
    except OSError:
        pass


def serve(address, port):
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind((address, port))
    listener.listen(64)
    while True:
        sock, _peer = listener.accept()
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        threading.Thread(target=serve_one, args=(sock,), daemon=True).start()


def run(address, port, arguments):
    """Returns the exit code; 255 when the machine went away."""
    try:
        sock = socket.create_connection((address, port), timeout=10)
    except OSError as error:
        print(f"lab: error: the host does not answer on {address}: {error}", file=sys.stderr)
        return 255
    sock.settimeout(None)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    # A machine that lost power sends no end: notice it within seconds.
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for option, value in ((socket.TCP_KEEPIDLE, 5), (socket.TCP_KEEPINTVL, 3), (socket.TCP_KEEPCNT, 5)):
        sock.setsockopt(socket.IPPROTO_TCP, option, value)
    send_record(sock, b"A", json.dumps(arguments).encode())

    def feed():
        try:
            while True:
                data = os.read(0, CHUNK)
                if not data:
                    break
                send_record(sock, b"I", data)
            send_record(sock, b"C")
        except OSError:
            pass

    threading.Thread(target=feed, daemon=True).start()
    outputs = {b"O": 1, b"E": 2}
    try:
        while True:
            kind, data = receive_record(sock)
            if kind == b"X":
                return int(data)
            while data:
                data = data[os.write(outputs[kind], data):]
    except BrokenPipeError:
        return 128 + signal.SIGPIPE  # the reader of our output has gone
    except (EOFError, OSError):
        print("lab: error: the host went away", file=sys.stderr)
        return 255


if __name__ == "__main__":
    if sys.argv[1] == "serve":
        serve(sys.argv[2], int(sys.argv[3]))
    else:
        status = run(sys.argv[2], int(sys.argv[3]), sys.argv[4:])
        sys.stdout.flush()
        os._exit(status)
