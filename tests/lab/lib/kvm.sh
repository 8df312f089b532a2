# SPDX-License-Identifier: LGPL-2.1-or-later
# shellcheck shell=bash
# Back-end kvm: a host is a machine under TCG with emulated AMD SVM: a real KVM host with Debian's
# kernel.  Its root is this machine's, read-only over 9p with an overlay in memory; its own disk is
# an ext4 image in the lab's folder; commands reach it through a network of their own.

# One vCPU with maxcpus=2 and multi-threaded TCG: with maxcpus=1 virtio-net's TX stalls under load.
KVM_MACHINE="-machine q35 -accel tcg,thread=multi -cpu EPYC -smp 1,maxcpus=2 -m ${COLO_LAB_KVM_MIB:-1024}"
KVM_DISK_MIB=2048
KVM_MODULES="virtio_ring virtio virtio_pci_legacy_dev virtio_pci_modern_dev virtio_pci
    netfs fscache 9pnet 9pnet_virtio 9p overlay failover net_failover virtio_net virtio_blk
    crc16 crc32c_generic libcrc32c mbcache jbd2 ext4 irqbypass ccp kvm kvm-amd
    tun llc stp bridge vhost_iotlb vhost tap vhost_net virtio-rng"

# Kernel and initrd of the hosts, made once in the cache.
kvm_prepare() {
    local tree key out=$LAB_CACHE/host work module file
    need mkfs.ext4 e2fsprogs
    need busybox busybox-static
    need depmod kmod
    mkdir -p "$out"
    exec 8> "$out/.lock"
    flock 8
    tree=$(lab_kernel_tree linux-image-amd64) || exit 1
    key=$(cat "$LAB_SRC/lib/kvm.sh" "$LAB_SRC/lib/kvminit" | sha256sum | cut -c1-16)
    if [ "$(cat "$out/key" 2>/dev/null)" != "$key" ]; then
        work=$(mktemp -d "$out/work.XXXXXX")
        mkdir -p "$work"/{bin,dev,proc,sys,lower,overlay,root,lib/modules}
        cp "$(command -v busybox)" "$work/bin/busybox"
        install -m 755 "$LAB_SRC/lib/kvminit" "$work/init"
        for module in $KVM_MODULES; do
            file=$(find "$tree/lib/modules" -name "$module.ko" | head -1)
            [ -n "$file" ] || continue # built in
            cp "$file" "$work/lib/modules/"
            echo "$module" >> "$work/lib/modules/list"
        done
        (cd "$work" && find . | cpio -o -H newc --quiet | gzip -1) > "$out/initrd.new" ||
            die "cannot make the hosts' initrd" "cpio failed" "apt-get install cpio"
        rm -rf "$work"
        cp "$tree"/boot/vmlinuz-* "$out/vmlinuz"
        mv "$out/initrd.new" "$out/initrd"
        # modprobe in the hosts (kvm modules, netfilter) needs the index.
        depmod -b "$tree" "$(basename "$tree"/lib/modules/*)" 2>/dev/null || true
        echo "$key" > "$out/key"
    fi
    exec 8>&-
}

# kvm_modules build|FOLDER: prints the folder of kvm.ko, kvm-amd.ko and kvm_hvfeat.ko for the hosts' kernel.
kvm_modules() {
    local folder=$1 tree
    if [ "$folder" = build ]; then
        folder=$LAB_CACHE/kvm-modules
        tree=$(lab_kernel_tree linux-image-amd64) || exit 1
        "$LAB_SRC/../../src/kvm/build.sh" "$folder" "$(basename "$tree"/lib/modules/*)" ||
            die "the modules of src/kvm do not build" "see $folder" "tests/packages.sh"
    fi
    [ -e "$folder/kvm_hvfeat.ko" ] || die "no modules in $folder" "kvm_hvfeat.ko is missing" "COLO_LAB_KVM_MODULES=build"
    readlink -f "$folder"
}

kvm_number() {
    [ "$1" = primary ] && echo 1 || echo 2
}

kvm_host_start() {
    local host=$1 n disk=$LAB_STATE/disk/$1/disk.img net args=()
    n=$(kvm_number "$host")
    if [ ! -e "$disk" ]; then
        truncate -s ${KVM_DISK_MIB}M "$disk.new"
        mkfs.ext4 -q -F -E lazy_itable_init=1,lazy_journal_init=1 "$disk.new"
        mv "$disk.new" "$disk"
    fi
    # The order of the cards is that of eth0 (pair), eth1 (vm), eth2 (mgmt).
    for net in pair vm mgmt; do
        tap_plug "$host" "$net"
        args+=(-netdev "tap,id=$net,ifname=$net-$host,script=no,downscript=no,vhost=off"
            -device "virtio-net-pci,netdev=$net,romfile=,mac=52:54:00:78:0${#args[@]}:0$n")
    done
    # shellcheck disable=SC2086 # words
    spawn "qemu-$host" "$LAB_STATE/log/$host/qemu.log" ip netns exec "$(ns_name switch)" \
        qemu-system-x86_64 -name "$host" $KVM_MACHINE -nodefaults -display none -no-reboot \
        -uuid "c0100000-0000-4000-8000-00000000000$n" \
        -kernel "$LAB_CACHE/host/vmlinuz" -initrd "$LAB_CACHE/host/initrd" \
        -append "console=ttyS0 panic=-1 loglevel=4 mitigations=off labenv=$LAB_STATE/env-$host labsrc=$LAB_SRC ${LAB_KVM_MODULES:+labkvm=ours} ${COLO_LAB_KVM_APPEND:-}" \
        -serial "file:$LAB_STATE/log/$host/console" \
        -fsdev "local,id=root,path=/,security_model=none,readonly=on,multidevs=remap" \
        -device virtio-9p-pci,fsdev=root,mount_tag=root \
        -fsdev "local,id=log,path=$LAB_STATE/log/$host,security_model=none" \
        -device virtio-9p-pci,fsdev=log,mount_tag=log \
        -drive "file=$disk,format=raw,if=none,id=disk,cache=writeback" -device virtio-blk-pci,drive=disk \
        "${args[@]}" \
        -object rng-random,id=rng,filename=/dev/urandom -device virtio-rng-pci,rng=rng
}

kvm_host_live() {
    pid_live "$LAB_STATE/pids/qemu-$1"
}

kvm_host_kill() {
    local port
    pid_kill "$LAB_STATE/pids/qemu-$1" KILL || die "host $1 did not die" "" "lab down"
    # The taps are made anew at the next boot; their frames and the switch's memory of them go.
    for port in "pair-$1" "vm-$1" "mgmt-$1"; do
        ip -n "$(ns_name switch)" link del "$port" 2> /dev/null
    done
    return 0
}

kvm_host_exec() {
    local host=$1
    shift
    kvm_host_live "$host" > /dev/null || die "host $host is not running" "" "lab reboot $host"
    exec ip netns exec "$(ns_name switch)" python3 "$LAB_SRC/lib/agent.py" run \
        "10.78.0.$(kvm_number "$host")" 2222 "${EXEC_ENV[@]}" "$@"
}
