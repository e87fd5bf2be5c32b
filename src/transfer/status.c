/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>

#include "transfer/status.h"

#include "transfer/transfer_priv.h"

static uint32_t count_nowhere(const struct fetch *fetch)
{
    uint32_t count = 0;
    if (!fetch->metadata || fetch->complete_count > 0) {
        return 0;
    }
    for (uint32_t word = 0; word < fetch->words_count; word++) {
        for (uint64_t bits = fetch->need[word]; bits; bits &= bits - 1) {
            count += fetch->holders[word * 64 + (uint32_t)__builtin_ctzll(bits)] == 0;
        }
    }
    return count;
}

static bool is_asking(const struct fetch *fetch)
{
    for (size_t i = 0; i < fetch->sources_count; i++) {
        if (fetch->sources[i]->is_asked) {
            return true;
        }
    }
    return false;
}

static enum transfer_waits_for waits_for(const struct transfer *transfer, const struct fetch *fetch,
                                         uint32_t nowhere_count)
{
    if (fetch->err == -ENOSPC) {
        return TRANSFER_WAITS_FOR_SPACE;
    }
    switch (fetch->phase) {
    case TRANSFER_QUEUED:
        return TRANSFER_WAITS_FOR_TURN;
    case TRANSFER_OPENING:
    case TRANSFER_COMMITTING:
        return TRANSFER_WAITS_FOR_DISK;
    case TRANSFER_SEEKING:
        return is_asking(fetch) ? TRANSFER_WAITS_FOR_ANSWERS : TRANSFER_WAITS_FOR_HOLDERS;
    case TRANSFER_FETCHING:
        break;
    }
    if (bucket_is_empty(&transfer->limit)) {
        return TRANSFER_WAITS_FOR_RATE;
    }
    if (fetch->flights) {
        return TRANSFER_WAITS_FOR_BLOCKS;
    }
    if (fetch->copying_count > 0) {
        return TRANSFER_WAITS_FOR_DISK;
    }
    if (nowhere_count == fetch->need_count) {
        return is_asking(fetch) ? TRANSFER_WAITS_FOR_ANSWERS : TRANSFER_WAITS_FOR_HOLDERS;
    }
    return TRANSFER_WAITS_FOR_SOURCES;
}

bool transfer_status(const struct transfer *transfer, uint64_t now_us, const struct id *file,
                     struct transfer_status *ret_status)
{
    (void)now_us;
    const struct fetch *fetch = transfer_fetch_find(transfer, file);
    if (!fetch) {
        return false;
    }
    const uint32_t nowhere_count = count_nowhere(fetch);
    *ret_status = (struct transfer_status){
        .phase = fetch->phase,
        .waits_for = waits_for(transfer, fetch, nowhere_count),
        .err = fetch->err,
        .priority = fetch->priority,
        .has_metadata = fetch->metadata != NULL,
        .length_bytes = fetch->metadata ? fetch->metadata->length_bytes : 0,
        .here_bytes = fetch->here_bytes,
        .blocks_count = fetch->blocks_count,
        .blocks_here = fetch->here_count,
        .blocks_on_way = fetch->flights_count,
        .blocks_nowhere = nowhere_count,
        .sources_count = (uint32_t)fetch->sources_count,
        .started_us = fetch->started_us,
        .received_bytes = fetch->received_bytes,
        .duplicate_bytes = fetch->duplicate_bytes,
        .raced_bytes = fetch->raced_bytes,
        .hedged_count = fetch->hedged_count,
        .refused_count = fetch->refused_count,
        .bad_count = fetch->bad_count,
        .rate_bytes_per_s = fetch->rate.per_s,
    };
    return true;
}

void transfer_visit_sources(const struct transfer *transfer, const struct id *file,
                            void (*visit)(void *context, const struct transfer_source *source),
                            void *context)
{
    const struct fetch *fetch = transfer_fetch_find(transfer, file);
    for (size_t i = 0; fetch && i < fetch->sources_count; i++) {
        const struct source *source = fetch->sources[i];
        struct transfer_source told = source->told;
        told.state = source->state;
        told.is_near = source->peer->is_near;
        told.is_answered = source->is_answered;
        told.is_late = source->peer->is_late;
        told.is_shunned = transfer_peer_is_shunned(transfer, source->peer);
        told.rate_bytes_per_s = source->peer->rate.per_s;
        told.waited_us = source->peer->wait_us;
        visit(context, &told);
    }
}

const struct transfer_counters *transfer_counters(struct transfer *transfer)
{
    struct transfer_counters *counters = &transfer->counters;
    counters->fetches_count = HASH_COUNT(transfer->fetches);
    counters->running_count = transfer->running_count;
    counters->on_way_bytes = transfer->on_way_bytes;
    counters->rate_bytes_per_s = transfer->rate.per_s;
    return counters;
}
