/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Looking for sources. The publisher is asked first, if it is known; the index is asked when that
 * does not answer soon, when a file is long enough to be worth more sources, and when something
 * lacks that no source has. What still lacks then is looked for block by block, in rounds: each
 * block once, a bounded number at a time, from where the last round left off; fetches that look for
 * the same block share the search. A fetch ends without success when everybody has denied what
 * lacks, or VAIN_MAX blocks of it, and nothing is on its way. While something is, a new round
 * begins some time after the last one.
 */

#include <errno.h>
#include <stdlib.h>

#include "transfer/transfer_priv.h"

/* A publisher has so long to answer before others are looked for. */
#define PUBLISHER_US (50 * MS)
/* Who does not answer for so long is no source. */
#define ASK_US (3 * SECOND)
/* More sources are looked for at once, if it is at least so long. */
#define LONG_BYTES ((uint64_t)4 * 1024 * 1024)
/* What was looked for in vain is looked for again after so long. */
#define AGAIN_US (10 * SECOND)
/* Nothing came for so long, and nobody has what lacks: given up. */
#define GIVE_UP_US SECOND
#define LOOK_US (100 * MS)
/* After so many blocks looked for in vain the others are not, for a while. */
#define VAIN_MAX TRANSFER_BLOCK_FINDS_MAX
/* While nothing comes, those that others name are waited for so long. */
#define CANDIDATES_US (3 * SECOND)
/* Whoever is said to have all gave nothing for so long: everyone is asked for others. */
#define USELESS_US (5 * SECOND)

static void begin_seek(struct transfer *transfer, struct fetch *fetch, bool everyone)
{
    fetch->seek = SEEK_RUNNING;
    fetch->seek_everyone = everyone;
    fetch->seek_us = transfer->now_us;
    transfer->host.find(transfer->host.context, &fetch->id, false,
                        fetch->has_publisher ? &fetch->publisher : NULL, everyone);
}

/* `is_told`: it is still under way. */
static void end_block_seek(struct transfer *transfer, struct block_seek *seek, bool is_told)
{
    struct block_find *find = seek->find;
    DL_DELETE2(seek->fetch->block_seeks, seek, fetch_prev, fetch_next);
    seek->fetch->block_seeks_count--;
    DL_DELETE(find->seeks, seek);
    free(seek);
    if (find->seeks) {
        return; /* others wait for it */
    }
    HASH_DEL(transfer->block_finds, find);
    if (is_told) {
        transfer->host.find_end(transfer->host.context, &find->id, true);
    }
    free(find);
}

/* All blocks may be looked for again. */
static void begin_round(struct fetch *fetch)
{
    fetch->vain_count = 0;
    if (fetch->sought) {
        memset(fetch->sought, 0, fetch->words_count * sizeof *fetch->sought);
    }
}

void seek_end(struct transfer *transfer, struct fetch *fetch)
{
    if (fetch->seek == SEEK_RUNNING) {
        transfer->host.find_end(transfer->host.context, &fetch->id, false);
    }
    fetch->seek = SEEK_NONE;
    while (fetch->block_seeks) {
        end_block_seek(transfer, fetch->block_seeks, true);
    }
    begin_round(fetch);
}

static void drop_silent(struct transfer *transfer, struct fetch *fetch)
{
    if (transfer->now_us < fetch->silent_us) {
        return;
    }
    fetch->silent_us = transfer->now_us + LOOK_US;
    for (size_t i = fetch->sources_count; i-- > 0;) {
        struct source *source = fetch->sources[i];
        if (source->is_asked && source->asked_us + ASK_US <= transfer->now_us &&
            source->told.on_way == 0) {
            fetch->unasked_count++;
            source_drop(transfer, source);
        }
    }
}

/* All places are taken by those that have something. */
static bool is_crowded(const struct fetch *fetch)
{
    size_t count = 0;
    for (size_t i = 0; i < fetch->sources_count; i++) {
        count += source_is_useful(fetch->sources[i]);
    }
    return count >= TRANSFER_SOURCES_MAX;
}

/* Somebody may still say something. Those that are named by others are many, and come again when
 * they made room for each other: once nothing comes of it they are not waited for. Who was found by
 * a search has been asked by then, and searches for single blocks ask everyone. */
static bool is_asking(const struct transfer *transfer, const struct fetch *fetch)
{
    const uint64_t moved_us = fetch->seek_us > fetch->moved_us ? fetch->seek_us : fetch->moved_us;
    for (size_t i = 0; i < fetch->sources_count; i++) {
        if (fetch->sources[i]->is_asked) {
            return true;
        }
    }
    return fetch->candidates_count > 0 && !is_crowded(fetch) &&
           moved_us + CANDIDATES_US > transfer->now_us;
}

static bool has_holder(const struct transfer *transfer, const struct fetch *fetch)
{
    for (size_t i = 0; i < fetch->sources_count; i++) {
        if (source_may_have_list(transfer, fetch->sources[i])) {
            return true;
        }
    }
    return false;
}

static bool give_up(struct transfer *transfer, struct fetch *fetch)
{
    transfer_fetch_end(transfer, fetch, fetch->unasked_count > 0 ? -EHOSTUNREACH : -ENOENT);
    return true;
}

/* The index, then everyone. True: both were asked and have ended. */
static bool seek_all(struct transfer *transfer, struct fetch *fetch)
{
    if (fetch->seek == SEEK_NONE) {
        begin_seek(transfer, fetch, false);
    } else if (fetch->seek == SEEK_DONE && !is_asking(transfer, fetch)) {
        if (fetch->seek_everyone) {
            return true;
        }
        begin_seek(transfer, fetch, true);
    }
    return false;
}

static bool seek_list(struct transfer *transfer, struct fetch *fetch)
{
    const bool has_publisher =
        fetch->has_publisher && source_find(fetch, &fetch->publisher) != NULL;
    if (has_publisher && fetch->seek == SEEK_NONE &&
        fetch->started_us + PUBLISHER_US > transfer->now_us) {
        transfer_fetch_wake(transfer, fetch, fetch->started_us + PUBLISHER_US);
        return false;
    }
    if (has_holder(transfer, fetch)) {
        return false; /* it is asked for the list */
    }
    return seek_all(transfer, fetch) && give_up(transfer, fetch);
}

/* The first block from `from` on that is to be asked for and that no source has, but for those with
 * a bit in `but` (NULL: none). */
static uint32_t next_nowhere(const struct fetch *fetch, uint32_t from, const uint64_t *but)
{
    for (uint32_t word = from / 64; word < fetch->words_count; word++) {
        uint64_t bits = fetch->need[word] & ~(but ? but[word] : 0);
        if (word == from / 64) {
            bits &= UINT64_MAX << (from % 64);
        }
        for (; bits; bits &= bits - 1) {
            const uint32_t index = word * 64 + (uint32_t)__builtin_ctzll(bits);
            if (fetch->holders[index] == 0) {
                return index;
            }
        }
    }
    return NO_BLOCK;
}

static void seek_block(struct transfer *transfer, struct fetch *fetch, uint32_t index)
{
    const struct id *id = &fetch->metadata->blocks[index].id;
    struct block_seek *seek = mem_alloc(sizeof *seek);
    seek->fetch = fetch;
    seek->index = index;
    DL_APPEND2(fetch->block_seeks, seek, fetch_prev, fetch_next);
    fetch->block_seeks_count++;
    bit_set(fetch->sought, index);
    HASH_FIND(hh, transfer->block_finds, id, sizeof *id, seek->find);
    const bool is_new = !seek->find;
    if (is_new) {
        seek->find = mem_alloc(sizeof *seek->find);
        seek->find->id = *id;
        HASH_ADD(hh, transfer->block_finds, id, sizeof seek->find->id, seek->find);
    }
    DL_APPEND(seek->find->seeks, seek);
    if (is_new) {
        transfer->host.find(transfer->host.context, id, true,
                            fetch->has_publisher ? &fetch->publisher : NULL, false);
    }
}

/* The next one to look for; the list is gone round. */
static uint32_t next_to_seek(struct fetch *fetch)
{
    uint32_t index = next_nowhere(fetch, fetch->seek_next, fetch->sought);
    if (index == NO_BLOCK && fetch->seek_next > 0) {
        index = next_nowhere(fetch, 0, fetch->sought);
    }
    fetch->seek_next = index == NO_BLOCK ? 0 : index + 1;
    return index;
}

/* Blocks that nobody has by way of the file. True: they were looked for in vain, or enough of them,
 * as without these all others are of no use: of a long file that is gone it is known soon. */
static bool seek_blocks(struct transfer *transfer, struct fetch *fetch)
{
    if (!fetch->sought) {
        fetch->sought = mem_alloc_array(most(fetch->words_count, 1), sizeof *fetch->sought);
    }
    while (fetch->vain_count < VAIN_MAX && fetch->block_seeks_count < TRANSFER_BLOCK_FINDS_MAX) {
        if (!source_has_room(transfer, fetch)) {
            return false;
        }
        const uint32_t index = next_to_seek(fetch);
        if (index == NO_BLOCK) {
            break;
        }
        seek_block(transfer, fetch, index);
    }
    return fetch->block_seeks_count == 0;
}

/* Nothing but what nobody has lacks, and nothing is under way. */
static bool is_stuck(const struct transfer *transfer, const struct fetch *fetch)
{
    if (fetch->flights || fetch->copying_count > 0 ||
        fetch->moved_us + GIVE_UP_US > transfer->now_us) {
        return false;
    }
    for (uint32_t word = 0; word < fetch->words_count; word++) {
        for (uint64_t bits = fetch->need[word]; bits; bits &= bits - 1) {
            if (fetch->holders[word * 64 + (uint32_t)__builtin_ctzll(bits)] > 0) {
                return false;
            }
        }
    }
    return true;
}

/* Nothing came for a while, though something may be asked for. */
static bool is_standing(const struct transfer *transfer, const struct fetch *fetch)
{
    return fetch->moved_us + transfer_peer_patience_us(transfer) <= transfer->now_us &&
           (fetch->flights || pick_has_room(transfer, fetch));
}

static bool has_live_source(const struct fetch *fetch)
{
    for (size_t i = 0; i < fetch->sources_count; i++) {
        const struct source *source = fetch->sources[i];
        if (!source->peer->is_late && source_is_useful(source)) {
            return true;
        }
    }
    return false;
}

/* Sources are said to have what lacks, and do not give it: others may. */
static void seek_others(struct transfer *transfer, struct fetch *fetch)
{
    if (!is_standing(transfer, fetch)) {
        return;
    }
    const bool is_urgent =
        !has_live_source(fetch) || fetch->moved_us + USELESS_US <= transfer->now_us;
    if (fetch->seek == SEEK_NONE || is_urgent) {
        (void)seek_all(transfer, fetch);
    }
}

static bool seek_sources(struct transfer *transfer, struct fetch *fetch)
{
    if (fetch->need_count == 0) {
        return false;
    }
    const bool is_long = fetch->metadata->length_bytes >= LONG_BYTES;
    if (fetch->seek == SEEK_NONE && is_long && fetch->sources_count < TRANSFER_SOURCES_MAX / 2) {
        begin_seek(transfer, fetch, false);
    }
    const bool is_somewhere = fetch->complete_count > 0 || next_nowhere(fetch, 0, NULL) == NO_BLOCK;
    const uint64_t sought_us = most(fetch->seek_us, fetch->sought_us);
    if (fetch->seek == SEEK_DONE && sought_us + AGAIN_US <= transfer->now_us &&
        fetch->block_seeks_count == 0 && (!is_somewhere || is_standing(transfer, fetch))) {
        fetch->seek = SEEK_NONE;
        fetch->unasked_count = 0;
        begin_round(fetch);
    }
    if (is_somewhere) {
        seek_others(transfer, fetch);
        return false;
    }
    transfer_fetch_wake(transfer, fetch, transfer->now_us + LOOK_US);
    return seek_all(transfer, fetch) && seek_blocks(transfer, fetch) && is_stuck(transfer, fetch) &&
           give_up(transfer, fetch);
}

bool seek_step(struct transfer *transfer, struct fetch *fetch)
{
    drop_silent(transfer, fetch);
    source_ask_candidates(transfer, fetch);
    if (fetch->phase == TRANSFER_SEEKING) {
        transfer_fetch_wake(transfer, fetch, transfer->now_us + LOOK_US);
        return seek_list(transfer, fetch);
    }
    return fetch->phase == TRANSFER_FETCHING && seek_sources(transfer, fetch);
}

/* Answers. */

/* True: it is over, for this fetch. */
static bool found_block(struct transfer *transfer, const struct block_seek *seek,
                        const struct transfer_holder *holders, size_t holders_count, bool is_final,
                        size_t unasked_count)
{
    struct fetch *fetch = seek->fetch;
    bool is_somewhere = false;
    for (size_t i = 0; i < holders_count; i++) {
        struct source *source = source_find(fetch, &holders[i].node);
        if (!source) {
            source = source_add(transfer, fetch, &holders[i].node, TRANSFER_SOURCES_ALL_MAX);
        }
        if (source && !transfer_peer_is_shunned(transfer, source->peer) &&
            !source_has_denied(source, seek->index)) {
            source_has(source, seek->index);
            is_somewhere = true;
        }
    }
    const bool has_named = is_final && holders_count > 0;
    if (is_somewhere || (has_named && !source_has_room(transfer, fetch))) {
        bit_clear(fetch->sought, seek->index); /* again, should it be nowhere, when there is room */
        return true;
    }
    if (has_named && !seek->find->is_everyone) {
        return false; /* those that are named have refused it, or can't be asked */
    }
    if (is_final) {
        fetch->vain_count++;
        fetch->unasked_count += unasked_count + holders_count;
    }
    return is_final;
}

static void found_by_all(struct transfer *transfer, struct block_find *find,
                         const struct transfer_holder *holders, size_t holders_count, bool is_final,
                         size_t unasked_count)
{
    const struct fetch *left = NULL;
    struct block_seek *seek;
    struct block_seek *next;
    DL_FOREACH_SAFE(find->seeks, seek, next)
    {
        struct fetch *fetch = seek->fetch;
        if (found_block(transfer, seek, holders, holders_count, is_final, unasked_count)) {
            fetch->sought_us = transfer->now_us;
            end_block_seek(transfer, seek, !is_final);
        } else {
            left = fetch;
        }
        transfer_fetch_ready(transfer, fetch);
    }
    if (left && is_final) { /* so there is still somebody in `find` */
        find->is_everyone = true;
        transfer->host.find(transfer->host.context, &find->id, true,
                            left->has_publisher ? &left->publisher : NULL, true);
    }
}

static void found_file(struct transfer *transfer, struct fetch *fetch,
                       const struct transfer_holder *holders, size_t holders_count, bool is_final,
                       size_t unasked_count)
{
    for (size_t i = 0; i < holders_count; i++) {
        source_add_candidate(transfer, fetch, &holders[i].node,
                             holders[i].state == TRANSFER_COMPLETE);
    }
    if (is_final) {
        fetch->seek = SEEK_DONE;
        fetch->seek_us = transfer->now_us;
        fetch->unasked_count += unasked_count;
    }
    transfer_fetch_ready(transfer, fetch);
}

void transfer_found(struct transfer *transfer, uint64_t now_us, const struct id *id, bool is_block,
                    const struct transfer_holder *holders, size_t holders_count, bool is_final,
                    size_t unasked_count)
{
    transfer->now_us = now_us;
    struct block_find *find = NULL;
    struct fetch *fetch = NULL;
    if (is_block) {
        HASH_FIND(hh, transfer->block_finds, id, sizeof *id, find);
    } else {
        fetch = transfer_fetch_find(transfer, id);
    }
    if (find) {
        found_by_all(transfer, find, holders, holders_count, is_final, unasked_count);
    } else if (fetch && fetch->seek == SEEK_RUNNING) {
        found_file(transfer, fetch, holders, holders_count, is_final, unasked_count);
    }
}
