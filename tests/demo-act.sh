#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# One act of the demo as a test: the whole main job on the best hosts that this machine can have
# (real KVM, else two nested KVM hosts). TAP; the demo's own output as comments.
#   tests/demo-act.sh [ACT]     default: 2, the loss of the primary host
act=${1:-2}
echo 1..1
if "$(dirname "$0")/../examples/demo.sh" --act "$act" > >(sed 's/^/# /') 2>&1; then
    echo "ok 1 - demo: act $act passed"
else
    echo "not ok 1 - demo: act $act failed"
    exit 1
fi
