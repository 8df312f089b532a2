#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""Stands in for this host's virtcolod, of another version of the control protocol.

    other-version.py listen VERSION   greets every dialler with a hello of that version, until killed
    other-version.py refuse VERSION   answers every dialler with the error of docs/control-channel.md
    other-version.py dial VERSION ADDRESS   says hello there and prints the answer

With this host's own certificates: only the version is wrong.
"""
import json
import socket
import ssl
import struct
import sys

PORT = 16516
PKI = "/etc/pki/libvirt"


def context(role):
    server = role == "server"
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER if server else ssl.PROTOCOL_TLS_CLIENT)
    tls.minimum_version = ssl.TLSVersion.TLSv1_3
    tls.check_hostname = False
    tls.verify_mode = ssl.CERT_REQUIRED
    tls.load_verify_locations("/etc/pki/CA/cacert.pem")
    tls.load_cert_chain(f"{PKI}/{role}cert.pem", f"{PKI}/private/{role}key.pem")
    return tls


def send(stream, message):
    text = json.dumps(message).encode()
    stream.sendall(struct.pack(">I", len(text)) + text)


def receive(stream):
    def exactly(count):
        data = b""
        while len(data) < count:
            part = stream.recv(count - len(data))
            if not part:
                raise EOFError("closed")
            data += part
        return data

    return json.loads(exactly(struct.unpack(">I", exactly(4))[0]))


def hello(version):
    # A later version may say the rest in other words.
    return {"type": "hello", "version": version, "software": "libvirt-colo 9.9", "host": socket.gethostname()}


def main(mode, version, address=None):
    if mode == "dial":
        with context("client").wrap_socket(socket.create_connection((address, PORT), timeout=10)) as stream:
            send(stream, hello(version))
            print(json.dumps(receive(stream)))
        return
    listener = socket.create_server(("", PORT))
    print("ready", flush=True)
    while True:
        try:
            with context("server").wrap_socket(listener.accept()[0], server_side=True) as stream:
                stream.settimeout(10)
                theirs = receive(stream)
                if mode == "listen":
                    send(stream, hello(version))
                else:
                    send(stream, {"type": "error", "code": "peer", "message":
                         f"{theirs['host']} speaks version {theirs['version']} of the control protocol, "
                         f"{socket.gethostname()} speaks version {version}"})
                print(json.dumps(receive(stream)), flush=True)  # until it closes
        except (OSError, EOFError) as error:
            print(error, flush=True)


main(sys.argv[1], int(sys.argv[2]), *sys.argv[3:])
