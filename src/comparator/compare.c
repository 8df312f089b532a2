/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Theory of operation. Each frame is parsed once (frame.h), finds its flow and lies in a slot
 * (flow.h) that points at the caller's bytes; then the flow's first held frame is checked, and the
 * next, as long as they may leave. Only a slot that is still wanted after that is copied into the
 * arena: with the twin waiting, a primary frame leaves without having been copied.
 *
 * TCP goes by tcp.h, fragments by fragment.h. Every other flow is compared frame by frame: the
 * first held frame of the primary leaves with an equal frame of the secondary. When the secondary
 * has produced a frame of the same epoch in that flow that the primary has not, the copies have
 * diverged; otherwise the frame waits, and the caller's timer (colo_compare_due_ns) bounds that. So
 * an order that differs within TWIN_SCAN frames is no divergence: networks reorder datagrams.
 *
 * A flow that has diverged stays so, with all that follows, until a commit frees the frame.
 */
#include "comparator/compare-private.h"
#include "comparator/fragment.h"

#include <stdlib.h>
#include <string.h>

/* 16 MiB hold 100 ms, the default checkpoint period, of 1 Gbit/s: more would only add latency to
 * what has to wait anyway. */
#define ARENA_DEFAULT (16u * 1024u * 1024u)
/* As many half-kilobyte frames as fill a third of that; full frames take 2 KiB each, so small ones
 * get two slots for each block of that size. */
#define FRAMES_DEFAULT 16384u
/* A busy server's live connections; idle flows give way. */
#define FLOWS_DEFAULT 8192u
/* Frames of a batch that are read before the first one's turn comes, so that what they need is on
 * its way from memory in the meantime: a trip of some 100 ns, a few frames' time. */
#define READ_AHEAD 16u
/* So many frames ahead all of a frame is fetched, before it is copied or compared: the processor
 * does not see by itself that the next frame follows. */
#define CONTENT_AHEAD 3u
/* Bytes in which all that is parsed lies as a rule. */
#define HEADERS_USUAL 80u
/* Frames of the secondary that one of the primary is compared with in a flow that is no stream. */
#define TWIN_SCAN 64u

ColoCompare *colo_compare_new(const ColoCompareLimits *limits, ColoReleaseFunc release,
                              void *opaque)
{
    ColoCompare *c = calloc(1, sizeof(*c));
    size_t arena = limits && limits->arena_bytes ? limits->arena_bytes : ARENA_DEFAULT;
    uint32_t frames = limits && limits->frames ? limits->frames : FRAMES_DEFAULT;
    uint32_t flows = limits && limits->flows ? limits->flows : FLOWS_DEFAULT;

    if (!c)
        return NULL;
    if (!colo_store_init(&c->store, arena, frames, flows)) {
        free(c);
        return NULL;
    }
    c->release = release;
    c->opaque = opaque;
    c->comparing = true;
    return c;
}

void colo_compare_free(ColoCompare *c)
{
    if (!c)
        return;
    (void)colo_compare_drop_all(c); /* references to chunks go back */
    colo_store_clear(&c->store);
    free(c);
}

void colo_compare_set_comparing(ColoCompare *c, bool comparing)
{
    c->comparing = comparing;
}

/* After a clamped ACK with nothing behind it in the flow, the full one is owed. Without room for it
 * the peer's retransmission asks for it. */
static void owe_ack(ColoCompare *c, ColoFlow *flow, const ColoSlot *slot, const uint8_t *frame)
{
    ColoSlot *ack = colo_slot_new(&c->store, slot->info.payload_at);

    if (!ack)
        return;
    colo_tcp_make_owed_ack(ack, slot, frame);
    colo_slot_insert(&c->store, flow, ack, COLO_SLOT_HELD, NULL);
    c->counters[COLO_COUNT_OWED_ACK]++;
}

void colo_compare_let_go(ColoCompare *c, ColoFlow *flow, ColoCompareCounter why,
                         const ColoAckPlan *plan)
{
    ColoSlot *slot = flow->primary.first;
    const ColoFrameInfo *info = &slot->info;
    uint8_t *frame = slot->data;

    if (plan && (plan->clamp || plan->narrow || plan->strip_sack)) {
        if (!slot->stored || slot->chunk) {
            memcpy(c->scratch, slot->data, slot->len);
            frame = c->scratch;
        }
        colo_tcp_apply_plan(frame, slot->vnet, info, plan);
        c->counters[COLO_COUNT_CLAMPED_ACK] += plan->clamp;
        c->counters[COLO_COUNT_NARROWED_WINDOW] += plan->narrow;
        c->counters[COLO_COUNT_STRIPPED_SACK] += plan->strip_sack;
    }
    c->counters[why]++;
    if (why == COLO_COUNT_RELEASED_EQUAL && slot->stored)
        colo_compare_learn(c, flow, c->now_ns - slot->now_ns);
    c->release(c->opaque, flow->key.nic, frame, slot->len, slot->vnet,
               frame == slot->data ? slot->chunk : NULL);
    colo_compare_undiverge(c, flow);
    if (info->tcp) {
        colo_tcp_released(&c->store, flow, slot, plan);
        if (plan && plan->owe && !slot->next && !slot->synthetic)
            owe_ack(c, flow, slot, frame);
    }
    colo_slot_retire(&c->store, slot);
}

typedef enum { CHECK_LEAVE, CHECK_WAIT, CHECK_DIVERGED } Check;

static bool same_content(const ColoSlot *a, const ColoSlot *b)
{
    return a->epoch == b->epoch && a->vnet == b->vnet &&
           colo_frame_equal(a->data, a->len, &a->info, b->data, b->len, &b->info, a->vnet);
}

/* The primary has said @twin too, but after @slot. */
static bool is_of_a_later_one(const ColoSlot *slot, const ColoSlot *twin)
{
    const ColoSlot *later = slot->next;

    for (unsigned i = 0; later && i < TWIN_SCAN; i++, later = later->next) {
        if (same_content(later, twin))
            return true;
    }
    return false;
}

static Check check_fragment(ColoCompare *c, ColoFlow *flow, ColoSlot *slot)
{
    switch (colo_fragment_check(&c->store, flow, slot)) {
    case COLO_FRAGMENT_LEAVE:
        return CHECK_LEAVE;
    case COLO_FRAGMENT_WAIT:
        return CHECK_WAIT;
    case COLO_FRAGMENT_DIVERGED:
        break;
    }
    return CHECK_DIVERGED;
}

static Check check_content(ColoCompare *c, ColoFlow *flow, const ColoSlot *slot)
{
    ColoSlot *twin = flow->twins.first;
    bool contradicted = false;

    for (unsigned i = 0; twin && i < TWIN_SCAN; i++, twin = twin->next) {
        if (same_content(slot, twin)) {
            colo_compare_discard(c, twin);
            return CHECK_LEAVE;
        }
        contradicted =
            contradicted || (twin->epoch == slot->epoch && !is_of_a_later_one(slot, twin));
    }
    return contradicted ? CHECK_DIVERGED : CHECK_WAIT;
}

/* May @slot, a held frame of @flow, leave? @diverged: what to count when the copies differ. */
static Check check(ColoCompare *c, ColoFlow *flow, ColoSlot *slot, ColoAckPlan *plan,
                   ColoCompareCounter *diverged)
{
    if (slot->uncompared)
        return CHECK_WAIT;
    if (!slot->info.tcp) {
        memset(plan, 0, sizeof(*plan));
        *diverged =
            slot->info.fragment ? COLO_COUNT_DIVERGED_FRAGMENT : COLO_COUNT_DIVERGED_CONTENT;
        return slot->info.fragment ? check_fragment(c, flow, slot) : check_content(c, flow, slot);
    }
    switch (colo_tcp_check(&c->store, flow, slot, plan)) {
    case COLO_TCP_LEAVE:
        return CHECK_LEAVE;
    case COLO_TCP_WAIT:
        return CHECK_WAIT;
    case COLO_TCP_DIVERGED_PAYLOAD:
        *diverged = COLO_COUNT_DIVERGED_PAYLOAD;
        return CHECK_DIVERGED;
    case COLO_TCP_DIVERGED_FLAGS:
        *diverged = COLO_COUNT_DIVERGED_FLAGS;
        return CHECK_DIVERGED;
    case COLO_TCP_DIVERGED_SYN:
        break;
    }
    *diverged = COLO_COUNT_DIVERGED_SYN;
    return CHECK_DIVERGED;
}

void colo_compare_advance(ColoCompare *c, ColoFlow *flow)
{
    ColoCompareCounter diverged = COLO_COUNT_DIVERGED_CONTENT;
    ColoAckPlan plan;

    while (!flow->diverged && flow->primary.first) {
        ColoSlot *slot = flow->primary.first;
        Check answer = check(c, flow, slot, &plan, &diverged);

        if (answer == CHECK_WAIT && slot->synthetic && slot->next) {
            /* An owed ACK does not stand in the way: what follows carries it too. */
            answer = check(c, flow, slot->next, &plan, &diverged);
            if (answer == CHECK_WAIT)
                return;
            colo_compare_discard(c, slot);
        }
        if (answer == CHECK_WAIT)
            return;
        if (answer == CHECK_LEAVE) {
            colo_compare_let_go(c, flow, COLO_COUNT_RELEASED_EQUAL, &plan);
            continue;
        }
        flow->diverged = true;
        c->diverged++;
        c->counters[diverged]++;
    }
}

/* A frame that was read, with what it takes to find its flow. */
typedef struct {
    const ColoCompareInput *input;
    bool sound; /* it could be read */
    bool usual; /* colo_frame_usual() took it */
    uint64_t hash;
    ColoFlowKey key;
    union {
        ColoFrameUsual as_usual;
        ColoFrameInfo info; /* else */
    };
} Read;

static void read_frame(const ColoCompare *c, const ColoCompareInput *in, Read *read)
{
    read->input = in;
    read->usual = false;
    read->sound = false;
    if (in->len > COLO_COMPARE_FRAME_MAX)
        return;
    if (!c->long_way &&
        colo_frame_usual(in->frame, in->len, in->vnet, in->nic, &read->key, &read->as_usual))
        read->usual = true;
    else if (!colo_frame_parse(in->frame, in->len, in->vnet, in->nic, &c->store.secret, &read->key,
                               &read->info))
        return;
    read->sound = true;
    read->hash = colo_flow_hash(&c->store, &read->key);
}

/* The flow of the frame that was read; NULL, with the verdict, when the frame is malformed or no
 * flow is left. */
static ColoFlow *find_flow(ColoCompare *c, const Read *read, ColoVerdict *verdict)
{
    ColoFlow *flow;

    if (!read->sound) {
        c->counters[COLO_COUNT_DROPPED_MALFORMED]++;
        *verdict = COLO_VERDICT_TAKEN;
        return NULL;
    }
    c->now_ns = read->input->now_ns;
    flow = colo_flow_get(&c->store, &read->key, read->hash);
    if (!flow) {
        c->counters[COLO_COUNT_FULL_FLOWS]++;
        *verdict = COLO_VERDICT_FULL;
        return NULL;
    }
    colo_tcp_committed(flow, c->committed);
    return flow;
}

/* Fills in all of @slot but where its bytes are. */
static void fill_slot(const ColoCompare *c, const Read *read, uint64_t epoch, ColoSlot *slot)
{
    const ColoCompareInput *in = read->input;

    slot->vnet = (uint32_t)in->vnet;
    slot->epoch = epoch;
    slot->now_ns = in->now_ns;
    slot->incarnation = 0;
    slot->matched = 0;
    slot->uncompared = !c->comparing;
    slot->synthetic = false;
    slot->new_connection = false;
    slot->usual = read->usual;
    if (read->usual)
        colo_frame_usual_info(in->frame, in->vnet, &read->as_usual, &slot->info);
    else
        slot->info = read->info;
}

/* Makes the incoming slot the frame that was read. */
static ColoSlot *take_in(const ColoCompare *c, const Read *read, uint64_t epoch)
{
    const ColoCompareInput *in = read->input;
    ColoSlot *slot = c->store.incoming;

    slot->flow = NULL;
    slot->data =
        (uint8_t *)(uintptr_t)in->frame; /* never written: only a stored or copied one is */
    slot->len = (uint32_t)in->len;
    slot->chunk = in->chunk;
    slot->stored = false;
    fill_slot(c, read, epoch, slot);
    return slot;
}

/* Holds a usual frame of the primary that waits; false when the long way is to be gone. */
static bool hold_usual(ColoCompare *c, ColoFlow *flow, const Read *read, uint64_t epoch)
{
    ColoTcpPrimary newest = flow->newest;
    ColoSlot *slot;

    if (!read->usual || epoch < c->committed ||
        !colo_tcp_usual_primary(flow, &read->as_usual, epoch))
        return false;
    slot =
        colo_slot_hold(&c->store, flow, read->input->frame, read->input->len, read->input->chunk);
    if (!slot) {
        flow->newest = newest;
        return false;
    }
    fill_slot(c, read, epoch, slot);
    slot->incarnation = newest.incarnation;
    return true;
}

/* Lets the first held frame of @flow go if the usual frame of the secondary is its twin; false when
 * the long way is to be gone. */
static bool release_usual(ColoCompare *c, ColoFlow *flow, const Read *read, uint64_t epoch)
{
    const ColoCompareInput *in = read->input;
    ColoSlot *slot = flow->primary.first;

    if (!read->usual || !colo_tcp_usual_twin(flow, in->frame, in->vnet, &read->as_usual, epoch))
        return false;
    c->counters[COLO_COUNT_RELEASED_EQUAL]++;
    colo_compare_learn(c, flow, c->now_ns - slot->now_ns);
    c->release(c->opaque, flow->key.nic, slot->data, slot->len, slot->vnet, slot->chunk);
    colo_slot_retire(&c->store, slot);
    if (flow->primary.first && !colo_tcp_waits(flow, flow->primary.first))
        colo_compare_advance(c, flow);
    return true;
}

/* Stores @slot, which waits; false, and it is out of its list, when a limit is reached. */
static bool keep(ColoCompare *c, ColoSlot *slot)
{
    ColoKeep kept = colo_slot_keep(&c->store, slot);

    if (kept == COLO_KEPT)
        return true;
    colo_slot_remove(&c->store, slot);
    c->counters[kept == COLO_KEEP_FLOW_FULL ? COLO_COUNT_FULL_FLOW : COLO_COUNT_FULL_FRAMES]++;
    return false;
}

static ColoVerdict feed_primary(ColoCompare *c, const Read *read)
{
    uint64_t epoch = read->input->epoch;
    ColoTcpPrimary newest, before;
    ColoVerdict verdict;
    ColoFlow *flow;
    ColoSlot *slot;
    bool first;

    c->counters[COLO_COUNT_PRIMARY_FRAMES]++;
    /* Epochs do not go back; a caller's slip may hold a frame longer, never less. */
    if (epoch < c->primary_epoch)
        epoch = c->primary_epoch;
    c->primary_epoch = epoch;
    flow = find_flow(c, read, &verdict);
    if (!flow)
        return verdict;
    if (hold_usual(c, flow, read, epoch))
        return COLO_VERDICT_HELD;
    slot = take_in(c, read, epoch);
    newest = flow->newest;
    before = flow->before;
    if (slot->info.tcp)
        colo_tcp_note_primary(flow, slot);
    colo_slot_insert(&c->store, flow, slot, COLO_SLOT_HELD, flow->primary.last);
    if (epoch < c->committed) { /* it was on its way when the commit came */
        while (flow->primary.first && flow->primary.first->epoch < c->committed)
            colo_compare_let_go(c, flow, COLO_COUNT_RELEASED_COMMIT, NULL);
        flow->base_committed = 0;
        colo_tcp_committed(flow, c->committed);
    } else if (slot->prev == NULL || slot->prev->synthetic || colo_fragment_completes(flow, slot)) {
        colo_compare_advance(c, flow);
    }
    if (!slot->flow)
        return COLO_VERDICT_RELEASED;
    first = flow->primary.first == slot;
    if (keep(c, slot))
        return flow->diverged ? COLO_VERDICT_DIVERGED : COLO_VERDICT_HELD;
    if (first)
        colo_compare_undiverge(c, flow);
    flow->newest = newest;
    flow->before = before;
    return COLO_VERDICT_FULL;
}

static ColoVerdict feed_secondary(ColoCompare *c, const Read *read)
{
    uint64_t epoch = read->input->epoch;
    ColoVerdict verdict;
    ColoFlow *flow;
    ColoSlot *slot;
    bool diverged;

    c->counters[COLO_COUNT_SECONDARY_FRAMES]++;
    if (epoch < c->committed || epoch < c->secondary_epoch) {
        c->counters[COLO_COUNT_DROPPED_STALE]++;
        return COLO_VERDICT_TAKEN;
    }
    c->secondary_epoch = epoch;
    if (!c->comparing)
        return COLO_VERDICT_TAKEN;
    flow = find_flow(c, read, &verdict);
    if (!flow)
        return verdict;
    if (release_usual(c, flow, read, epoch))
        return flow->diverged ? COLO_VERDICT_DIVERGED : COLO_VERDICT_TAKEN;
    diverged = flow->diverged;
    if (diverged && flow->primary.first->epoch >= epoch)
        return COLO_VERDICT_TAKEN; /* only a commit helps, and after it this is stale */
    slot = take_in(c, read, epoch);
    if (slot->info.tcp)
        c->counters[COLO_COUNT_DROPPED_FAR] += !colo_tcp_note_secondary(&c->store, flow, slot);
    else
        colo_slot_insert(&c->store, flow, slot, COLO_SLOT_TWIN, flow->twins.last);
    colo_compare_advance(c, flow);
    if (slot->flow && !keep(c, slot))
        return COLO_VERDICT_FULL;
    return flow->diverged && !diverged ? COLO_VERDICT_DIVERGED : COLO_VERDICT_TAKEN;
}

/* Brings @len bytes towards the processor. */
static inline void prefetch(const uint8_t *bytes, size_t len)
{
    for (size_t at = 0; at < len; at += COLO_CACHE_LINE)
        __builtin_prefetch(bytes + at);
}

void colo_compare_batch(ColoCompare *c, const ColoCompareInput *inputs, size_t n,
                        ColoVerdict *verdicts)
{
    Read read[READ_AHEAD];

    for (size_t at = 0; at < n; at += READ_AHEAD) {
        size_t m = n - at < READ_AHEAD ? n - at : READ_AHEAD;

        for (size_t i = 0; i < m; i++) {
            read_frame(c, &inputs[at + i], &read[i]);
            if (read[i].sound)
                colo_flow_prefetch_bucket(&c->store, read[i].hash);
        }
        for (size_t i = 0; i < m; i++) {
            if (read[i].sound)
                colo_flow_prefetch(&c->store, read[i].hash);
        }
        for (size_t i = 0; i < m; i++) {
            size_t next = at + i + CONTENT_AHEAD, later = at + i + READ_AHEAD;

            if (next < n)
                prefetch(inputs[next].frame, inputs[next].len);
            if (later < n)
                prefetch(inputs[later].frame, HEADERS_USUAL);
            verdicts[at + i] =
                read[i].input->secondary ? feed_secondary(c, &read[i]) : feed_primary(c, &read[i]);
        }
    }
}

ColoVerdict colo_compare_primary(ColoCompare *c, uint8_t nic, const uint8_t *frame, size_t len,
                                 size_t vnet, uint64_t epoch, uint64_t now_ns)
{
    const ColoCompareInput in = {
        .frame = frame, .len = len, .vnet = vnet, .epoch = epoch, .now_ns = now_ns, .nic = nic};
    Read read;

    read_frame(c, &in, &read);
    return feed_primary(c, &read);
}

ColoVerdict colo_compare_secondary(ColoCompare *c, uint8_t nic, const uint8_t *frame, size_t len,
                                   size_t vnet, uint64_t epoch, uint64_t now_ns)
{
    const ColoCompareInput in = {.frame = frame,
                                 .len = len,
                                 .vnet = vnet,
                                 .epoch = epoch,
                                 .now_ns = now_ns,
                                 .nic = nic,
                                 .secondary = true};
    Read read;

    read_frame(c, &in, &read);
    return feed_secondary(c, &read);
}
