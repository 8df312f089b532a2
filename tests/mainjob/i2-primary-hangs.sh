#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# I2: QEMU of the primary hangs (SIGSTOP), its daemons and its host do not. The secondary's copy is
# the good one: it goes on with it, for the same clients, and the hung one is ended. A libvirtd that
# hangs is no such thing.
. "$(dirname "$0")/lib.sh"
. "$MJ_DIR/lib-split.sh"
LIBVIRTD_S=20

need_protected
load_start 50
remember
check "libvirtd of the primary hangs" daemon "$P" pause libvirtd
sleep $LIBVIRTD_S
check "the sessions go on" answers_go_on 20
daemon "$P" resume libvirtd
check "libvirtd goes on: still protected, at the same host" wait_for 30 protected
check "nobody took over" eval 'is "$(field "$P" owner)" "$P"'

pid=$(qemu_pid "$P")
check "QEMU of the primary hangs" on "$P" kill -STOP "$pid"
check "the secondary goes on" wait_for 60 serving "$S"
check "it serves the sessions" answers_go_on 20
check "the copy that hung is ended" wait_for 60 not on "$P" kill -0 "$pid"
heals
finish
