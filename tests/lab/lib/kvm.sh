# SPDX-License-Identifier: LGPL-2.1-or-later
# Back-end kvm: a host is a machine under TCG with emulated AMD SVM.

kvm_prepare() {
    die "the kvm back-end is not there yet"
}
