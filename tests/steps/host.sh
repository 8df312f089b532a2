#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# host.sh DIR: becomes a libvirtd whose /run, configuration and state lie in DIR. Runs in a network
# namespace and a private mount namespace of its own.
set -eu
dir=$1
mkdir -p "$dir"/{run,etc,lib,cache,log}
cp -a /etc/libvirt/. "$dir/etc/"
rm -f "$dir"/etc/qemu/networks/autostart/* "$dir"/etc/qemu/autostart/*
mount --make-rprivate /
mount --bind "$dir/run" /run
mkdir -p /run/libvirt /run/lock
mount --bind "$dir/etc" /etc/libvirt
mount --bind "$dir/lib" /var/lib/libvirt
mount --bind "$dir/cache" /var/cache
mkdir -p /var/cache/libvirt/qemu
mount --bind "$dir/log" /var/log/libvirt
cat > /etc/libvirt/qemu.conf <<C
user = "root"
group = "root"
dynamic_ownership = 0
remember_owner = 0
security_driver = "none"
stdio_handler = "file"
cgroup_controllers = [ ]
namespaces = [ ]
C
cat > /etc/libvirt/libvirtd.conf <<C
unix_sock_group = "root"
auth_unix_rw = "none"
log_outputs = "2:file:/var/log/libvirt/libvirtd.log"
C
exec libvirtd -p /run/libvirtd.pid
