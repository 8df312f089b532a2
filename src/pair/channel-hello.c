/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "pair/channel-hello.h"

#include "util/error.h"

#include <string.h>

ColoPeerInfo *colo_peer_info_copy(const ColoPeerInfo *info)
{
    ColoPeerInfo *copy;

    if (!info)
        return NULL;
    copy = g_new0(ColoPeerInfo, 1);
    copy->version = info->version;
    copy->software = g_strdup(info->software);
    copy->host = g_strdup(info->host);
    copy->host_uuid = g_strdup(info->host_uuid);
    copy->boot_id = g_strdup(info->boot_id);
    copy->qemu = g_strdup(info->qemu);
    copy->address = g_strdup(info->address);
    copy->dn = g_strdup(info->dn);
    return copy;
}

void colo_peer_info_free(ColoPeerInfo *info)
{
    if (!info)
        return;
    g_free(info->software);
    g_free(info->host);
    g_free(info->host_uuid);
    g_free(info->boot_id);
    g_free(info->qemu);
    g_free(info->address);
    g_free(info->dn);
    g_free(info);
}

static void default_text(char **text)
{
    if (!*text)
        *text = g_strdup("");
}

ColoPeerInfo *colo_hello_self(const ColoPeerInfo *self)
{
    ColoPeerInfo *copy = colo_peer_info_copy(self);

    if (copy->version == 0)
        copy->version = COLO_CHANNEL_VERSION;
    default_text(&copy->software);
    default_text(&copy->host);
    default_text(&copy->host_uuid);
    default_text(&copy->boot_id);
    return copy;
}

JsonObject *colo_hello_build(const ColoPeerInfo *self)
{
    return colo_json_build("type", "s", "hello", "version", "u", (uint64_t)self->version,
                           "software", "s", self->software, "host", "s", self->host, "host-uuid",
                           "s", self->host_uuid, "boot-id", "s", self->boot_id, "qemu", "s",
                           self->qemu, NULL);
}

static gboolean version_agrees(const ColoPeerInfo *self, const char *address, JsonObject *message,
                               uint64_t version, GError **error)
{
    if (version == self->version)
        return TRUE;
    g_set_error(error, COLO_ERROR, COLO_ERROR_PEER,
                "%s speaks version %" G_GUINT64_FORMAT " of the control protocol (%s), %s speaks "
                "version %u (%s); install the same libvirt-colo on both hosts",
                colo_json_peek_string(message, "host", address), version,
                colo_json_peek_string(message, "software", "unknown software"), self->host,
                self->version, self->software);
    return FALSE;
}

ColoPeerInfo *colo_hello_parse(const ColoPeerInfo *self, const char *address, const char *type,
                               JsonObject *message, GError **error)
{
    const char *host, *host_uuid, *boot_id;
    ColoPeerInfo *peer;
    uint64_t version;

    if (strcmp(type, "hello") != 0) {
        g_set_error(error, COLO_ERROR, COLO_ERROR_PEER,
                    "%s broke the control protocol: expected hello, found '%s'", address, type);
        return NULL;
    }
    /* The version first: another one may say the rest differently. */
    if (!colo_json_get_uint(message, "version", &version, error) ||
        !version_agrees(self, address, message, version, error) ||
        !colo_json_get_string(message, "host", &host, error) ||
        !colo_json_get_string(message, "host-uuid", &host_uuid, error) ||
        !colo_json_get_string(message, "boot-id", &boot_id, error))
        return NULL;

    peer = g_new0(ColoPeerInfo, 1);
    peer->version = (unsigned)version;
    peer->software = g_strdup(colo_json_peek_string(message, "software", ""));
    peer->host = g_strdup(host);
    peer->host_uuid = g_strdup(host_uuid);
    peer->boot_id = g_strdup(boot_id);
    peer->qemu = g_strdup(colo_json_peek_string(message, "qemu", NULL));
    peer->address = g_strdup(address);
    return peer;
}
