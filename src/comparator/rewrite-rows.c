/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "comparator/rewrite-rows.h"

#include "util/error.h"

#include <arpa/inet.h>
#include <string.h>

/* Places in a ROW. */
enum { NIC, VLANS, LOCAL, LOCAL_PORT, REMOTE, REMOTE_PORT, ISN, DELTA, TS_DELTA, TS_HIGH, ROW };

#define VLANS_MAX 2u

static int family_of(const ColoConnection *connection)
{
    return connection->family == 6 ? AF_INET6 : AF_INET;
}

static void add_number(JsonObject *row, uint32_t number)
{
    json_object_array_add(row, json_object_new_uint64(number));
}

static void add_address(JsonObject *row, const ColoConnection *connection, const uint8_t *address)
{
    char text[INET6_ADDRSTRLEN] = "";

    (void)inet_ntop(family_of(connection), address, text, sizeof(text));
    json_object_array_add(row, json_object_new_string(text));
}

static JsonObject *build_row(const ColoRewriteRow *from, const char *nic)
{
    const ColoConnection *connection = &from->connection;
    JsonObject *row = json_object_new_array(), *vlans = json_object_new_array();

    json_object_array_add(row, json_object_new_string(nic));
    for (unsigned i = 0; i < connection->tags; i++)
        add_number(vlans, connection->vid[i]);
    json_object_array_add(row, vlans);
    add_address(row, connection, connection->local);
    add_number(row, connection->local_port);
    add_address(row, connection, connection->remote);
    add_number(row, connection->remote_port);
    add_number(row, from->isn);
    add_number(row, from->delta);
    if (from->ts_valid) {
        add_number(row, from->ts_delta);
        add_number(row, from->ts_high);
    }
    return row;
}

JsonObject *colo_rewrite_rows_build(const ColoRewriteRow *rows, uint32_t n,
                                    const char (*nics)[COLO_REQUEST_ALIAS_MAX + 1])
{
    JsonObject *array = json_object_new_array();

    for (uint32_t i = 0; i < n; i++)
        json_object_array_add(array, build_row(&rows[i], nics[rows[i].connection.nic]));
    return array;
}

static bool get_number(JsonObject *array, size_t at, uint64_t max, uint64_t *number)
{
    JsonObject *item = json_object_array_get_idx(array, at);

    if (!json_object_is_type(item, json_type_int) || json_object_get_int64(item) < 0)
        return false;
    *number = json_object_get_uint64(item);
    return *number <= max;
}

static const char *get_text(JsonObject *array, size_t at)
{
    JsonObject *item = json_object_array_get_idx(array, at);

    return json_object_is_type(item, json_type_string) ? json_object_get_string(item) : "";
}

static bool get_vlans(JsonObject *row, ColoConnection *connection)
{
    JsonObject *vlans = json_object_array_get_idx(row, VLANS);
    uint64_t number;

    if (!json_object_is_type(vlans, json_type_array) || json_object_array_length(vlans) > VLANS_MAX)
        return false;
    connection->tags = (uint8_t)json_object_array_length(vlans);
    for (unsigned i = 0; i < connection->tags; i++) {
        if (!get_number(vlans, i, 0xfff, &number))
            return false;
        connection->vid[i] = (uint16_t)number;
    }
    return true;
}

static bool get_ends(JsonObject *row, ColoConnection *connection)
{
    const char *local = get_text(row, LOCAL), *remote = get_text(row, REMOTE);
    uint64_t local_port, remote_port;

    connection->family = strchr(local, ':') ? 6 : 4;
    if (inet_pton(family_of(connection), local, connection->local) != 1 ||
        inet_pton(family_of(connection), remote, connection->remote) != 1 ||
        !get_number(row, LOCAL_PORT, UINT16_MAX, &local_port) ||
        !get_number(row, REMOTE_PORT, UINT16_MAX, &remote_port))
        return false;
    connection->local_port = (uint16_t)local_port;
    connection->remote_port = (uint16_t)remote_port;
    return true;
}

static bool parse_row(JsonObject *row, const char (*nics)[COLO_REQUEST_ALIAS_MAX + 1],
                      unsigned n_nics, ColoRewriteRow *to)
{
    uint64_t isn, delta, ts_delta = 0, ts_high = 0;
    size_t length;
    unsigned nic = 0;

    if (!json_object_is_type(row, json_type_array))
        return false;
    length = json_object_array_length(row);
    if (length != ROW && length != TS_DELTA)
        return false;
    while (nic < n_nics && strcmp(nics[nic], get_text(row, NIC)) != 0)
        nic++;
    if (nic == n_nics || !get_vlans(row, &to->connection) || !get_ends(row, &to->connection) ||
        !get_number(row, ISN, UINT32_MAX, &isn) || !get_number(row, DELTA, UINT32_MAX, &delta))
        return false;
    to->ts_valid = length == ROW;
    if (to->ts_valid && (!get_number(row, TS_DELTA, UINT32_MAX, &ts_delta) ||
                         !get_number(row, TS_HIGH, UINT32_MAX, &ts_high)))
        return false;
    to->connection.nic = (uint8_t)nic;
    to->isn = (uint32_t)isn;
    to->delta = (uint32_t)delta;
    to->ts_delta = (uint32_t)ts_delta;
    to->ts_high = (uint32_t)ts_high;
    return true;
}

GBytes *colo_rewrite_rows_parse(JsonObject *array, const char (*nics)[COLO_REQUEST_ALIAS_MAX + 1],
                                unsigned n_nics, GError **error)
{
    size_t length = json_object_array_length(array);
    g_autofree ColoRewriteRow *rows = NULL;

    if (length > COLO_REWRITE_CONNECTIONS) {
        g_set_error(error, COLO_ERROR, COLO_ERROR_INVALID_ARG,
                    "%zu rows of 'base', at most %u are possible", length,
                    COLO_REWRITE_CONNECTIONS);
        return NULL;
    }
    rows = g_new0(ColoRewriteRow, length + 1);
    for (size_t i = 0; i < length; i++) {
        if (!parse_row(json_object_array_get_idx(array, i), nics, n_nics, &rows[i])) {
            g_set_error(error, COLO_ERROR, COLO_ERROR_INVALID_ARG, "base[%zu] is no row", i);
            return NULL;
        }
    }
    return g_bytes_new_take(g_steal_pointer(&rows), length * sizeof(ColoRewriteRow));
}
