#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# Installs what building and testing needs on Debian 12, as root; nothing when all of it is there.
#   tests/packages.sh [--list]
set -eu

packages=(
    # build
    autoconf automake libtool pkg-config autopoint gettext gcc libc6-dev make git ca-certificates
    libglib2.0-dev libvirt-dev libvirt-glib-1.0-dev libgnutls28-dev libjson-c-dev libxml2-dev
    libsqlite3-dev libconfig-dev libcurl4-openssl-dev libtirpc-dev rpcsvc-proto libseccomp-dev
    libcap-ng-dev libsystemd-dev libreadline-dev libmicrohttpd-dev
    # run
    libvirt-daemon-system libvirt-clients libvirt-daemon-driver-qemu qemu-system-x86 qemu-utils
    # tests: model checker, fuzzers, lab
    spin clang libclang-rt-14-dev gcovr gnutls-bin etcd-server etcd-client busybox-static cpio e2fsprogs
    iproute2 ethtool util-linux procps curl socat python3 tcpdump jq libxml2-utils man-db xz-utils
    linux-source-6.1 linux-headers-amd64 quilt gcc-12 bochs bochsbios vgabios genisoimage isolinux syslinux-common
    expect python3-libvirt virtinst libsys-virt-perl polkitd ebtables dnsmasq-base seabios openssl redis-server
    openssh-client dropbear-bin kmod
    # tests: clients
    python3-nova virt-manager xvfb dbus at-spi2-core gir1.2-atspi-2.0
)

if [ "${1:-}" = --list ]; then
    printf '%s\n' "${packages[@]}"
    exit
fi
missing=()
for p in "${packages[@]}"; do
    dpkg-query -W -f='${db:Status-Abbrev}' "$p" 2>/dev/null | grep -q '^ii' || missing+=("$p")
done
[ ${#missing[@]} -gt 0 ] || exit 0
[ "$(id -u)" = 0 ] || {
    echo "packages: not root, and these are missing: ${missing[*]}: install them, or run this as root" >&2
    exit 1
}
export DEBIAN_FRONTEND=noninteractive
apt-get update -q
apt-get install -y -q --no-install-recommends "${missing[@]}"
