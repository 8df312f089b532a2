/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Which domains virtcolod's store (domain/store.c) names as under COLO, for when virtcolod does not
 * answer. It never says who owns one: that only virtcolod knows, after it has asked. Any thread.
 */
#pragma once

#include <stddef.h>

typedef enum {
    COLO_LOCK_NOT_NAMED,
    COLO_LOCK_NAMED,
    COLO_LOCK_UNREADABLE,
} ColoLockNamed;

/* @text: the state in which @uuid is named, or why the store of @state_dir cannot be read. A store
 * that is not there names none. */
ColoLockNamed colo_lock_named(const char *state_dir, const char *uuid, char *text, size_t size);
