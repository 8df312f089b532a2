/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * libvirt-colo: client of virtcolod, the daemon that keeps a libvirt domain running on two hosts.
 *
 * A connection is used by one thread at a time; open one a thread. Strings are UTF-8. Every call
 * that can fail takes a ColoError that may be NULL; see error.h.
 */
#ifndef LIBVIRT_COLO_H
#define LIBVIRT_COLO_H

#include <libvirt-colo/connect.h>
#include <libvirt-colo/domain.h>
#include <libvirt-colo/error.h>
#include <libvirt-colo/event.h>

#endif
