/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <config.h>

#include "lock/settings.h"

#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

static char *trim(char *text)
{
    char *end;

    while (isspace((unsigned char)*text))
        text++;
    end = text + strlen(text);
    while (end > text && isspace((unsigned char)end[-1]))
        *--end = '\0';
    return text;
}

/* KEY = "VALUE" into @key and @value, which lie in @line. */
static bool split(char *line, char **key, char **value)
{
    char *equals = strchr(line, '=');
    size_t len;

    if (!equals)
        return false;
    *equals = '\0';
    *key = trim(line);
    *value = trim(equals + 1);
    len = strlen(*value);
    if (len < 2 || (*value)[0] != '"' || (*value)[len - 1] != '"')
        return false;
    (*value)[len - 1] = '\0';
    ++*value;
    return !strchr(*value, '"');
}

/* The field of that name, or NULL. */
static char *field_of(ColoLockSettings *settings, const char *key, size_t *size)
{
    if (strcmp(key, "chain") == 0) {
        *size = sizeof(settings->chain);
        return settings->chain;
    }
    *size = COLO_LOCK_PATH_MAX;
    if (strcmp(key, "socket") == 0)
        return settings->socket;
    return strcmp(key, "state_dir") == 0 ? settings->state_dir : NULL;
}

/* What is wrong with the line, or NULL. */
static const char *take_line(ColoLockSettings *settings, char *line)
{
    char *text = trim(line), *key, *value, *field;
    size_t size;

    if (*text == '\0' || *text == '#')
        return NULL;
    if (!split(text, &key, &value))
        return "not KEY = \"VALUE\"";
    field = field_of(settings, key, &size);
    if (!field)
        return "unknown key; there are chain, socket and state_dir";
    if (strlen(value) >= size)
        return "the value is too long";
    /* It becomes part of a file's name. */
    if (field == settings->chain && (strchr(value, '/') || strcmp(value, "colo") == 0))
        return "chain is the name of another lock manager, such as lockd";
    memcpy(field, value, strlen(value) + 1);
    return NULL;
}

bool colo_lock_settings_read(const char *path, ColoLockSettings *settings, char *error, size_t size)
{
    char line[2 * COLO_LOCK_PATH_MAX];
    const char *wrong = NULL;
    unsigned number = 0;
    FILE *file;

    *settings = (ColoLockSettings){.socket = RUNSTATEDIR "/libvirt/virtcolod-sock",
                                   .state_dir = LOCALSTATEDIR "/lib/libvirt-colo"};
    file = path ? fopen(path, "re") : NULL;
    if (!file) {
        if (!path || errno == ENOENT)
            return true;
        snprintf(error, size, "%s: %s", path, strerror(errno));
        return false;
    }
    while (!wrong && fgets(line, sizeof(line), file)) {
        number++;
        wrong = take_line(settings, line);
    }
    fclose(file);
    if (wrong)
        snprintf(error, size, "%s: line %u: %s", path, number, wrong);
    return !wrong;
}
