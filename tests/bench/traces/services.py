# SPDX-License-Identifier: LGPL-2.1-or-later
"""Servers that both copies run, and the clients that ask them.

Both copies must answer with the same bytes whatever the clock and the random numbers say; how they
hand them to TCP may differ, and does: over HTTP copy A writes whole answers, copy B pieces.
  http   an HTTP/1.1 server of Python without a Date header
  tls    OpenSSL, TLS 1.3, with random numbers that begin anew for each connection
  redis  redis-server
  dns    dnsmasq, UDP (with fragments) and TCP
"""
import ctypes
import hashlib
import http.server
import os
import random
import socket
import socketserver
import ssl
import struct
import subprocess
import sys
import threading
import time

from mirror import enter

HTTP, TLS, REDIS, DNS = 8080, 8443, 6379, 53
WAIT_S = 30  # ends a client that hangs
# Not less than a full segment: else A's first segment after a loss holds more than B, whose
# congestion window is one segment of fewer bytes, can send; only a checkpoint would end that.
PIECE = 3000


def content(size):
    return random.Random(size).randbytes(size)


# ---- servers ----

class Listener(socketserver.ThreadingTCPServer):
    address_family = socket.AF_INET6  # and IPv4, mapped
    allow_reuse_address = True
    daemon_threads = True
    request_queue_size = 64
    pieces = False

    def get_request(self):
        connection, peer = super().get_request()
        if self.pieces:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)
        return connection, peer

    def handle_error(self, request, client_address):
        pass  # a client that resets


class Http(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def answer(self, body):
        head = (f"HTTP/1.1 200 OK\r\nContent-Type: application/octet-stream\r\n"
                f"Content-Length: {len(body)}\r\n\r\n").encode()
        data, at, sizes = head + body, 0, random.Random(len(body))
        while at < len(data):
            size = sizes.randint(PIECE, 4 * PIECE) if self.server.pieces else len(data)
            self.wfile.write(data[at:at + size])
            at += size

    def do_GET(self):
        self.answer(content(int(self.path[1:])))

    def do_POST(self):
        digest, left = hashlib.sha256(), int(self.headers["Content-Length"])
        while left:
            data = self.rfile.read(min(left, 4000))
            left -= len(data)
            digest.update(data)
        self.answer(digest.hexdigest().encode())

    def log_message(self, *_):
        pass


class RandMethod(ctypes.Structure):
    _fields_ = [(name, ctypes.c_void_p)
                for name in ("seed", "bytes", "cleanup", "add", "pseudorand", "status")]


class FixedRandom:
    """OpenSSL's random numbers (RAND_set_rand_method(3)): the same ones after each restart()."""

    def __init__(self):
        with open("/proc/self/maps") as maps:
            path = next(line.split()[-1] for line in maps if "libcrypto" in line)
        self.count = 0
        self.functions = (ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_int)(self.fill),
                          ctypes.CFUNCTYPE(ctypes.c_int)(lambda: 1))
        fill, status = (ctypes.cast(f, ctypes.c_void_p).value for f in self.functions)
        self.method = RandMethod(None, fill, None, None, fill, status)
        ctypes.CDLL(path).RAND_set_rand_method(ctypes.byref(self.method))

    def restart(self):
        self.count = 0

    def fill(self, at, size):
        data = b""
        while len(data) < size:
            self.count += 1
            data += hashlib.sha256(struct.pack(">Q", self.count)).digest()
        ctypes.memmove(at, data[:size], size)
        return 1


def serve_tls(folder):
    """One connection at a time.  A line with a number asks for as many bytes."""
    fixed = FixedRandom()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.num_tickets = 0
    context.load_cert_chain(f"{folder}/cert.pem", f"{folder}/key.pem")
    listener = socket.create_server(("::", TLS), family=socket.AF_INET6, backlog=16,
                                    dualstack_ipv6=True)
    while True:
        connection = listener.accept()[0]
        fixed.restart()
        try:
            with context.wrap_socket(connection, server_side=True) as stream, \
                    stream.makefile("rb") as lines:
                for line in lines:
                    stream.sendall(content(int(line)))
                stream.unwrap()
        except OSError:
            pass


def fork_into(namespace, function, *args):
    """A child that runs @function in @namespace and exits 0 when that returns."""
    sys.stdout.flush()
    pid = os.fork()
    if pid:
        return pid
    status = 1
    try:
        enter(namespace)
        function(*args)
        status = 0
    except Exception as error:  # pylint: disable=broad-except
        print(f"# {namespace}: {function.__name__}: {error!r}", file=sys.stderr)
    finally:
        os._exit(status)


def serve_http(pieces):
    Listener.pieces = pieces
    Listener(("::", HTTP), Http).serve_forever()


def start_servers(namespace, pieces, folder):
    """Returns pids of the servers of one copy."""
    inside = ["ip", "netns", "exec", namespace]
    text = [f"--txt-record=t{i}.example," + ",".join(["x" * 250] * i) for i in range(1, 13)]
    commands = [
        inside + ["redis-server", "--port", str(REDIS), "--bind", "0.0.0.0", "::", "--save", "",
                  "--appendonly", "no", "--protected-mode", "no", "--dir", folder],
        inside + ["dnsmasq", "--keep-in-foreground", "--no-resolv", "--no-hosts", "--user=root",
                  "--conf-file=/dev/null", "--pid-file=", "--edns-packet-max=4096",
                  "--address=/a.example/192.0.2.1", "--address=/a.example/2001:db8::1"] + text]
    pids = [fork_into(namespace, serve_http, pieces), fork_into(namespace, serve_tls, folder)]
    for command in commands:
        pids.append(subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                                     stderr=subprocess.DEVNULL).pid)
    return pids


# ---- clients: functions of the copies' address and the scale (bytes of a large answer) ----

def connect(address, port, receive_buffer=0):
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    s = socket.socket(family, socket.SOCK_STREAM)
    if receive_buffer:
        s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
    s.settimeout(WAIT_S)
    s.connect((address, port))
    return s


def read_exactly(s, size):
    data = bytearray()
    while len(data) < size:
        more = s.recv(min(size - len(data), 1 << 16))
        if not more:
            raise OSError(f"the stream ends after {len(data)} of {size} bytes")
        data += more
    return bytes(data)


def get(s, size):
    s.sendall(f"GET /{size} HTTP/1.1\r\nHost: server\r\n\r\n".encode())
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        head += read_exactly(s, 1)
    return size


def at_once(functions):
    """Runs them in threads; an error in one is an error."""
    errors = []

    def guarded(function):
        try:
            function()
        except Exception as error:  # pylint: disable=broad-except
            errors.append(error)
    threads = [threading.Thread(target=guarded, args=(f,)) for f in functions]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]


def http_client(address, scale):
    def one(sizes):
        with connect(address, HTTP) as s:
            for size in sizes:
                get(s, size)
                assert read_exactly(s, size) == content(size)
    at_once([lambda: one([1, 300, scale]), lambda: one([scale // 2, 1460]), lambda: one([4000] * 4)])


def upload_client(address, scale):
    body = content(scale)
    with connect(address, HTTP) as s:
        for _ in range(2):
            s.sendall(f"POST / HTTP/1.1\r\nHost: server\r\nContent-Length: {len(body)}\r\n\r\n"
                      .encode() + body)
            answer = b""
            while not answer.endswith(hashlib.sha256(body).hexdigest().encode()):
                answer += read_exactly(s, 1)


def slow_client(address, scale):
    """The receive window closes for a while, and probes come."""
    with connect(address, HTTP, 4096) as s:
        size = max(scale, 16000)
        get(s, size)
        time.sleep(0.7)
        assert read_exactly(s, size) == content(size)


def abort_client(address, scale):
    """Resets, half-closed connections, refused ones.  A reset in mid-answer would really part the
    copies: they stop at different places."""
    for size in 100, scale // 4:
        with connect(address, HTTP) as s:
            get(s, size)
            read_exactly(s, size)
            time.sleep(0.1)
            s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    with connect(address, HTTP) as s:
        s.sendall(b"GET /3000 HTTP/1.1\r\nConnection: close\r\n\r\n")
        s.shutdown(socket.SHUT_WR)
        while s.recv(1 << 16):
            pass
    try:
        connect(address, 9)
        raise OSError("port 9 is open")
    except ConnectionRefusedError:
        pass


def tls_client(address, scale):
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    for sizes in [10, scale], [5000, 1, 300]:
        with context.wrap_socket(connect(address, TLS)) as s:
            for size in sizes:
                s.sendall(f"{size}\n".encode())
                assert read_exactly(s, size) == content(size)
            s.unwrap()


def redis_client(address, scale):
    def command(*words):
        return b"*%d\r\n" % len(words) + b"".join(b"$%d\r\n%s\r\n" % (len(w), w) for w in words)
    big = content(scale)
    with connect(address, REDIS) as s:
        s.sendall(command(b"FLUSHALL") + command(b"SET", b"big", big) + command(b"GET", b"big"))
        assert read_exactly(s, 10) == b"+OK\r\n+OK\r\n"
        assert read_exactly(s, len(big) + len(b"$%d\r\n\r\n" % scale)).endswith(big + b"\r\n")
        for i in range(10):
            s.sendall(command(b"RPUSH", b"list", b"entry %d" % i))
            assert read_exactly(s, 4 + (i >= 9)) == b":%d\r\n" % (i + 1)
        s.sendall(command(b"LRANGE", b"list", b"0", b"-1") * 20 + command(b"QUIT"))
        while s.recv(1 << 16):
            pass


def dns_query(name, number, kind=16):
    labels = b"".join(bytes([len(label)]) + label for label in name.encode().split(b"."))
    edns = b"\0" + struct.pack(">HHIH", 41, 4096, 0, 0)
    return (struct.pack(">HHHHHH", number, 0x100, 1, 0, 0, 1) + labels + b"\0" +
            struct.pack(">HH", kind, 1) + edns)


def dns_client(address, _):
    """Several names a socket, large answers that come in fragments; lost ones are asked again."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    for i in range(4):
        with socket.socket(family, socket.SOCK_DGRAM) as s:
            s.settimeout(0.3)
            s.connect((address, DNS))
            left = {}
            for kind, name in (1, "a.example"), (28, "a.example"), *((16, f"t{j}.example")
                                                                     for j in range(1 + i, 13, 3)):
                number = 100 * i + len(left)
                left[number] = dns_query(name, number, kind)
            for _attempt in range(8):
                for query in left.values():
                    s.send(query)
                try:
                    while left:
                        left.pop(struct.unpack(">H", s.recv(1 << 16)[:2])[0], None)
                    break
                except TimeoutError:
                    continue


def dns_tcp_client(address, _):
    for i in range(1, 13, 4):
        with connect(address, DNS) as s:
            for j in range(i, i + 3):
                query = dns_query(f"t{j}.example", j)
                s.sendall(struct.pack(">H", len(query)) + query)
                read_exactly(s, struct.unpack(">H", read_exactly(s, 2))[0])


def ping_client(address, _):
    """Echo requests, some in fragments; an answer may be lost."""
    v6 = ":" in address
    family, protocol = ((socket.AF_INET6, socket.IPPROTO_ICMPV6) if v6 else
                        (socket.AF_INET, socket.IPPROTO_ICMP))
    with socket.socket(family, socket.SOCK_RAW, protocol) as s:
        s.connect((address, 0))
        for number in range(15):
            data = struct.pack(">BBHHH", 128 if v6 else 8, 0, 0, 77, number)
            data += content(3000 if number % 3 == 0 else 56)
            words = struct.unpack(f">{len(data) // 2}H", data)
            total = sum(words) % 0xFFFF  # the kernel fills in that of ICMPv6
            s.send(data[:2] + struct.pack(">H", ~total & 0xFFFF) + data[4:])
            time.sleep(0.01)


CLIENTS = {"http": http_client, "upload": upload_client, "slow": slow_client, "abort": abort_client,
           "tls": tls_client, "redis": redis_client, "dns": dns_client, "dns-tcp": dns_tcp_client,
           "ping": ping_client}
