/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Blocks of an intake on their way in. Many threads hash and write at once, into ranges of their
 * own; what they have written gathers in a list that goes to the writer as one job. Until that job
 * is done the arrivals (arrivals_priv.h) let others read the blocks.
 *
 * A block that is here when an intake needs it is *counted*: it gets one more holder for
 * INTAKE_REASON, and so it stays. The counts move to the reason of the file with the commit, and
 * go with the drop.
 */

#include "store/intake_priv.h"

#include <stdlib.h>

#include "base/err.h"
#include "base/mem.h"
#include "hash/sha256.h"
#include "store/fetches_priv.h"
#include "store/index_priv.h"
#include "store/pins_priv.h"
#include "store/store_priv.h"
#include "store/writer_priv.h"

/* Small blocks are many; each costs the writer about as much as a large one. */
#define FLUSH_BLOCKS 4096

struct intakes {
    pthread_mutex_t lock;
    struct store_intake *open;
};

struct intakes *intakes_new(void)
{
    struct intakes *intakes = mem_alloc(sizeof *intakes);
    pthread_mutex_init(&intakes->lock, NULL);
    return intakes;
}

void intakes_free(struct intakes *intakes)
{
    if (!intakes) {
        return;
    }
    CHECK(!intakes->open);
    pthread_mutex_destroy(&intakes->lock);
    free(intakes);
}

int intakes_add(struct intakes *intakes, struct store_intake *intake)
{
    const struct store_intake *other = NULL;
    pthread_mutex_lock(&intakes->lock);
    HASH_FIND(hh, intakes->open, &intake->id, sizeof intake->id, other);
    if (!other) {
        HASH_ADD(hh, intakes->open, id, sizeof intake->id, intake);
    }
    pthread_mutex_unlock(&intakes->lock);
    return other ? -EBUSY : 0;
}

void intakes_remove(struct intakes *intakes, struct store_intake *intake)
{
    pthread_mutex_lock(&intakes->lock);
    HASH_DEL(intakes->open, intake);
    pthread_mutex_unlock(&intakes->lock);
}

void arrival_list_add(struct arrival_list *list, struct arrival *arrival)
{
    if (list->count == list->capacity) {
        list->capacity = list->capacity ? 2 * list->capacity : 16;
        list->items = mem_resize_array(list->items, list->capacity, sizeof(struct arrival *));
    }
    list->items[list->count++] = arrival;
    list->bytes += arrival->block ? arrival->block->size_bytes : 0;
}

void arrival_list_settle(struct store *store, struct arrival_list *list)
{
    for (size_t i = 0; i < list->count; i++) {
        struct arrival *arrival = list->items[i];
        if (arrival->block && !arrival->is_spare) {
            arrivals_remove(store->arrivals, arrival);
        }
        if (arrival->block) {
            segments_settle(store->segments, &arrival->block->reservation);
        } else {
            pins_drop(store->pins, &arrival->id);
        }
        free(arrival->block);
        free(arrival);
    }
    free(list->items);
    *list = (struct arrival_list){0};
}

static int compare_blocks(const void *a, const void *b, void *context)
{
    const struct block_ref *blocks = context;
    const uint32_t *first = a;
    const uint32_t *second = b;
    const int order = memcmp(blocks[*first].id.bytes, blocks[*second].id.bytes, ID_BYTES);
    return order ? order : (*first > *second) - (*first < *second);
}

const uint32_t *intake_indices(const struct store_intake *intake, const struct id *id,
                               size_t *ret_count)
{
    const struct block_ref *blocks = intake->metadata.blocks;
    size_t low = 0;
    size_t high = intake->metadata.blocks_count;
    while (low < high) {
        const size_t middle = low + (high - low) / 2;
        if (memcmp(blocks[intake->order[middle]].id.bytes, id->bytes, ID_BYTES) < 0) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    size_t end = low;
    while (end < intake->metadata.blocks_count && id_equal(&blocks[intake->order[end]].id, id)) {
        end++;
    }
    *ret_count = end - low;
    return intake->order + low;
}

void intake_set_have(struct store_intake *intake, const struct id *id)
{
    size_t count = 0;
    const uint32_t *indices = intake_indices(intake, id, &count);
    for (size_t i = 0; i < count; i++) {
        if (!bit_is_set(intake->have, indices[i])) {
            bit_set(intake->have, indices[i]);
            intake->progress.blocks_count++;
            intake->progress.here_bytes += intake->metadata.blocks[indices[i]].size_bytes;
        }
    }
}

void intake_free(struct store_intake *intake)
{
    pthread_cond_destroy(&intake->flushed);
    pthread_mutex_destroy(&intake->lock);
    file_metadata_done(&intake->metadata);
    free(intake->order);
    free(intake->have);
    free(intake);
}

static struct store_intake *new_intake(struct store *store, const struct file_metadata *metadata,
                                       enum store_reason reason)
{
    struct store_intake *intake = mem_alloc(sizeof *intake);
    intake->store = store;
    intake->reason = reason;
    intake->flushed_ms = store_now_ms(store);
    pthread_mutex_init(&intake->lock, NULL);
    pthread_cond_init(&intake->flushed, NULL);
    const size_t count = metadata->blocks_count;
    intake->order = mem_alloc_array(count + 1, sizeof *intake->order);
    intake->have = mem_alloc(STORE_INTAKE_HAVE_BYTES(count) + 1);
    intake->metadata.length_bytes = metadata->length_bytes;
    intake->metadata.blocks = mem_alloc_array(count + 1, sizeof(struct block_ref));
    intake->metadata.blocks_count = count;
    intake->metadata.blocks_capacity = count + 1;
    for (size_t i = 0; i < count; i++) {
        intake->metadata.blocks[i] = metadata->blocks[i];
        intake->order[i] = (uint32_t)i;
    }
    qsort_r(intake->order, count, sizeof *intake->order, compare_blocks, intake->metadata.blocks);
    file_metadata_id(&intake->metadata, &intake->id);
    return intake;
}

int store_intake_open(struct store *store, const struct file_metadata *metadata,
                      enum store_reason reason, struct store_intake **ret_intake)
{
    if (!store->writer) {
        return -EROFS;
    }
    if (writer_has_failed(store->writer)) {
        return -ENOTRECOVERABLE;
    }
    struct store_intake *intake = new_intake(store, metadata, reason);
    int err = intakes_add(store->intakes, intake);
    if (err) {
        intake_free(intake);
        return err;
    }
    size_t part = 0;
    do {
        err = intake_open_part(intake, part);
        part++;
    } while (!err && part * FETCH_PART_BLOCKS < metadata->blocks_count);
    if (err) {
        intakes_remove(store->intakes, intake);
        intake_free(intake);
        return err;
    }
    *ret_intake = intake;
    return 0;
}

const struct id *store_intake_id(const struct store_intake *intake)
{
    return &intake->id;
}

const struct file_metadata *store_intake_metadata(const struct store_intake *intake)
{
    return &intake->metadata;
}

void store_intake_have(struct store_intake *intake, uint8_t *ret_have)
{
    pthread_mutex_lock(&intake->lock);
    memcpy(ret_have, intake->have, STORE_INTAKE_HAVE_BYTES(intake->metadata.blocks_count));
    pthread_mutex_unlock(&intake->lock);
}

void store_intake_progress(struct store_intake *intake, struct store_intake_progress *ret_progress)
{
    pthread_mutex_lock(&intake->lock);
    *ret_progress = intake->progress;
    pthread_mutex_unlock(&intake->lock);
}

/* True if the block is in the index with a place. */
static int is_indexed(const struct store_intake *intake, const struct id *id, bool *ret_is)
{
    CLEANUP(kv_abort) struct kv_txn *txn = NULL;
    const int err = kv_read(intake->store->kv, &txn);
    if (err) {
        return err;
    }
    struct block_record record;
    return intake_is_here(intake, txn, id, &record, ret_is);
}

/* Writes the block. `arrival` is for the list of what is pending even after an error, if it has
 * got a range then. */
static int write_block(struct store *store, struct arrival *arrival, struct bytes bytes)
{
    const uint32_t size = (uint32_t)bytes.size;
    struct new_block *block = mem_alloc(sizeof *block + sizeof(uint32_t) * block_spans(size));
    block->id = arrival->id;
    block->size_bytes = size;
    block_crcs(bytes, block->crcs);
    int err = segments_reserve(store->segments, size, &block->reservation);
    if (err) {
        free(block);
        return err;
    }
    block->written = true;
    arrival->block = block;
    err = segments_write(store->segments, &block->reservation, bytes);
    arrival->is_spare = err != 0;
    return err;
}

/* Takes over the arrival; flushes if that is due. */
static void take(struct store_intake *intake, struct arrival *arrival, uint32_t index)
{
    struct store *store = intake->store;
    pthread_mutex_lock(&intake->lock);
    if (bit_is_set(intake->have, index)) {
        /* Another thread was faster. */
        arrival->is_spare = true;
    }
    if (!arrival->is_spare) {
        if (arrival->block) {
            arrivals_add(store->arrivals, arrival);
        }
        intake_set_have(intake, &arrival->id);
    }
    arrival_list_add(&intake->pending, arrival);
    const bool is_due = intake->pending.bytes >= STORE_INTAKE_FLUSH_BYTES ||
                        intake->pending.count >= FLUSH_BLOCKS ||
                        store_now_ms(store) - intake->flushed_ms >= STORE_INTAKE_FLUSH_MS;
    pthread_mutex_unlock(&intake->lock);
    if (is_due) {
        intake_flush_async(intake);
    }
}

/* Waits while too much is under way. After a failed flush the next one has to succeed first: else
 * there would be no end to what is pending. *ret_is_here: nothing is left to do. */
static int begin_block(struct store_intake *intake, uint32_t index, bool *ret_is_here)
{
    pthread_mutex_lock(&intake->lock);
    while (intake->flushes >= STORE_INTAKE_FLUSHES_MAX) {
        pthread_cond_wait(&intake->flushed, &intake->lock);
    }
    *ret_is_here = bit_is_set(intake->have, index);
    const bool has_failed = intake->flush_err != 0;
    pthread_mutex_unlock(&intake->lock);
    return has_failed && !*ret_is_here ? intake_flush_wait(intake) : 0;
}

int store_intake_block(struct store_intake *intake, uint32_t index, struct bytes bytes)
{
    if (index >= intake->metadata.blocks_count) {
        return -EINVAL;
    }
    bool is_here = false;
    int err = begin_block(intake, index, &is_here);
    if (err || is_here) {
        return err;
    }
    const struct block_ref *block = &intake->metadata.blocks[index];
    struct id id;
    if (bytes.size != block->size_bytes) {
        return -EBADMSG;
    }
    sha256_id(bytes, &id);
    if (!id_equal(&id, &block->id)) {
        return -EBADMSG;
    }
    struct store *store = intake->store;
    struct arrival *arrival = mem_alloc(sizeof *arrival);
    arrival->id = id;
    /* Pinned first, then looked at: what is seen now stays until it is counted. */
    const bool stays = pins_add(store->pins, &id);
    bool is_known = false;
    err = is_indexed(intake, &id, &is_known);
    if (!err && stays && is_known) {
        take(intake, arrival, index);
        return 0;
    }
    pins_drop(store->pins, &id);
    if (!err) {
        err = write_block(store, arrival, bytes);
    }
    if (arrival->block) {
        take(intake, arrival, index);
    } else {
        free(arrival);
    }
    return err;
}

int store_intake_flush(struct store_intake *intake)
{
    return intake_flush_wait(intake);
}

int store_intake_close(struct store_intake *intake)
{
    if (!intake) {
        return 0;
    }
    struct store *store = intake->store;
    const int err = intake_flush_wait(intake);
    if (intake->pending.count > 0) {
        /* Ranges that nobody names: the next opening looks for them. */
        store->has_gaps = true;
        arrival_list_settle(store, &intake->pending);
    }
    intakes_remove(store->intakes, intake);
    intake_free(intake);
    return err;
}
