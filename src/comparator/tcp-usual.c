/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The short way of a usual segment through the rules of tcp-stream.c and tcp-ack.c. */
#include "comparator/tcp.h"

/* colo_tcp_note_primary() for a segment that is no SYN, in an epoch that is not new. */
bool colo_tcp_usual_primary(ColoFlow *flow, const ColoFrameUsual *usual, uint64_t epoch)
{
    ColoTcpPrimary *newest = &flow->newest;

    if (!newest->valid || !newest->ack_valid || newest->epoch != epoch || flow->diverged ||
        flow->stream.first || flow->secondary.fin || flow->secondary.reset ||
        usual->payload_len == 0 || !flow->released.valid)
        return false;
    /* What comes after a held frame waits in any case; the first one as in colo_tcp_waits(). */
    if (flow->primary.first ? flow->primary.last->synthetic : flow->released.high != usual->seq)
        return false;
    if (colo_tcp_ack_grows(newest->ack, usual->ack))
        newest->ack = usual->ack;
    colo_tcp_note_primary_offer(flow, usual->ack, usual->window);
    return true;
}

bool colo_tcp_usual_twin(ColoFlow *flow, const uint8_t *frame, size_t vnet,
                         const ColoFrameUsual *usual, uint64_t epoch)
{
    ColoTcpSecondary *secondary = &flow->secondary;
    ColoTcpReleased *released = &flow->released;
    const ColoSlot *held = flow->primary.first;
    const ColoFrameInfo *info;
    ColoEnvelope envelope;
    uint32_t end = usual->seq + usual->payload_len, ack, edge, offer;

    if (!held || !held->usual || held->uncompared || held->matched || flow->diverged ||
        flow->stream.first || usual->payload_len == 0)
        return false;
    info = &held->info;
    /* In order, in the same epoch of the same connection, and nothing unusual was said before. */
    if (info->seq != usual->seq || info->payload_len != usual->payload_len || !released->valid ||
        !released->ack_valid || released->fin || released->high != usual->seq ||
        held->epoch != epoch || secondary->epoch != epoch ||
        secondary->incarnation != held->incarnation || !secondary->span_valid ||
        !secondary->ack_valid || secondary->fin || secondary->reset ||
        colo_seq_before(usual->seq, secondary->low))
        return false;
    /* The limit of colo_tcp_plan_ack() is the secondary's newest word, and within reach. */
    ack = colo_tcp_ack_grows(secondary->ack, usual->ack) ? usual->ack : secondary->ack;
    if (!colo_tcp_ack_grows(info->ack - 1, ack) || !colo_tcp_ack_grows(released->ack - 1, ack) ||
        (flow->base.ack_valid && !colo_tcp_ack_grows(flow->base.ack - 1, ack)))
        return false;
    /* And its window needs no narrowing. */
    edge = info->ack + ((uint32_t)info->window << released->scale);
    offer = usual->ack + ((uint32_t)usual->window << released->scale);
    if (released->scale_known &&
        (!released->edge_valid || (colo_seq_before(released->edge, edge) &&
                                   (usual->ack != ack || colo_seq_before(offer, edge)))))
        return false;
    colo_frame_usual_envelope(frame, vnet, &envelope);
    if (!colo_envelope_equal(&info->envelope, &envelope) ||
        memcmp(held->data + info->payload_at, frame + usual->payload_at, usual->payload_len) != 0)
        return false;

    secondary->envelope = envelope;
    colo_tcp_note_offer(secondary, usual->ack, usual->window, false);
    if (colo_seq_before(secondary->high, end))
        secondary->high = end;

    released->high = end;
    if (end - released->low > COLO_TCP_WINDOW_MAX)
        released->low = end - COLO_TCP_WINDOW_MAX;
    released->envelope = envelope;
    released->envelope_valid = true;
    colo_tcp_note_edge(released, info->ack, info->window, edge);
    flow->scan = NULL;
    return true;
}
