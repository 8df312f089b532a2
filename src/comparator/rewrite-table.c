/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "comparator/rewrite-table.h"

#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

/* A power of two, so that chains are about one entry long when the table is full. */
#define BUCKETS COLO_REWRITE_CONNECTIONS

/* #syscalls getrandom */
bool colo_rewrite_table_init(ColoRewriteTable *table)
{
    memset(table, 0, sizeof(*table));
    table->entries = calloc(COLO_REWRITE_CONNECTIONS, sizeof(*table->entries));
    table->buckets = calloc(BUCKETS, sizeof(*table->buckets));
    table->waiting = calloc(COLO_REWRITE_WAITING, sizeof(*table->waiting));
    if (!table->entries || !table->buckets || !table->waiting) {
        colo_rewrite_table_clear(table);
        return false;
    }
    if (getrandom(&table->secret, sizeof(table->secret), GRND_NONBLOCK) < 0)
        table->secret.k0 = (uint64_t)(uintptr_t)table->entries;
    return true;
}

void colo_rewrite_table_clear(ColoRewriteTable *table)
{
    free(table->entries);
    free(table->buckets);
    free(table->waiting);
    memset(table, 0, sizeof(*table));
}

static ColoRewriteEntry **bucket_of(const ColoRewriteTable *table, const ColoConnection *connection)
{
    uint64_t hash = colo_frame_hash(&table->secret, connection, sizeof(*connection));

    return &table->buckets[hash & (BUCKETS - 1)];
}

static bool is_of(const ColoRewriteEntry *entry, const ColoConnection *connection)
{
    return memcmp(&entry->connection, connection, sizeof(*connection)) == 0;
}

ColoRewriteEntry *colo_rewrite_table_find(const ColoRewriteTable *table,
                                          const ColoConnection *connection)
{
    ColoRewriteEntry *entry;

    if (table->count == 0)
        return NULL;
    entry = *bucket_of(table, connection);
    while (entry && !is_of(entry, connection))
        entry = entry->chain;
    return entry;
}

ColoRewriteEntry *colo_rewrite_table_get(ColoRewriteTable *table, const ColoConnection *connection)
{
    ColoRewriteEntry **bucket = bucket_of(table, connection), *entry = *bucket;

    while (entry && !is_of(entry, connection))
        entry = entry->chain;
    if (entry)
        return entry;
    entry = table->free_entries;
    if (entry)
        table->free_entries = entry->chain;
    else if (table->used < COLO_REWRITE_CONNECTIONS)
        entry = &table->entries[table->used++];
    else
        return NULL;
    memset(entry, 0, sizeof(*entry));
    entry->connection = *connection;
    entry->chain = *bucket;
    *bucket = entry;
    table->count++;
    return entry;
}

void colo_rewrite_table_remove(ColoRewriteTable *table, ColoRewriteEntry *entry)
{
    ColoRewriteEntry **at = bucket_of(table, &entry->connection);

    colo_rewrite_table_unwait(table, entry);
    while (*at != entry)
        at = &(*at)->chain;
    *at = entry->chain;
    memset(entry, 0, sizeof(*entry)); /* family 0: not in use */
    entry->chain = table->free_entries;
    table->free_entries = entry;
    table->count--;
}

ColoRewriteEntry *colo_rewrite_table_next(const ColoRewriteTable *table,
                                          const ColoRewriteEntry *entry)
{
    uint32_t i = entry ? (uint32_t)(entry - table->entries) + 1 : 0;

    while (i < table->used && table->entries[i].connection.family == 0)
        i++;
    return i < table->used ? &table->entries[i] : NULL;
}

ColoRewriteWaiting *colo_rewrite_table_wait(ColoRewriteTable *table, ColoRewriteEntry *entry)
{
    ColoRewriteWaiting *waiting = entry->waiting;

    if (waiting)
        return waiting;
    waiting = table->free_waiting;
    if (waiting)
        table->free_waiting = waiting->next;
    else if (table->waiting_used < COLO_REWRITE_WAITING)
        waiting = &table->waiting[table->waiting_used++];
    entry->waiting = waiting;
    return waiting;
}

void colo_rewrite_table_unwait(ColoRewriteTable *table, ColoRewriteEntry *entry)
{
    if (!entry->waiting)
        return;
    entry->waiting->next = table->free_waiting;
    table->free_waiting = entry->waiting;
    entry->waiting = NULL;
}
