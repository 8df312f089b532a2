/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "driver/policy.h"

#include <string.h>

/* "it cannot be ..." while it is protected, and what there is instead; NULL: end the protection. */
static const struct {
    const char *what, *instead;
} refusals[] = {
    [COLO_ACTION_RESUME] = {"resumed: it runs; when it stops, it is for a checkpoint", NULL},
    [COLO_ACTION_JOB] = {"given other limits, nor its jobs be aborted: they are COLO's", NULL},
    [COLO_ACTION_PAUSE] = {"paused now", NULL},
    [COLO_ACTION_SAVE] = {"saved or dumped now", NULL},
    [COLO_ACTION_CHANGE] = {"changed: its copy would differ from it", NULL},
    [COLO_ACTION_SNAPSHOT] = {"snapshotted or backed up by libvirt: its disks are replicated",
                              NULL},
    [COLO_ACTION_BLOCK_JOB] = {"given block jobs: its disks are replicated", NULL},
    [COLO_ACTION_MIGRATE] = {"migrated", "'virsh-colo colo-switchover %s' moves it to its peer"},
    [COLO_ACTION_DEFINE] = {"redefined or undefined", NULL},
};

static const char *const merging[] = {"failing-over", "committing", NULL};
static const char *const lost[] = {"fenced", "manual", NULL};

const ColoPolicyRow *colo_policy_find(uint32_t procedure)
{
    return procedure >= 1 && procedure <= colo_policy_n_rows ? &colo_policy_rows[procedure - 1]
                                                             : NULL;
}

static gboolean is_one_of(const char *state, const char *const *states)
{
    for (; *states; states++) {
        if (strcmp(state, *states) == 0)
            return TRUE;
    }
    return FALSE;
}

gboolean colo_policy_is_copy(JsonObject *view)
{
    static const char *const states[] = {"preparing", "syncing", "protected", "degraded", NULL};

    return strcmp(colo_json_peek_string(view, "role", ""), "secondary") == 0 &&
           is_one_of(colo_json_peek_string(view, "state", ""), states);
}

gboolean colo_policy_is_replicated(JsonObject *view)
{
    static const char *const states[] = {"syncing",      "protected",  "degraded",
                                         "failing-over", "committing", NULL};

    return is_one_of(colo_json_peek_string(view, "state", ""), states);
}

static char *refuse_copy(JsonObject *view, const char *host)
{
    const char *peer = colo_json_peek_string(view, "peer", "the peer");

    return g_strdup_printf("domain '%s' on %s is the copy of the guest that runs on %s: use it "
                           "there, at colo+ssh://%s/system",
                           colo_json_peek_string(view, "name", "?"), host, peer, peer);
}

static char *refuse_lost(JsonObject *view, const char *host)
{
    const char *name = colo_json_peek_string(view, "name", "?");
    const char *peer = colo_json_peek_string(view, "peer", "the peer");

    return g_strdup_printf("domain '%s' is %s on %s and may not run here: %s may own it, with "
                           "newer disks: see 'virsh-colo colo-status %s'; if %s is lost for good, "
                           "'virsh-colo colo-failover %s --i-am-sure --discard' goes on from the "
                           "disks of this host",
                           name, colo_json_peek_string(view, "state", ""), host, peer, name, peer,
                           name);
}

static char *refuse_merging(JsonObject *view)
{
    const char *name = colo_json_peek_string(view, "name", "?");

    return g_strdup_printf("domain '%s' has just been taken over and its disks are being merged "
                           "(%s): ask again when 'virsh-colo colo-status %s' says alone or "
                           "protected",
                           name, colo_json_peek_string(view, "state", ""), name);
}

char *colo_policy_may_run(JsonObject *view, const char *host)
{
    const char *state = colo_json_peek_string(view, "state", "");

    if (colo_policy_is_copy(view))
        return refuse_copy(view, host);
    if (is_one_of(state, lost))
        return refuse_lost(view, host);
    return is_one_of(state, merging) ? refuse_merging(view) : NULL;
}

static gboolean needs_auto_reprotect(ColoPolicyAction action)
{
    return action == COLO_ACTION_CHANGE || action == COLO_ACTION_SNAPSHOT ||
           action == COLO_ACTION_BLOCK_JOB || action == COLO_ACTION_DEFINE;
}

gboolean colo_policy_interrupts(ColoPolicyAction action, JsonObject *view)
{
    if (strcmp(colo_json_peek_string(view, "state", ""), "protected") != 0 ||
        colo_policy_is_copy(view))
        return FALSE;
    if (action == COLO_ACTION_PAUSE || action == COLO_ACTION_SAVE || action == COLO_ACTION_MIGRATE)
        return TRUE;
    return needs_auto_reprotect(action) && colo_json_peek_bool(view, "auto-reprotect", FALSE);
}

gboolean colo_policy_has_autostart(JsonObject *view)
{
    return strcmp(colo_json_peek_string(view, "state", "unprotected"), "unprotected") != 0;
}

/* Under a protection that is on. */
static char *refuse_protected(ColoPolicyAction action, JsonObject *view)
{
    const char *name = colo_json_peek_string(view, "name", "?");
    const char *pair = colo_json_peek_string(view, "pair", NULL);
    g_autofree char *instead = NULL;

    if ((size_t)action >= G_N_ELEMENTS(refusals) || !refusals[action].what)
        return NULL;
    if (refusals[action].instead)
        instead = g_strdup_printf(refusals[action].instead, name);
    return g_strdup_printf(
        "domain '%s' is protected by COLO (%s) and cannot be %s: %s%s"
        "'virsh-colo colo-unprotect %s' ends the protection, the guest goes on; "
        "'virsh-colo colo-protect %s --pair %s' protects it again%s",
        name, colo_json_peek_string(view, "state", ""), refusals[action].what,
        instead ? instead : "", instead ? "; " : "", name, name, pair ? pair : "PAIR",
        needs_auto_reprotect(action) ? "; auto-reprotect='yes' in its metadata does both by itself"
                                     : "");
}

char *colo_policy_refusal(ColoPolicyAction action, JsonObject *view, const char *host)
{
    static const char *const on[] = {"preparing", "syncing", "protected", "degraded", NULL};
    const char *state = colo_json_peek_string(view, "state", "");

    if (action == COLO_ACTION_PASS || action == COLO_ACTION_STATE)
        return NULL;
    if (colo_policy_is_copy(view))
        return refuse_copy(view, host);
    if (is_one_of(state, lost) && action == COLO_ACTION_START)
        return refuse_lost(view, host);
    if (is_one_of(state, merging) && action != COLO_ACTION_TOUCH)
        return refuse_merging(view);
    return is_one_of(state, on) ? refuse_protected(action, view) : NULL;
}
