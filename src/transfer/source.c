/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Who is asked for a file. Candidates are heard of: the publisher, what the index says, the members
 * named in offers and refusals, whoever asks us. As many of them as there is room for are asked
 * what they have, and tell how it grows; they are the sources then. A source that has nothing that
 * lacks here makes room for another.
 */

#include <stdlib.h>

#include "transfer/transfer_priv.h"

/* A list of blocks is asked of one at a time, and of another after so long. */
#define METADATA_US (300 * MS)
/* An answer that said "nothing" is doubted after so long, if somebody says otherwise. */
#define ASK_AGAIN_US (200 * MS)
/* A source that has nothing for us now may have something soon; so long it keeps its place. */
#define SETTLED_US SECOND
/* One makes room for another so often. */
#define REPLACE_US (100 * MS)
/* While nothing comes. */
#define REPLACE_IDLE_US (5 * MS)
/* One whose stream was lost is asked again so often, after so long, longer each time. */
#define TRIES_MAX 3u
#define TRY_AGAIN_US (300 * MS)
/* Who says that it has a block and refuses it as not there may have lost and got it again; so often
 * it is believed. */
#define DENIALS_MAX 3u

struct source *source_find(const struct fetch *fetch, const struct node_id *node)
{
    const uint64_t key = codec_get_be64(node->bytes);
    for (size_t i = 0; i < fetch->sources_count; i++) {
        if (fetch->source_keys[i] == key && node_id_equal(&fetch->sources[i]->peer->id, node)) {
            return fetch->sources[i];
        }
    }
    return NULL;
}

bool source_knows(const struct source *source, uint32_t index)
{
    return source->state == TRANSFER_COMPLETE ||
           (index / 64 < source->have_words && bit_get(source->have, index));
}

static uint64_t lacking_word(const struct fetch *fetch, uint32_t word)
{
    const uint32_t left = fetch->blocks_count - word * 64;
    const uint64_t all = left >= 64 ? UINT64_MAX : (UINT64_C(1) << left) - 1;
    return all & ~fetch->here[word];
}

bool source_is_useful(const struct source *source)
{
    const struct fetch *fetch = source->fetch;
    if (source->state == TRANSFER_COMPLETE || !fetch->metadata) {
        return source->state != TRANSFER_NONE;
    }
    for (uint32_t i = 0; i < source->have_words && i < fetch->words_count; i++) {
        if (source->have[i] & lacking_word(fetch, i)) {
            return true;
        }
    }
    return false;
}

/* Nothing comes; whoever is left to be asked should be soon. */
static bool is_idle(const struct fetch *fetch)
{
    return !fetch->flights && fetch->complete_count == 0;
}

/* One that is of no use, and was not only just asked, the least hopeful first; NULL: there is none.
 */
static struct source *find_useless(const struct transfer *transfer, const struct fetch *fetch)
{
    struct source *useless = NULL;
    for (size_t i = 0; i < fetch->sources_count; i++) {
        struct source *source = fetch->sources[i];
        if (source->is_asked || source->told.on_way > 0) {
            continue;
        }
        const bool is_denial = source->is_answered && source->state == TRANSFER_NONE;
        if (source->asked_us + SETTLED_US > transfer->now_us && source->asked_us > 0 &&
            !(is_denial && is_idle(fetch))) {
            continue;
        }
        if (source->state == TRANSFER_NONE || transfer_peer_is_shunned(transfer, source->peer)) {
            return source;
        }
        if (!useless && !source_is_useful(source)) {
            useless = source;
        }
    }
    return useless;
}

bool source_has_room(const struct transfer *transfer, const struct fetch *fetch)
{
    return fetch->sources_count < TRANSFER_SOURCES_ALL_MAX || find_useless(transfer, fetch);
}

struct source *source_add(struct transfer *transfer, struct fetch *fetch,
                          const struct node_id *node, size_t sources_max)
{
    CHECK(!source_find(fetch, node));
    struct peer *peer = transfer_peer_take(transfer, node);
    if (!peer) {
        return NULL;
    }
    if (fetch->sources_count >= sources_max) {
        struct source *useless = find_useless(transfer, fetch);
        if (!useless || fetch->sources_count > sources_max) {
            transfer_peer_unuse(transfer, peer);
            return NULL;
        }
        source_drop(transfer, useless);
    }
    struct source *source = mem_alloc(sizeof *source);
    source->peer = peer;
    source->fetch = fetch;
    source->place = (uint32_t)fetch->sources_count;
    source->told.node = *node;
    const struct request *request;
    DL_FOREACH(peer->requests, request)
    {
        source->told.on_way += request->fetch == fetch ? request->left_count : 0;
    }
    peer->sources_count++;
    if (fetch->sources_count == fetch->sources_capacity) {
        fetch->sources_capacity = fetch->sources_capacity > 0 ? 2 * fetch->sources_capacity : 4;
        fetch->sources = (struct source **)mem_resize_array(
            (void *)fetch->sources, fetch->sources_capacity, sizeof(struct source *));
        fetch->source_keys = mem_resize_array(fetch->source_keys, fetch->sources_capacity,
                                              sizeof *fetch->source_keys);
        fetch->source_dry =
            mem_resize_array(fetch->source_dry, fetch->sources_capacity, sizeof *fetch->source_dry);
    }
    fetch->source_keys[fetch->sources_count] = codec_get_be64(node->bytes);
    fetch->source_dry[fetch->sources_count] = 0;
    fetch->sources[fetch->sources_count++] = source;
    return source;
}

/* Somebody said that it has something, and it can't be asked: it is not said that nobody does. Who
 * is no member any more has nothing. */
static void note_unasked(const struct transfer *transfer, struct fetch *fetch,
                         const struct node_id *node)
{
    fetch->unasked_count += member_find(transfer, node) != NULL;
}

static void forget_blocks(struct source *source)
{
    struct fetch *fetch = source->fetch;
    if (!fetch->metadata) {
        return;
    }
    if (source->state == TRANSFER_COMPLETE) {
        fetch->complete_count--;
        return;
    }
    for (uint32_t i = 0; i < source->have_words; i++) {
        for (uint64_t bits = source->have[i]; bits; bits &= bits - 1) {
            fetch->holders[i * 64 + (uint32_t)__builtin_ctzll(bits)]--;
        }
    }
}

void source_distrust(struct source *source)
{
    forget_blocks(source);
    free(source->have);
    source->have = NULL;
    source->have_words = 0;
    source->state = TRANSFER_NONE;
}

void source_drop(struct transfer *transfer, struct source *source)
{
    struct fetch *fetch = source->fetch;
    struct peer *peer = source->peer;
    if (source->is_asked) {
        HASH_DEL(transfer->asks, source);
    }
    if (source->is_following && peer->is_alive) {
        transfer->host.stop(transfer->host.context, &peer->id, &fetch->id);
    }
    forget_blocks(source);
    const size_t last = --fetch->sources_count;
    fetch->sources[source->place] = fetch->sources[last];
    fetch->sources[source->place]->place = source->place;
    fetch->source_keys[source->place] = fetch->source_keys[last];
    fetch->source_dry[source->place] = fetch->source_dry[last];
    free(source->have);
    free(source->denials);
    free(source->given);
    free(source);
    peer->sources_count--;
    transfer_peer_unuse(transfer, peer);
}

/* Nobody is being asked for the list of blocks who may still answer. */
static bool wants_metadata(const struct transfer *transfer, const struct fetch *fetch)
{
    if (fetch->metadata || fetch->phase != TRANSFER_SEEKING) {
        return false;
    }
    for (size_t i = 0; i < fetch->sources_count; i++) {
        const struct source *source = fetch->sources[i];
        if (source->is_asked && source->asked_metadata &&
            source->asked_us + METADATA_US > transfer->now_us) {
            return false;
        }
    }
    return true;
}

bool source_may_have_list(const struct transfer *transfer, const struct source *source)
{
    return source->state != TRANSFER_NONE && !source->has_no_list &&
           !transfer_peer_is_shunned(transfer, source->peer);
}

void source_ask(struct transfer *transfer, struct source *source)
{
    struct fetch *fetch = source->fetch;
    if (source->is_asked || transfer_peer_is_shunned(transfer, source->peer)) {
        return;
    }
    source->asked_metadata = wants_metadata(transfer, fetch);
    source->is_asked = true;
    source->is_following = true;
    source->asked_us = transfer->now_us;
    source->ask_number = transfer->next_number++;
    HASH_ADD(hh, transfer->asks, ask_number, sizeof source->ask_number, source);
    const uint8_t flags = TRANSFER_ASK_GROWTH | TRANSFER_ASK_FETCHING |
                          (source->asked_metadata ? TRANSFER_ASK_METADATA : 0);
    transfer->host.ask(transfer->host.context, &source->peer->id, source->ask_number, flags,
                       &fetch->id);
    transfer_fetch_wake(transfer, fetch, transfer->now_us + METADATA_US);
}

static struct candidate *find_candidate(const struct fetch *fetch, const struct node_id *node)
{
    for (size_t i = 0; i < fetch->candidates_count; i++) {
        if (node_id_equal(&fetch->candidates[i].node, node)) {
            return &fetch->candidates[i];
        }
    }
    return NULL;
}

void source_add_candidate(struct transfer *transfer, struct fetch *fetch,
                          const struct node_id *node, bool is_complete)
{
    struct source *source = source_find(fetch, node);
    if (source) {
        if (transfer_peer_is_shunned(transfer, source->peer)) {
            note_unasked(transfer, fetch, node);
        } else if (source->state == TRANSFER_NONE && source->is_answered &&
                   source->asked_us + ASK_AGAIN_US <= transfer->now_us) {
            source_ask(transfer, source);
        }
        return;
    }
    struct candidate *candidate = find_candidate(fetch, node);
    if (candidate) {
        candidate->is_complete |= is_complete;
        return;
    }
    if (node_id_equal(node, &transfer->id)) {
        return;
    }
    size_t at = fetch->candidates_count;
    if (at == TRANSFER_CANDIDATES_MAX) {
        at = random_below(&transfer->random, at);
        note_unasked(transfer, fetch, &fetch->candidates[at].node);
    } else if (at == fetch->candidates_capacity) {
        fetch->candidates_capacity = at > 0 ? 2 * at : 4;
        fetch->candidates = mem_resize_array(fetch->candidates, fetch->candidates_capacity,
                                             sizeof *fetch->candidates);
    }
    fetch->candidates_count += at == fetch->candidates_count;
    fetch->candidates[at] = (struct candidate){.node = *node, .is_complete = is_complete};
    transfer_fetch_ready(transfer, fetch);
}

/* One that may be asked now: that has all of it, or any. False: there is none. */
static bool take_candidate(struct transfer *transfer, struct fetch *fetch,
                           struct candidate *ret_candidate)
{
    const size_t count = fetch->candidates_count;
    const size_t first = count > 0 ? random_below(&transfer->random, count) : 0;
    size_t best = count;
    for (size_t i = 0; i < count; i++) {
        const size_t at = (first + i) % count;
        const struct candidate *candidate = &fetch->candidates[at];
        if (candidate->after_us > transfer->now_us) {
            transfer_fetch_wake(transfer, fetch, candidate->after_us);
        } else if (candidate->is_complete || best == count) {
            best = at;
            if (candidate->is_complete) {
                break;
            }
        }
    }
    if (best == count) {
        return false;
    }
    *ret_candidate = fetch->candidates[best];
    fetch->candidates[best] = fetch->candidates[--fetch->candidates_count];
    return true;
}

void source_lost(struct transfer *transfer, struct source *source)
{
    struct fetch *fetch = source->fetch;
    const struct node_id node = source->peer->id;
    const bool is_complete = source->state == TRANSFER_COMPLETE;
    const unsigned tries = source->tries + 1;
    source_drop(transfer, source);
    if (tries > TRIES_MAX || fetch->candidates_count == TRANSFER_CANDIDATES_MAX) {
        note_unasked(transfer, fetch, &node);
        return;
    }
    source_add_candidate(transfer, fetch, &node, is_complete);
    struct candidate *candidate = find_candidate(fetch, &node);
    if (candidate) {
        candidate->tries = tries;
        candidate->after_us = transfer->now_us + TRY_AGAIN_US * tries;
    }
}

static bool may_add(struct transfer *transfer, struct fetch *fetch)
{
    if (fetch->sources_count < TRANSFER_SOURCES_MAX) {
        return true;
    }
    const uint64_t next_us = fetch->replaced_us + (is_idle(fetch) ? REPLACE_IDLE_US : REPLACE_US);
    if (next_us > transfer->now_us) {
        transfer_fetch_wake(transfer, fetch, next_us);
        return false;
    }
    fetch->replaced_us = transfer->now_us;
    return find_useless(transfer, fetch) != NULL;
}

/* A single small block comes from one who has it. Who else there is does not matter, until that
 * one is late or busy, or sends us to others: four who fetch a directory of small files would ask
 * each other about each of them. */
static bool is_served(const struct transfer *transfer, const struct fetch *fetch)
{
    if (!fetch->metadata || fetch->blocks_count != 1 ||
        fetch->block_bytes_max >= TRANSFER_BATCHED_BYTES_MAX || fetch->refused_count > 0 ||
        fetch->hedged_count > 0) {
        return false;
    }
    for (size_t i = 0; i < fetch->sources_count; i++) {
        const struct source *source = fetch->sources[i];
        const struct peer *peer = source->peer;
        if (source->state == TRANSFER_COMPLETE && !peer->is_late &&
            peer->busy_until_us <= transfer->now_us && !transfer_peer_is_shunned(transfer, peer)) {
            return true;
        }
    }
    return false;
}

void source_ask_candidates(struct transfer *transfer, struct fetch *fetch)
{
    if (is_served(transfer, fetch)) {
        return;
    }
    struct candidate candidate;
    while (fetch->candidates_count > 0 && may_add(transfer, fetch) &&
           take_candidate(transfer, fetch, &candidate)) {
        if (source_find(fetch, &candidate.node)) {
            continue; /* it asked us meanwhile, or has a block that was looked for */
        }
        struct source *source = source_add(transfer, fetch, &candidate.node,
                                           most(TRANSFER_SOURCES_MAX, fetch->sources_count));
        if (source) {
            source->tries = candidate.tries;
            source_ask(transfer, source);
        } else {
            note_unasked(transfer, fetch, &candidate.node);
        }
    }
    if (!wants_metadata(transfer, fetch)) {
        return;
    }
    for (size_t i = 0; i < fetch->sources_count; i++) {
        struct source *source = fetch->sources[i];
        if (!source->is_asked && source_may_have_list(transfer, source)) {
            source_ask(transfer, source);
            return;
        }
    }
}

/* What it has. */

static void grow(struct source *source, uint32_t words)
{
    if (words <= source->have_words) {
        return;
    }
    source->have = mem_resize_array(source->have, words, sizeof *source->have);
    memset(source->have + source->have_words, 0,
           (words - source->have_words) * sizeof *source->have);
    source->have_words = words;
}

static bool is_denied(const struct source *source, uint32_t index)
{
    return source->denials && index < source->fetch->blocks_count &&
           source->denials[index] >= DENIALS_MAX;
}

void source_has(struct source *source, uint32_t index)
{
    struct fetch *fetch = source->fetch;
    if (source->state == TRANSFER_COMPLETE || is_denied(source, index) ||
        index >= (fetch->metadata ? fetch->blocks_count : FILE_METADATA_BLOCKS_MAX)) {
        return;
    }
    source->state = TRANSFER_PARTIAL;
    grow(source, fetch->metadata ? fetch->words_count : index / 64 + 1);
    if (bit_get(source->have, index)) {
        return;
    }
    bit_set(source->have, index);
    source->fetch->source_dry[source->place] = 0;
    if (fetch->metadata) {
        fetch->holders[index]++;
    }
}

static void become_complete(struct source *source)
{
    if (source->state == TRANSFER_COMPLETE) {
        return;
    }
    forget_blocks(source);
    free(source->have);
    source->have = NULL;
    source->have_words = 0;
    source->state = TRANSFER_COMPLETE;
    source->fetch->source_dry[source->place] = 0;
    source->fetch->complete_count += source->fetch->metadata != NULL;
}

void source_has_not(struct source *source, uint32_t index)
{
    struct fetch *fetch = source->fetch;
    if (!fetch->metadata || index >= fetch->blocks_count) {
        return;
    }
    if (source->state == TRANSFER_COMPLETE) {
        fetch->complete_count--;
        source->state = TRANSFER_PARTIAL;
        for (uint32_t i = 0; i < fetch->blocks_count; i++) {
            source_has(source, i);
        }
    }
    if (source_knows(source, index)) {
        bit_clear(source->have, index);
        fetch->holders[index]--;
    }
}

bool source_has_denied(const struct source *source, uint32_t index)
{
    return source->denials && source->denials[index] > 0;
}

bool source_denies(struct source *source, uint32_t index)
{
    if (!source->denials) {
        source->denials = mem_alloc_array(source->fetch->blocks_count, sizeof *source->denials);
    }
    if (source->denials[index] < DENIALS_MAX) {
        source->denials[index]++;
    }
    source_has_not(source, index);
    return source->denials[index] == DENIALS_MAX;
}

void source_sized(struct source *source)
{
    struct fetch *fetch = source->fetch;
    if (source->state == TRANSFER_COMPLETE) {
        fetch->complete_count++;
        return;
    }
    uint64_t *told = source->have;
    const uint32_t told_words = source->have_words;
    source->have = NULL;
    source->have_words = 0;
    for (uint32_t i = 0; i < told_words; i++) {
        for (uint64_t bits = told[i]; bits; bits &= bits - 1) {
            source_has(source, i * 64 + (uint32_t)__builtin_ctzll(bits));
        }
    }
    free(told);
}

/* What it says. */

static void take_have(struct source *source, struct bytes have)
{
    const size_t bytes_max = (FILE_METADATA_BLOCKS_MAX + 7) / 8;
    const size_t count = have.size < bytes_max ? have.size : bytes_max;
    for (size_t i = 0; i < count; i++) {
        for (unsigned bits = have.data[i]; bits; bits &= bits - 1) {
            source_has(source, (uint32_t)(i * 8) + (uint32_t)__builtin_ctz(bits));
        }
    }
}

void transfer_offered(struct transfer *transfer, uint64_t now_us, const struct node_id *node,
                      uint32_t number, const struct transfer_offer *offer)
{
    transfer->now_us = now_us;
    struct source *source;
    HASH_FIND(hh, transfer->asks, &number, sizeof number, source);
    if (!source || !node_id_equal(&source->peer->id, node)) {
        return;
    }
    struct fetch *fetch = source->fetch;
    HASH_DEL(transfer->asks, source);
    source->is_asked = false;
    source->is_answered = true;
    source->tries = 0;
    transfer_peer_is_heard(transfer, source->peer);
    if (transfer_peer_is_shunned(transfer, source->peer)) {
        transfer_fetch_ready(transfer, fetch);
        return;
    }
    if (offer->state == TRANSFER_COMPLETE) {
        become_complete(source);
        source->is_following = false; /* there is nothing to tell */
    } else if (offer->state == TRANSFER_PARTIAL) {
        source->state = source->state == TRANSFER_NONE ? TRANSFER_PARTIAL : source->state;
        take_have(source, offer->have);
    }
    const bool is_listless = source->asked_metadata && offer->metadata_text.size == 0;
    if (is_listless && source->state != TRANSFER_NONE && !source->has_no_list) {
        source->has_no_list = true; /* it says that it has some of the file: not asked again */
        note_unasked(transfer, fetch, node);
    }
    for (size_t i = 0; i < offer->others_count && i < TRANSFER_NAMED_MAX; i++) {
        source_add_candidate(transfer, fetch, &offer->others[i], false);
    }
    if (fetch->phase == TRANSFER_SEEKING && !fetch->metadata && offer->metadata_text.size > 0) {
        fetch->phase = TRANSFER_OPENING;
        fetch->metadata_from = *node;
        fetch->has_metadata_from = true;
        transfer->host.open(transfer->host.context, &fetch->id, offer->metadata_text);
    }
    transfer_fetch_ready(transfer, fetch);
}

void transfer_more(struct transfer *transfer, uint64_t now_us, const struct node_id *node,
                   const struct id *file, const uint32_t *indices, size_t indices_count)
{
    transfer->now_us = now_us;
    struct fetch *fetch = transfer_fetch_find(transfer, file);
    struct source *source = fetch ? source_find(fetch, node) : NULL;
    if (!source || transfer_peer_is_shunned(transfer, source->peer)) {
        return;
    }
    for (size_t i = 0; i < indices_count; i++) {
        source_has(source, indices[i]);
    }
    /* With enough on its way it makes no difference yet. */
    if (!fetch->metadata || pick_has_room(transfer, fetch)) {
        transfer_fetch_ready_soon(transfer, fetch);
    }
}

void transfer_asked(struct transfer *transfer, uint64_t now_us, const struct node_id *node,
                    const struct id *file)
{
    transfer->now_us = now_us;
    struct fetch *fetch = transfer_fetch_find(transfer, file);
    if (!fetch || fetch->phase == TRANSFER_QUEUED) {
        return;
    }
    struct source *source = source_find(fetch, node);
    if (!source) {
        source = source_add(transfer, fetch, node, TRANSFER_SOURCES_ALL_MAX);
        if (source) {
            source_ask(transfer, source);
        }
    } else if (source->state == TRANSFER_NONE && source->is_answered &&
               source->asked_us + ASK_AGAIN_US <= now_us) {
        source_ask(transfer, source);
    }
}
