#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""What a person sees and does in virt-manager, read from its accessibility tree.

    virt-manager-reader.py URI DOMAIN PICTURE COMMAND...

Runs it at URI in a session (X, D-Bus) of its own, opens the details of DOMAIN, gives it a title and
presses Apply, says what it was told, presses Pause, runs COMMAND, and presses Pause again to go on.
Each thing seen is a line of standard output, "WHAT: TEXT"; PICTURE-connection.png, -details.png and
-refused.png show it. Exits with 1 at the first thing that does not come.
"""
import os
import subprocess
import sys
import time

WAIT_S = 30
URI, DOMAIN, PICTURE, COMMAND = sys.argv[1], sys.argv[2], sys.argv[3], sys.argv[4:]


def session():
    """Xvfb, and this program again in a D-Bus session; ends with both gone."""
    home = os.environ["HOME"]
    os.environ.update(XDG_RUNTIME_DIR=home, GSETTINGS_BACKEND="memory", NO_AT_BRIDGE="0", LIBVIRT_AUTOSTART="0")
    reader, writer = os.pipe()
    with open(home + "/xvfb.log", "w", encoding="utf-8") as log:
        screen = subprocess.Popen(["Xvfb", "-displayfd", str(writer), "-screen", "0", "1280x1024x24", "-nolisten", "tcp"],
                                  pass_fds=[writer], stdout=log, stderr=log)
    os.close(writer)
    try:
        os.environ["DISPLAY"] = ":" + os.read(reader, 16).decode().strip()
        return subprocess.run(["dbus-run-session", "--", sys.executable] + sys.argv,
                              env=dict(os.environ, READER_SESSION="1"), check=False).returncode
    finally:
        screen.terminate()
        screen.wait()


if not os.environ.get("READER_SESSION"):
    sys.exit(session())

import gi  # noqa: E402

gi.require_version("Atspi", "2.0")
gi.require_version("Gdk", "3.0")
from gi.repository import Atspi, Gdk, GLib  # noqa: E402


def walk(node):
    yield node
    for i in range(node.get_child_count()):
        child = node.get_child_at_index(i)
        if child:
            yield from walk(child)


def window(role, starts):
    desktop = Atspi.get_desktop(0)
    for i in range(desktop.get_child_count()):
        application = desktop.get_child_at_index(i)
        if application.get_name() != "virt-manager":
            continue
        for j in range(application.get_child_count()):
            found = application.get_child_at_index(j)
            if found.get_role_name() == role and found.get_name().startswith(starts):
                return found
    return None


def named(node, role, match):
    """The first such part of node that is shown."""
    for part in walk(node) if node else ():
        if (part.get_role_name() == role and match(part.get_name())
                and part.get_state_set().contains(Atspi.StateType.SHOWING)):
            return part
    return None


def labelled(node, label):
    """The shown text field that has this label."""
    for part in walk(node):
        if part.get_role_name() == "text" and part.get_state_set().contains(Atspi.StateType.SHOWING):
            for relation in part.get_relation_set():
                if (relation.get_relation_type() == Atspi.RelationType.LABELLED_BY
                        and relation.get_target(0).get_name() == label):
                    return part
    return None


def wait_for(what, look):
    end = time.monotonic() + WAIT_S
    while True:
        try:
            found = look()
        except GLib.Error:  # it has just gone
            found = None
        if found:
            return found
        if time.monotonic() > end:
            print(f"missing: {what}", flush=True)
            picture("missing")
            sys.exit(1)
        time.sleep(0.2)


def say(what, text):
    print(f"{what}: {text}".replace("-\n", "-").replace("\n", " "), flush=True)


def picture(name):
    root = Gdk.get_default_root_window()
    Gdk.pixbuf_get_from_window(root, 0, 0, root.get_width(), root.get_height()).savev(f"{PICTURE}-{name}.png", "png", [], [])


def press(node):
    if not Atspi.Action.do_action(node, 0):
        say("missing", f"a way to press {node.get_name()}")
        sys.exit(1)


def shows(details, status):
    return wait_for(f"status {status}", lambda: named(details, "label", lambda text: text.startswith(status)))


def manager():
    return window("frame", "Virtual Machine Manager")


def main():
    listed = wait_for("the domain in the list", lambda: named(
        manager(), "table cell", lambda text: text.startswith(DOMAIN + "\n") and "Running" in text))
    say("connection", wait_for("the connection", lambda: named(
        manager(), "table cell", lambda text: text and not text.startswith(DOMAIN))).get_name())
    say("listed", listed.get_name())
    picture("connection")
    subprocess.run(["virt-manager", "--connect", URI, "--show-domain-editor", DOMAIN], check=True)
    details = wait_for("the details", lambda: window("frame", DOMAIN + " on "))
    say("details", details.get_name())
    say("status", shows(details, "Running").get_name())
    for part in walk(wait_for("the overview", lambda: named(details, "filler", lambda text: text == "overview-tab"))):
        if part.get_role_name() == "label" and part.get_name():
            say("overview", part.get_name())
    for part in walk(wait_for("the hardware", lambda: named(details, "table", lambda text: text == "hw-list"))):
        if part.get_role_name() == "table cell" and part.get_name():
            say("hardware", part.get_name())
    picture("details")

    def button(role, name):
        return wait_for(name, lambda: named(details, role, lambda text: text == name))

    Atspi.EditableText.set_text_contents(wait_for("the title", lambda: labelled(details, "Title:")), "never set")
    press(button("push button", "config-apply"))
    dialog = wait_for("a dialog", lambda: window("alert", ""))
    for part in walk(dialog):
        if part.get_role_name() == "label" and part.get_name():
            say("refused", part.get_name())
    picture("refused")
    press(wait_for("Close", lambda: named(dialog, "push button", lambda text: text == "Close")))
    press(button("push button", "config-cancel"))
    press(button("toggle button", "Pause"))
    say("status", shows(details, "Paused").get_name())
    subprocess.run(COMMAND, check=True)
    press(button("toggle button", "Pause"))
    say("status", shows(details, "Running").get_name())


with open(os.environ["HOME"] + "/virt-manager.log", "w", encoding="utf-8") as output:
    client = subprocess.Popen(["virt-manager", "--no-fork", "--debug", "--connect", URI], stdout=output, stderr=output)
try:
    main()
finally:
    client.terminate()
    client.wait()
