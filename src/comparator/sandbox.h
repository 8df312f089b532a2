/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What is left to the program once it serves: see the stages at the top of sandbox.c. */
#pragma once

#include <glib.h>

/* Stage 1, before anything else: closes what was inherited beside the listeners. */
void colo_sandbox_close_inherited(void);

/* Stages 2 to 4, once all that needs a file, a name service or a new socket is done and before
 * there are threads. @user (or NULL): whom to become when started as root. FALSE and @error: the
 * process is in an undefined state between root and nothing, and must end. */
gboolean colo_sandbox_enter(const char *user, GError **error);

/* Stage 5, when all threads run: holds for each of them, and for good. @strict: a call that is not
 * in the list ends the process. FALSE and @error: the filter is not in force, and the process must
 * end. */
gboolean colo_sandbox_seal(gboolean strict, GError **error);
