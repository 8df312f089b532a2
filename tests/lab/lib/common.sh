# SPDX-License-Identifier: LGPL-2.1-or-later
# shellcheck shell=bash
# Common to all parts of the lab: names, errors, processes, cache.  Sourced by bash.

LAB_SRC=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
LAB_CACHE=${COLO_LAB_CACHE:-/var/tmp/libvirt-colo-cache}
LAB_ROOT=${COLO_LAB_DIR:-/var/tmp/libvirt-colo-lab}
LAB_HOSTS="primary secondary"
GUEST_IP=10.9.0.10
CLIENT_IP=10.9.0.1

# Address in the pair network.
pair_ip() {
    case $1 in
    primary) echo 10.77.0.1 ;;
    secondary) echo 10.77.0.2 ;;
    witness) echo 10.77.0.3 ;;
    *) die "no such host: $1" "known are primary, secondary and witness" "see: lab --help" ;;
    esac
}

# guest_disk N: the file of the test guest's disk N, from 1.
guest_disk() {
    [ "$1" = 1 ] && echo /var/lib/libvirt/images/ft.raw || echo "/var/lib/libvirt/images/ft-$1.raw"
}

# die WHAT FOUND REMEDY: says all three and ends.
die() {
    printf 'lab: error: %s\n' "$1" >&2
    [ -n "${2:-}" ] && printf 'lab:   found: %s\n' "$2" >&2
    [ -n "${3:-}" ] && printf 'lab:   remedy: %s\n' "$3" >&2
    exit 1
}

note() {
    printf 'lab: %s\n' "$*" >&2
}

# need PROGRAM PACKAGE
need() {
    command -v "$1" > /dev/null ||
        die "the program $1 is missing" "not in $PATH" "apt-get install $2"
}

# Start time of a process in clock ticks since boot; with the pid it names one process for ever.
# Empty when there is none, or only its zombie.
proc_start() {
    local line
    line=$(cat "/proc/$1/stat" 2>/dev/null) || return 0
    set -- ${line##*) }
    [ "$1" = Z ] || echo "${20}"
}

# pid_record FILE PID
pid_record() {
    local start
    start=$(proc_start "$2")
    [ -n "$start" ] || return 1
    echo "$2 $start" > "$1"
}

# pid_live FILE: prints the pid when that very process still runs.
pid_live() {
    local pid start
    read -r pid start 2>/dev/null < "$1" || return 1
    [ "$(proc_start "$pid")" = "$start" ] || return 1
    echo "$pid"
}

# pid_kill FILE [SIGNAL]: signals that very process; KILL and TERM wait until it is gone (10 s).
pid_kill() {
    local pid signal=${2:-KILL} i
    pid=$(pid_live "$1") || return 0
    kill -s "$signal" "$pid" 2>/dev/null || return 0
    case $signal in KILL | TERM) ;; *) return 0 ;; esac
    for ((i = 0; i < 2000; i++)); do
        pid_live "$1" > /dev/null || { rm -f "$1"; return 0; }
        sleep 0.005
    done
    return 1
}

# wait_for SECONDS COMMAND...: 0 as soon as the command succeeds.
wait_for() {
    local end=$((${EPOCHREALTIME/./} + $1 * 1000000))
    shift
    until "$@" > /dev/null 2>&1; do
        [ "${EPOCHREALTIME/./}" -lt "$end" ] || return 1
        sleep 0.05
    done
}

# lab_kernel_tree META-PACKAGE: prints the folder that holds the extracted kernel package.
# A .deb that already lies in the cache is used; nothing is installed.
lab_kernel_tree() {
    local meta=$1 dir=$LAB_CACHE/$1 package
    if ! ls "$dir"/tree/boot/vmlinuz-* > /dev/null 2>&1; then
        mkdir -p "$dir"
        if ! ls "$dir"/*.deb > /dev/null 2>&1; then
            package=$(apt-cache depends "$meta" 2>/dev/null | awk '/Depends: linux-image/ {print $2; exit}')
            [ -n "$package" ] || { apt-get update -qq >&2; package=$(apt-cache depends "$meta" |
                awk '/Depends: linux-image/ {print $2; exit}'); }
            [ -n "$package" ] || die "no kernel package for $meta" "apt-cache knows no linux-image" \
                "apt-get update, or put the .deb into $dir"
            (cd "$dir" && { apt-get download -qq "$package" ||
                { apt-get update -qq && apt-get download -qq "$package"; }; } > apt.log 2>&1) ||
                die "cannot download $package" "$(tail -1 "$dir/apt.log")" \
                    "check the network, or put the .deb into $dir"
        fi
        rm -rf "$dir/tree.new" "$dir/tree"
        dpkg-deb -x "$dir"/*.deb "$dir/tree.new"
        mv "$dir/tree.new" "$dir/tree"
    fi
    echo "$dir/tree"
}

# lab_compile OUTPUT SOURCE FLAGS...: compiles into the cache when the source is newer.
lab_compile() {
    local out=$LAB_CACHE/$1 source=$LAB_SRC/$2
    shift 2
    mkdir -p "$LAB_CACHE"
    if [ ! -s "$out" ] || [ "$source" -nt "$out" ]; then
        gcc -O2 -Wall -Wextra -o "$out.$$" "$source" "$@" ||
            die "cannot compile $source" "gcc failed" "apt-get install gcc libc6-dev"
        mv "$out.$$" "$out"
    fi
    echo "$out"
}
