/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The one declaration of every colo-* command (design section 6): its typed arguments and the
 * members of its result. virsh-colo makes its options and help from it, both ends of every door
 * check arguments with colo_command_validate(), and the manual page is compared with it.
 *
 * The table is constant; any thread. Texts are marked for translation with N_() and shown through
 * gettext by the CLI; the daemon uses them untranslated.
 */
#pragma once

#include <glib.h>
#include <stdint.h>

#include "util/json.h"

/* Longest string argument: libvirt names and host names are far shorter, pool maps are not. */
#define COLO_COMMAND_STRING_MAX 4096

typedef enum {
    COLO_ARG_STRING,
    COLO_ARG_UINT,
    COLO_ARG_BOOL, /* an option without a value on the command line; absent means false */
} ColoArgType;

typedef struct {
    const char *name; /* member of the JSON arguments, and --name on the command line */
    ColoArgType type;
    unsigned required : 1;
    unsigned positional : 1; /* may stand without its --name */
    unsigned local : 1;      /* for the CLI alone: never sent, refused by colo_command_validate() */
    uint64_t min, max;       /* of a COLO_ARG_UINT; max 0: INT64_MAX */
    const char *help;
} ColoArg;

typedef struct {
    const char *name; /* path of the member: "pairs[].name" */
    const char *type; /* string, uint, bool, object, array */
    const char *help;
} ColoResultField;

typedef struct {
    const char *name;
    const char *group; /* as virsh groups its help: "pair", "protection", "monitor" */
    const char *summary;
    const ColoArg *args;            /* ends with a NULL name */
    const ColoResultField *results; /* ends with a NULL name */
    gboolean local;                 /* done by the client alone (colo-events); never dispatched */
    gboolean changes;               /* changes something; FALSE: reads only */
    gboolean host; /* reads what is known of the whole host and all that runs there */
} ColoCommand;

/* The whole table, @n its length, in the order of the help. */
const ColoCommand *colo_command_table(size_t *n);

/* The command of that name, or NULL. */
const ColoCommand *colo_command_find(const char *name);

/* The argument of that name, or NULL. */
const ColoArg *colo_command_find_arg(const ColoCommand *command, const char *name);

/*
 * Checks @args (NULL counts as {}) against the declaration: no unknown member, every required one
 * there, types and ranges right, strings not empty and without control characters.
 * FALSE with @error (COLO_ERROR_INVALID_ARG) that names command and argument. Does not change
 * @args, and says nothing about the objects the arguments name.
 */
gboolean colo_command_validate(const char *name, JsonObject *args, GError **error);
