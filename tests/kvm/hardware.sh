#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# The three hardware labs, as one TAP stream: AMD in QEMU and Intel in Bochs side by side (each is one thread
# with a clock of its own), then the main job on two nested KVM hosts with our modules.
# Asked: all of it within 720 s on two idle cores. It prints what it took; a busy machine is no failure.
#   tests/kvm/hardware.sh
set -u
here=$(cd "$(dirname "$0")" && pwd)
top=$(cd "$here/../.." && pwd)
. "$top/tests/lab/lib/common.sh"
. "$top/tests/tap.sh"
work=$(mktemp -d)
running=()
end_all() {
    # At once: each waits for what it has started.
    [ ${#running[@]} = 0 ] || { kill "${running[@]}" && wait "${running[@]}"; } 2> /dev/null
    rm -rf "$work"
}
trap end_all EXIT
trap 'exit 143' INT TERM

# start NAME COMMAND...: in the background, with a log of its own
start() {
    local name=$1
    shift
    (trap 'kill $! 2> /dev/null; wait $!; exit 143' TERM
     begin=$SECONDS
     "$@" > "$work/$name.log" 2>&1 < /dev/null &
     wait $!
     echo "$? $((SECONDS - begin))" > "$work/$name.end") &
    running+=($!)
}

# finished NAME: its TAP goes on as ours; a run that says no plan, or fails without saying why, is one failure.
finished() {
    local name=$1 rc seconds line planned= before=$failed
    while IFS= read -r line; do
        case $line in
        "ok "* | "not ok "*)
            count=$((count + 1))
            [ "${line#not }" = "$line" ] || failed=$((failed + 1))
            echo "${line%%ok *}ok $count - $name: ${line#* - }"
            ;;
        1..*) planned=yes ;;
        *) echo "$line" ;;
        esac
    done < "$work/$name.log"
    read -r rc seconds < "$work/$name.end"
    [ "$failed" -gt "$before" ] || check "$name: ran to its end" test "$rc${planned:+ planned}" = "0 planned"
    echo "# figure hardware: $name $seconds s"
}

begin=$SECONDS
# Both need them; so only one makes them.
tree=$(lab_kernel_tree linux-image-amd64) &&
    "$top/src/kvm/build.sh" "$LAB_CACHE/kvm-modules" "$(basename "$tree"/lib/modules/*)" ||
    { result "modules build" 1; finish; exit 1; }
echo "# figure hardware: modules $((SECONDS - begin)) s"
start svm "$here/run.sh"
start vmx "$here/run.sh" vmx
wait "${running[@]}"
running=()
finished svm
finished vmx
start lab env COLO_LAB_KVM_MODULES=build "$top/tests/mainjob/run.sh" --backend kvm hvfeat-failover
wait "${running[@]}"
running=()
finished lab
echo "# figure hardware: all $((SECONDS - begin)) s, asked 720"
finish
