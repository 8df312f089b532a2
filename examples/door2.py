#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""Drives COLO through any libvirt binding and transport: QEMU monitor commands whose names begin with
"colo-" are virtcolod's and never reach QEMU.

    door2.py DOMAIN [COMMAND [NAME=VALUE]...]      colo-status by default
    LIBVIRT_DEFAULT_URI=colo+ssh://host/system door2.py web1 colo-protect pair=ab
"""
import json
import os
import sys

import libvirt
import libvirt_qemu


def colo(domain, command, **arguments):
    """The result of a colo-* command about the domain; libvirt.libvirtError or RuntimeError."""
    text = json.dumps({"execute": command, "arguments": arguments})
    answer = json.loads(libvirt_qemu.qemuMonitorCommand(domain, text, 0))
    if "error" in answer:
        raise RuntimeError(answer["error"]["desc"])
    return answer["return"]


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    conn = libvirt.open(os.environ.get("LIBVIRT_DEFAULT_URI", "colo:///system"))
    command = sys.argv[2] if len(sys.argv) > 2 else "colo-status"
    arguments = dict(word.split("=", 1) for word in sys.argv[3:])
    try:
        result = colo(conn.lookupByName(sys.argv[1]), command, **arguments)
    except (libvirt.libvirtError, RuntimeError) as error:
        sys.exit(f"error: {error}")
    print(json.dumps(result, indent=2))
