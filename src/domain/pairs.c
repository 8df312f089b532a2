/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "domain/pairs.h"

#include "domain/pool-map.h"
#include "util/error.h"

#define WAIT_STEP_US (20 * G_TIME_SPAN_MILLISECOND)

typedef struct {
    ColoPairs *pairs;
    ColoPairRecord *record;
    ColoChannel *channel;
} Pair;

struct ColoPairs {
    const ColoConfig *config;
    const ColoPeerInfo *self;
    ColoStore *store;
    ColoChannelServer *server;
    ColoPairEventFunc event;
    void *opaque;
    GRecMutex lock;
    GHashTable *table; /* name -> Pair * */
};

static void emit(void *opaque, ColoPairEvent event)
{
    Pair *pair = opaque;

    pair->pairs->event(pair->record->name, event, pair->pairs->opaque);
}

static void on_up(ColoChannel *channel, const ColoPeerInfo *peer, void *opaque)
{
    (void)channel;
    (void)peer;
    emit(opaque, COLO_PAIR_EVENT_UP);
}

static void on_down(ColoChannel *channel, const char *reason, void *opaque)
{
    (void)channel;
    (void)reason;
    emit(opaque, COLO_PAIR_EVENT_DOWN);
}

static void on_silent(ColoChannel *channel, uint64_t silent_ms, void *opaque)
{
    (void)channel;
    (void)silent_ms;
    emit(opaque, COLO_PAIR_EVENT_SILENT);
}

static void on_heard(ColoChannel *channel, void *opaque)
{
    (void)channel;
    emit(opaque, COLO_PAIR_EVENT_HEARD);
}

static void pair_free(gpointer data)
{
    Pair *pair = data;

    colo_channel_free(pair->channel);
    colo_pair_record_free(pair->record);
    g_free(pair);
}

/* Takes @record over, also on failure. */
static gboolean open_pair(ColoPairs *pairs, ColoPairRecord *record, GError **error)
{
    static const ColoChannelEvents events = {
        .up = on_up, .down = on_down, .silent = on_silent, .heard = on_heard};
    Pair *pair = g_new0(Pair, 1);

    pair->pairs = pairs;
    pair->record = record;
    pair->channel = colo_channel_new(&pairs->config->tls, pairs->self, record->peer, record->port,
                                     &pairs->config->heartbeat, &events, pair, error);
    if (!pair->channel) {
        pair_free(pair);
        return FALSE;
    }
    if (pairs->server)
        colo_channel_server_attach(pairs->server, pair->channel);
    g_hash_table_replace(pairs->table, record->name, pair);
    return TRUE;
}

ColoPairs *colo_pairs_new(const ColoConfig *config, const ColoPeerInfo *self, ColoStore *store,
                          ColoChannelServer *server, ColoPairEventFunc event, void *opaque,
                          GError **error)
{
    g_autoptr(GPtrArray) records = colo_store_pairs(store, error);
    ColoPairs *pairs;

    if (!records)
        return NULL;
    pairs = g_new0(ColoPairs, 1);
    pairs->config = config;
    pairs->self = self;
    pairs->store = store;
    pairs->server = server;
    pairs->event = event;
    pairs->opaque = opaque;
    g_rec_mutex_init(&pairs->lock);
    pairs->table = g_hash_table_new_full(g_str_hash, g_str_equal, NULL, pair_free);
    g_ptr_array_set_free_func(records, NULL); /* the records move into the table */
    for (guint i = 0; i < records->len; i++) {
        if (!open_pair(pairs, g_ptr_array_index(records, i), error)) {
            colo_pairs_free(pairs);
            return NULL;
        }
    }
    return pairs;
}

void colo_pairs_free(ColoPairs *pairs)
{
    if (!pairs)
        return;
    g_hash_table_unref(pairs->table);
    g_rec_mutex_clear(&pairs->lock);
    g_free(pairs);
}

static Pair *find(ColoPairs *pairs, const char *name, GError **error)
{
    Pair *pair = name ? g_hash_table_lookup(pairs->table, name) : NULL;

    if (!pair)
        g_set_error(error, COLO_ERROR, COLO_ERROR_NO_PAIR,
                    "no pair with matching name '%s': see 'virsh-colo colo-pair-list', define it "
                    "with 'virsh-colo colo-pair-define'",
                    name ? name : "");
    return pair;
}

gboolean colo_pairs_define(ColoPairs *pairs, const char *name, const char *peer, uint16_t port,
                           const char *pool_map, GError **error)
{
    g_autoptr(GRecMutexLocker) locker = g_rec_mutex_locker_new(&pairs->lock);
    Pair *old = g_hash_table_lookup(pairs->table, name);
    g_autoptr(JsonObject) map = colo_pool_map_parse(pool_map, error);
    ColoPairRecord *record;

    if (!map)
        return FALSE;
    if (old && g_strcmp0(old->record->peer, peer) == 0 && old->record->port == port &&
        json_object_equal(old->record->pool_map, map))
        return TRUE;
    if (old) {
        g_autofree char *shown = colo_pool_map_to_text(old->record->pool_map, FALSE);

        g_set_error(error, COLO_ERROR, COLO_ERROR_OPERATION_INVALID,
                    "pair '%s' exists already on %s with peer %s:%u and %s%s: undefine it first",
                    name, pairs->config->host_name, old->record->peer, old->record->port,
                    shown ? "pool map " : "no pool map", shown ? shown : "");
        return FALSE;
    }
    record = colo_pair_record_new(name, peer, port);
    json_object_put(record->pool_map);
    record->pool_map = g_steal_pointer(&map);
    if (!colo_store_save_pair(pairs->store, record, error)) {
        colo_pair_record_free(record);
        return FALSE;
    }
    return open_pair(pairs, record, error);
}

gboolean colo_pairs_undefine(ColoPairs *pairs, const char *name, GError **error)
{
    Pair *pair;

    g_rec_mutex_lock(&pairs->lock);
    pair = find(pairs, name, error);
    if (pair && colo_store_delete_pair(pairs->store, name, error))
        g_hash_table_steal(pairs->table, name);
    else
        pair = NULL;
    g_rec_mutex_unlock(&pairs->lock);
    /* It waits for the I/O thread, whose events take the lock. */
    if (pair)
        pair_free(pair);
    return pair != NULL;
}

gboolean colo_pairs_has(ColoPairs *pairs, const char *name, GError **error)
{
    g_autoptr(GRecMutexLocker) locker = g_rec_mutex_locker_new(&pairs->lock);

    return find(pairs, name, error) != NULL;
}

ColoChannel *colo_pairs_channel(ColoPairs *pairs, const char *name, GError **error)
{
    g_autoptr(GRecMutexLocker) locker = g_rec_mutex_locker_new(&pairs->lock);
    Pair *pair = find(pairs, name, error);

    return pair ? colo_channel_ref(pair->channel) : NULL;
}

gboolean colo_pairs_wait_up(ColoPairs *pairs, const char *name, unsigned timeout_ms, GError **error)
{
    gint64 end = g_get_monotonic_time() + (gint64)timeout_ms * 1000;
    g_autoptr(ColoChannelRef) channel = colo_pairs_channel(pairs, name, error);
    g_autofree char *why = NULL;

    if (!channel)
        return FALSE;
    while (!colo_channel_is_up(channel) && g_get_monotonic_time() < end)
        g_usleep(WAIT_STEP_US);
    if (colo_channel_is_up(channel))
        return TRUE;
    why = colo_channel_last_error(channel);
    g_set_error(error, COLO_ERROR, COLO_ERROR_PEER, "pair '%s': the peer %s cannot be reached: %s",
                name, colo_channel_host(channel), why ? why : "not connected yet");
    return FALSE;
}

char *colo_pairs_peer_host(ColoPairs *pairs, const char *name, GError **error)
{
    g_autoptr(ColoChannelRef) channel = colo_pairs_channel(pairs, name, error);
    g_autoptr(ColoPeerInfo) peer = channel ? colo_channel_peer(channel) : NULL;

    if (!channel)
        return NULL;
    if (!peer) {
        g_set_error(error, COLO_ERROR, COLO_ERROR_PEER,
                    "pair '%s': the peer %s was never connected", name, colo_channel_host(channel));
        return NULL;
    }
    return g_strdup(peer->host);
}

char *colo_pairs_peer_address(ColoPairs *pairs, const char *name)
{
    g_autoptr(GRecMutexLocker) locker = g_rec_mutex_locker_new(&pairs->lock);
    Pair *pair = find(pairs, name, NULL);

    return pair ? g_strdup(pair->record->peer) : NULL;
}

JsonObject *colo_pairs_pool_map(ColoPairs *pairs, const char *name)
{
    g_autoptr(GRecMutexLocker) locker = g_rec_mutex_locker_new(&pairs->lock);
    Pair *pair = find(pairs, name, NULL);
    JsonObject *copy = NULL;

    if (pair)
        json_object_deep_copy(pair->record->pool_map, &copy, NULL);
    return copy ? copy : json_object_new_object();
}

static const char *pair_state(const Pair *pair, const ColoConfig *config)
{
    uint64_t limit = (uint64_t)config->heartbeat.interval_ms * config->heartbeat.missed;

    if (!colo_channel_is_up(pair->channel))
        return "down";
    return colo_channel_silent_ms(pair->channel) > limit ? "silent" : "up";
}

static JsonObject *describe(ColoPairs *pairs, const Pair *pair)
{
    return colo_json_build("name", "s", pair->record->name, "peer", "s", pair->record->peer, "port",
                           "i", (int)pair->record->port, "state", "s",
                           pair_state(pair, pairs->config), "local-host", "s",
                           pairs->config->host_name, NULL);
}

JsonObject *colo_pairs_list(ColoPairs *pairs)
{
    g_autoptr(GRecMutexLocker) locker = g_rec_mutex_locker_new(&pairs->lock);
    JsonObject *list = json_object_new_array();
    GHashTableIter iter;
    gpointer value;

    g_hash_table_iter_init(&iter, pairs->table);
    while (g_hash_table_iter_next(&iter, NULL, &value))
        json_object_array_add(list, describe(pairs, value));
    return colo_json_build("pairs", "o", list, NULL);
}

JsonObject *colo_pairs_info(ColoPairs *pairs, const char *name, GError **error)
{
    g_autoptr(GRecMutexLocker) locker = g_rec_mutex_locker_new(&pairs->lock);
    Pair *pair = find(pairs, name, error);
    g_autofree char *last_error = NULL;
    g_autofree char *expiry = NULL;
    g_autoptr(ColoPeerInfo) peer = NULL;
    g_autoptr(ColoCertInfo) cert = NULL;
    JsonObject *info;

    if (!pair)
        return NULL;
    info = describe(pairs, pair);
    last_error = colo_channel_last_error(pair->channel);
    peer = colo_channel_peer(pair->channel);
    cert =
        colo_pki_read_cert(pairs->config->tls.server_cert_file ? pairs->config->tls.server_cert_file
                                                               : COLO_PKI_SERVER_CERT_FILE,
                           NULL);
    if (cert) {
        g_autoptr(GDateTime) when = g_date_time_new_from_unix_utc(cert->expiry);

        expiry = when ? g_date_time_format_iso8601(when) : NULL;
    }
    colo_json_add(info, "pool-map", "o", colo_pairs_pool_map(pairs, name), NULL);
    colo_json_add(info, "peer-version", "s", peer ? peer->software : NULL, "peer-host", "s",
                  peer ? peer->host : NULL, "last-error", "s", last_error, "silent-ms", "u",
                  colo_channel_silent_ms(pair->channel), "certificate-expiry", "s", expiry, NULL);
    return info;
}
