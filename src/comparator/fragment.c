/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "comparator/fragment.h"

#include <string.h>

/* Fragments with one identification, by their place. */
typedef struct {
    ColoSlot *piece[COLO_FRAGMENTS_MAX];
    unsigned n;
    uint32_t length; /* of a whole one's payload */
    bool whole;
    bool hostile;
} Datagram;

static uint32_t end_of(const ColoSlot *slot)
{
    return slot->info.frag_at + slot->info.payload_len;
}

static bool is_of(const ColoSlot *slot, uint32_t id, uint64_t epoch)
{
    return slot->info.frag_id == id && slot->epoch == epoch;
}

static void add_piece(Datagram *datagram, ColoSlot *slot)
{
    unsigned at = datagram->n;

    if (at == COLO_FRAGMENTS_MAX) {
        datagram->hostile = true;
        return;
    }
    while (at > 0 && datagram->piece[at - 1]->info.frag_at > slot->info.frag_at)
        at--;
    memmove(&datagram->piece[at + 1], &datagram->piece[at],
            (datagram->n - at) * sizeof(datagram->piece[0]));
    datagram->piece[at] = slot;
    datagram->n++;
}

/* A receiver takes the headers from the first fragment; of the others they are the same, but that
 * not all of IPv4's options are repeated (RFC 791 3.1). */
static bool same_headers(const ColoFrameInfo *a, const ColoFrameInfo *b)
{
    const ColoEnvelope *x = &a->envelope, *y = &b->envelope;

    return memcmp(x->macs, y->macs, sizeof(x->macs)) == 0 && x->dscp == y->dscp &&
           x->ttl == y->ttl && x->flags == y->flags && a->frag_protocol == b->frag_protocol &&
           (x->flags != COLO_ENVELOPE_IPV6 || x->options == y->options);
}

/* The datagram whose first fragment in its list is @first. */
static void collect(ColoSlot *first, Datagram *datagram)
{
    uint32_t reached = 0;
    unsigned scanned = 0;
    bool last = false;

    memset(datagram, 0, sizeof(*datagram));
    for (ColoSlot *slot = first; slot && !datagram->hostile && scanned++ < COLO_FRAGMENT_SCAN;
         slot = slot->next) {
        if (is_of(slot, first->info.frag_id, first->epoch))
            add_piece(datagram, slot);
    }
    for (unsigned i = 0; i < datagram->n && !datagram->hostile; i++) {
        const ColoSlot *slot = datagram->piece[i];

        if ((i > 0 && slot->info.frag_at < end_of(datagram->piece[i - 1])) || last ||
            !same_headers(&slot->info, &datagram->piece[0]->info))
            datagram->hostile = true;
        if (slot->info.frag_at == reached)
            reached = end_of(slot);
        last = !slot->info.frag_more;
    }
    datagram->length = reached;
    datagram->whole =
        !datagram->hostile && last && reached == end_of(datagram->piece[datagram->n - 1]);
}

static bool equal(const Datagram *a, const Datagram *b)
{
    const ColoFrameInfo *x = &a->piece[0]->info, *y = &b->piece[0]->info;
    uint32_t at = 0;

    if (!a->whole || !b->whole || a->length != b->length || x->frag_protocol != y->frag_protocol ||
        !colo_envelope_equal(&x->envelope, &y->envelope))
        return false;
    for (unsigned i = 0, k = 0; at < a->length;) {
        const ColoSlot *p = a->piece[i], *s = b->piece[k];
        uint32_t to = end_of(p) < end_of(s) ? end_of(p) : end_of(s);

        if (memcmp(p->data + p->info.payload_at + (at - p->info.frag_at),
                   s->data + s->info.payload_at + (at - s->info.frag_at), to - at) != 0)
            return false;
        at = to;
        i += at == end_of(p);
        k += at == end_of(s);
    }
    return true;
}

/* The datagrams of a list, in the order of their first fragments. */
typedef struct {
    ColoSlot *next;
    uint64_t epoch;
    uint32_t seen[COLO_FRAGMENT_REORDER];
    unsigned n;
    unsigned scanned;
} Walk;

static bool was_seen(const Walk *walk, uint32_t id)
{
    for (unsigned i = 0; i < walk->n; i++) {
        if (walk->seen[i] == id)
            return true;
    }
    return false;
}

static bool next_datagram(Walk *walk, Datagram *datagram)
{
    for (; walk->next && walk->scanned < COLO_FRAGMENT_SCAN && walk->n < COLO_FRAGMENT_REORDER;
         walk->next = walk->next->next, walk->scanned++) {
        ColoSlot *slot = walk->next;

        /* One that has left in part has its twin. */
        if (slot->epoch != walk->epoch || slot->matched || was_seen(walk, slot->info.frag_id))
            continue;
        walk->seen[walk->n++] = slot->info.frag_id;
        collect(slot, datagram);
        return true;
    }
    return false;
}

/* The primary has said @twin too, but after @slot. */
static bool is_of_a_later_one(const ColoSlot *slot, const Datagram *twin)
{
    Walk walk = {.next = slot->next, .epoch = slot->epoch, .seen = {slot->info.frag_id}, .n = 1};
    Datagram later;

    while (next_datagram(&walk, &later)) {
        if (equal(&later, twin))
            return true;
    }
    return false;
}

static void use_up(ColoStore *store, const Datagram *own, const Datagram *twin)
{
    for (unsigned i = 0; i < own->n; i++)
        own->piece[i]->matched = own->piece[i]->info.payload_len;
    for (unsigned i = 0; i < twin->n; i++) {
        colo_slot_remove(store, twin->piece[i]);
        colo_slot_free(store, twin->piece[i]);
    }
}

ColoFragmentAnswer colo_fragment_check(ColoStore *store, ColoFlow *flow, ColoSlot *slot)
{
    Walk walk = {.next = flow->twins.first, .epoch = slot->epoch};
    Datagram own, twin;
    bool contradicted = false;

    if (slot->matched)
        return COLO_FRAGMENT_LEAVE;
    collect(slot, &own);
    if (own.hostile)
        return COLO_FRAGMENT_DIVERGED;
    while (next_datagram(&walk, &twin)) {
        if (equal(&own, &twin)) {
            use_up(store, &own, &twin);
            return COLO_FRAGMENT_LEAVE;
        }
        contradicted = contradicted || twin.hostile ||
                       (twin.whole && own.whole && !is_of_a_later_one(slot, &twin));
    }
    return contradicted ? COLO_FRAGMENT_DIVERGED : COLO_FRAGMENT_WAIT;
}
