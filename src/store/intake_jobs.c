/* SPDX-License-Identifier: Apache-2.0 */

/*
 * What intakes have the writer do. In each of these transactions the bits of the intake say of a
 * block that it is counted exactly if its record was given a holder for it.
 */

#include "store/intake_priv.h"

#include <stdlib.h>

#include "base/cleanup.h"
#include "base/err.h"
#include "base/mem.h"
#include "store/fetches_priv.h"
#include "store/files_priv.h"
#include "store/followed_priv.h"
#include "store/held_priv.h"
#include "store/index_priv.h"
#include "store/store_priv.h"

/* The bits of an intake inside a transaction. */
struct counted {
    uint8_t *bits;
    bool was_empty;
    bool has_new; /* since it was loaded */
    bool is_changed[FETCH_PARTS_MAX];
};

static void counted_done(struct counted *counted)
{
    free(counted->bits);
}

#define CLEANUP_COUNTED __attribute__((cleanup(counted_done)))

static int counted_load(const struct store_intake *intake, struct kv_txn *txn,
                        struct counted *ret_counted)
{
    const size_t count = intake->metadata.blocks_count;
    ret_counted->bits = mem_alloc(STORE_INTAKE_HAVE_BYTES(count) + 1);
    const int err = fetches_load(txn, &intake->id, count, ret_counted->bits);
    ret_counted->was_empty = true;
    for (size_t i = 0; i < STORE_INTAKE_HAVE_BYTES(count); i++) {
        ret_counted->was_empty = ret_counted->was_empty && ret_counted->bits[i] == 0;
    }
    return err;
}

static void counted_set(struct counted *counted, size_t index)
{
    bit_set(counted->bits, index);
    counted->has_new = true;
    counted->is_changed[index / FETCH_PART_BLOCKS] = true;
}

/* Writes what has changed, and tells when the first block is here. */
static int counted_store(const struct store_intake *intake, struct kv_txn *txn,
                         const struct counted *counted)
{
    for (size_t part = 0; part < FETCH_PARTS_MAX; part++) {
        if (!counted->is_changed[part]) {
            continue;
        }
        const int err = fetches_put_part(txn, &intake->id, intake->reason, counted->bits,
                                         intake->metadata.blocks_count, part);
        if (err) {
            return err;
        }
    }
    if (!counted->was_empty || !counted->has_new) {
        return 0;
    }
    struct file_row row;
    const int err = files_get(txn, &intake->id, &row);
    if (!err && !files_is_held(&row)) {
        held_note(intake->store, &intake->id, true, STORE_HELD_PARTIAL);
    }
    return err;
}

struct part_job {
    struct store_job job;
    struct store_intake *intake;
    size_t part;
    uint8_t *here; /* of the last apply: a bit a block of the part */
};

int intake_is_here(const struct store_intake *intake, struct kv_txn *txn, const struct id *id,
                   struct block_record *ret_record, bool *ret_is)
{
    *ret_is = false;
    const int err = index_block(txn, id, ret_record);
    if (err) {
        return err == -ENOENT ? 0 : err;
    }
    if (ret_record->locations_count > 0 && followed_is_shunned(intake->reason)) {
        return followed_has_other_place(txn, ret_record, ret_is);
    }
    *ret_is = ret_record->locations_count > 0;
    return 0;
}

static int count_part(const struct part_job *self, struct kv_txn *txn, struct counted *counted)
{
    struct store_intake *intake = self->intake;
    const size_t begin = self->part * FETCH_PART_BLOCKS;
    memset(self->here, 0, FETCH_PART_BLOCKS / 8);
    for (size_t i = 0; i < FETCH_PART_BLOCKS && begin + i < intake->metadata.blocks_count; i++) {
        const struct id *id = &intake->metadata.blocks[begin + i].id;
        struct block_record record;
        bool is_here = false;
        int err = intake_is_here(intake, txn, id, &record, &is_here);
        if (!err && !is_here) {
            continue;
        }
        if (!err && !bit_is_set(counted->bits, begin + i)) {
            record.holders[INTAKE_REASON]++;
            counted_set(counted, begin + i);
            err = index_put_block(intake->store, txn, id, &record);
        }
        if (err) {
            return err;
        }
        bit_set(self->here, i);
    }
    return 0;
}

static int part_apply(struct store_job *job, struct kv_txn *txn)
{
    const struct part_job *self = CONTAINER_OF(job, struct part_job, job);
    const struct store_intake *intake = self->intake;
    CLEANUP_COUNTED struct counted counted = {0};
    int err = self->part == 0 ? files_add(txn, &intake->id, &intake->metadata) : 0;
    if (!err) {
        err = counted_load(intake, txn, &counted);
    }
    /* The row of the first part is the intake. */
    counted.is_changed[0] = self->part == 0;
    if (!err) {
        err = count_part(self, txn, &counted);
    }
    return err ? err : counted_store(intake, txn, &counted);
}

int intake_open_part(struct store_intake *intake, size_t part)
{
    CLEANUP_FREE uint8_t *here = mem_alloc(FETCH_PART_BLOCKS / 8);
    struct part_job self = {
        .job = {.apply = part_apply},
        .intake = intake,
        .part = part,
        .here = here,
    };
    const int err = store_submit_wait(intake->store, &self.job);
    const size_t begin = part * FETCH_PART_BLOCKS;
    for (size_t i = 0; !err && i < FETCH_PART_BLOCKS; i++) {
        if (bit_is_set(here, i)) {
            intake_set_have(intake, &intake->metadata.blocks[begin + i].id);
        }
    }
    return err;
}

/* ---- flush ---------------------------------------------------------------------------------- */

/* A job with arrivals, which are the job's until it is done. */
struct arrivals_job {
    struct store_job job;
    struct store_intake *intake;
    struct arrival_list list;
    store_intake_done_fn done; /* of a commit */
    void *context;
};

static int count_block(const struct store_intake *intake, struct kv_txn *txn, const struct id *id,
                       struct counted *counted)
{
    struct block_record record;
    const int err = index_block(txn, id, &record);
    if (err) {
        return err == -ENOENT ? 0 : err; /* found damaged since; the commit will see it */
    }
    size_t count = 0;
    const uint32_t *indices = intake_indices(intake, id, &count);
    for (size_t i = 0; i < count; i++) {
        if (!bit_is_set(counted->bits, indices[i])) {
            record.holders[INTAKE_REASON]++;
            counted_set(counted, indices[i]);
        }
    }
    return index_put_block(intake->store, txn, id, &record);
}

/* Names what was written. With `counted` it is counted, too, else it is left to the collection. */
static int name_arrivals(const struct store_intake *intake, struct kv_txn *txn,
                         const struct arrival_list *list, struct counted *counted)
{
    int err = 0;
    for (size_t i = 0; !err && i < list->count; i++) {
        const struct arrival *arrival = list->items[i];
        const struct new_block *block = arrival->block;
        if (block && arrival->is_spare) {
            err = index_add_unused(txn, &block->reservation.location, block->size_bytes,
                                   block->reservation.segment_class);
        } else if (block) {
            err = put_add_written(intake->store, txn, block, counted != NULL);
        }
        if (!err && !arrival->is_spare && counted) {
            err = count_block(intake, txn, &arrival->id, counted);
        }
    }
    return err;
}

static int flush_apply(struct store_job *job, struct kv_txn *txn)
{
    const struct arrivals_job *self = CONTAINER_OF(job, struct arrivals_job, job);
    CLEANUP_COUNTED struct counted counted = {0};
    int err = counted_load(self->intake, txn, &counted);
    if (!err) {
        err = name_arrivals(self->intake, txn, &self->list, &counted);
    }
    return err ? err : counted_store(self->intake, txn, &counted);
}

/* Takes what is pending. With the lock held. */
static struct arrivals_job *new_job(struct store_intake *intake, store_apply_fn apply,
                                    store_done_fn done)
{
    struct arrivals_job *self = mem_alloc(sizeof *self);
    *self = (struct arrivals_job){
        .job = {.apply = apply, .done = done},
        .intake = intake,
        .list = intake->pending,
    };
    intake->pending = (struct arrival_list){0};
    intake->flushed_ms = store_now_ms(intake->store);
    return self;
}

/* What was not named is pending again. With the lock held. */
static void give_back(struct store_intake *intake, struct arrival_list *list)
{
    for (size_t i = 0; i < list->count; i++) {
        arrival_list_add(&intake->pending, list->items[i]);
    }
    free(list->items);
    *list = (struct arrival_list){0};
}

static void flush_done(struct store_job *job, int err)
{
    struct arrivals_job *self = CONTAINER_OF(job, struct arrivals_job, job);
    struct store_intake *intake = self->intake;
    if (!err) {
        arrival_list_settle(intake->store, &self->list);
    }
    pthread_mutex_lock(&intake->lock);
    if (err) {
        intake->flush_err = err;
        give_back(intake, &self->list);
    }
    intake->flushes--;
    pthread_cond_broadcast(&intake->flushed);
    pthread_mutex_unlock(&intake->lock);
    free(self);
}

void intake_flush_async(struct store_intake *intake)
{
    struct arrivals_job *self = NULL;
    pthread_mutex_lock(&intake->lock);
    if (intake->pending.count > 0) {
        self = new_job(intake, flush_apply, flush_done);
        intake->flushes++;
    }
    pthread_mutex_unlock(&intake->lock);
    if (self) {
        /* Not with the lock: this may wait for the thread that flush_done() runs on. */
        store_submit(intake->store, &self->job);
    }
}

/* Waits until no flush is under way; tells the last failure, and forgets it. */
static int await_flushes(struct store_intake *intake)
{
    pthread_mutex_lock(&intake->lock);
    while (intake->flushes > 0) {
        pthread_cond_wait(&intake->flushed, &intake->lock);
    }
    const int err = intake->flush_err;
    intake->flush_err = 0;
    pthread_mutex_unlock(&intake->lock);
    return err;
}

int intake_flush_wait(struct store_intake *intake)
{
    /* What failed is pending again, and is tried once more. */
    (void)await_flushes(intake);
    intake_flush_async(intake);
    const int err = await_flushes(intake);
    if (err) {
        pthread_mutex_lock(&intake->lock);
        intake->flush_err = err;
        pthread_mutex_unlock(&intake->lock);
    }
    return err;
}

/* ---- the two ends --------------------------------------------------------------------------- */

/* Takes the count of a block away, and gives it a holder for the reason of the file instead, if
 * `is_held`. */
static int move_count(const struct store_intake *intake, struct kv_txn *txn, size_t index,
                      const struct counted *counted, bool is_held)
{
    const bool is_counted = bit_is_set(counted->bits, index);
    if ((is_held && is_counted && intake->reason == INTAKE_REASON) || (!is_held && !is_counted)) {
        return 0;
    }
    const struct id *id = &intake->metadata.blocks[index].id;
    struct block_record record;
    const int err = index_block(txn, id, &record);
    if (err) {
        return err == -ENOENT ? -EIO : err;
    }
    if (is_counted && record.holders[INTAKE_REASON] > 0) {
        record.holders[INTAKE_REASON]--;
    }
    record.holders[intake->reason] += is_held;
    return index_put_block(intake->store, txn, id, &record);
}

/* Moves all counts and forgets the intake. */
static int end_intake(const struct store_intake *intake, struct kv_txn *txn,
                      const struct counted *counted, bool is_held)
{
    int err = 0;
    for (size_t i = 0; !err && i < intake->metadata.blocks_count; i++) {
        err = move_count(intake, txn, i, counted, is_held);
    }
    return err ? err : fetches_remove(txn, &intake->id, intake->metadata.blocks_count);
}

static int commit_apply(struct store_job *job, struct kv_txn *txn)
{
    const struct arrivals_job *self = CONTAINER_OF(job, struct arrivals_job, job);
    struct store_intake *intake = self->intake;
    if (intake->progress.blocks_count < intake->metadata.blocks_count) {
        return -EAGAIN;
    }
    CLEANUP_COUNTED struct counted counted = {0};
    int err = counted_load(intake, txn, &counted);
    if (!err) {
        err = name_arrivals(intake, txn, &self->list, &counted);
    }
    if (!err) {
        err = files_check(txn, &intake->metadata);
    }
    struct file_row row;
    if (!err) {
        err = files_get(txn, &intake->id, &row);
    }
    if (err) {
        return err;
    }
    /* Once, however often it comes here: nobody would release the others. */
    const bool is_new = row.holders[intake->reason] == 0;
    err = end_intake(intake, txn, &counted, is_new);
    if (!err && is_new) {
        err = files_hold_counted(intake->store, txn, &intake->id, intake->reason);
    } else if (!err) {
        held_note(intake->store, &intake->id, true, STORE_HELD_COMPLETE);
    }
    return err;
}

/* Which blocks are here, looked at anew. */
static void refresh_have(struct store_intake *intake)
{
    CLEANUP(kv_abort) struct kv_txn *txn = NULL;
    if (kv_read(intake->store->kv, &txn) != 0) {
        return;
    }
    pthread_mutex_lock(&intake->lock);
    memset(intake->have, 0, STORE_INTAKE_HAVE_BYTES(intake->metadata.blocks_count));
    intake->progress = (struct store_intake_progress){0};
    for (size_t i = 0; i < intake->metadata.blocks_count; i++) {
        struct block_record record;
        bool is_here = false;
        const int err =
            intake_is_here(intake, txn, &intake->metadata.blocks[i].id, &record, &is_here);
        if (!err && is_here) {
            intake_set_have(intake, &intake->metadata.blocks[i].id);
        }
    }
    for (size_t i = 0; i < intake->pending.count; i++) {
        const struct arrival *arrival = intake->pending.items[i];
        if (arrival->block && !arrival->is_spare) {
            intake_set_have(intake, &arrival->id);
        }
    }
    pthread_mutex_unlock(&intake->lock);
}

static void commit_done(struct store_job *job, int err)
{
    struct arrivals_job *self = CONTAINER_OF(job, struct arrivals_job, job);
    struct store_intake *intake = self->intake;
    const store_intake_done_fn done = self->done;
    void *context = self->context;
    if (!err) {
        arrival_list_settle(intake->store, &self->list);
        intakes_remove(intake->store->intakes, intake);
        intake_free(intake);
    } else {
        pthread_mutex_lock(&intake->lock);
        give_back(intake, &self->list);
        /* Blocks lack because their flush failed. */
        err = err == -EAGAIN && intake->flush_err ? intake->flush_err : err;
        pthread_mutex_unlock(&intake->lock);
        if (err == -EAGAIN) {
            refresh_have(intake);
        }
    }
    free(self);
    done(context, err);
}

void store_intake_commit_async(struct store_intake *intake, store_intake_done_fn done,
                               void *context)
{
    pthread_mutex_lock(&intake->lock);
    struct arrivals_job *self = new_job(intake, commit_apply, commit_done);
    pthread_mutex_unlock(&intake->lock);
    self->done = done;
    self->context = context;
    store_submit(intake->store, &self->job);
}

struct commit_wait {
    pthread_mutex_t lock;
    pthread_cond_t answered;
    bool is_done;
    int err;
};

static void commit_answered(void *context, int err)
{
    struct commit_wait *wait = context;
    pthread_mutex_lock(&wait->lock);
    wait->is_done = true;
    wait->err = err;
    pthread_cond_signal(&wait->answered);
    pthread_mutex_unlock(&wait->lock);
}

int store_intake_commit(struct store_intake *intake)
{
    struct commit_wait wait = {
        .lock = PTHREAD_MUTEX_INITIALIZER,
        .answered = PTHREAD_COND_INITIALIZER,
    };
    store_intake_commit_async(intake, commit_answered, &wait);
    pthread_mutex_lock(&wait.lock);
    while (!wait.is_done) {
        pthread_cond_wait(&wait.answered, &wait.lock);
    }
    pthread_mutex_unlock(&wait.lock);
    pthread_cond_destroy(&wait.answered);
    pthread_mutex_destroy(&wait.lock);
    return wait.err;
}

static int drop_apply(struct store_job *job, struct kv_txn *txn)
{
    const struct arrivals_job *self = CONTAINER_OF(job, struct arrivals_job, job);
    const struct store_intake *intake = self->intake;
    CLEANUP_COUNTED struct counted counted = {0};
    int err = counted_load(intake, txn, &counted);
    if (!err) {
        err = name_arrivals(intake, txn, &self->list, NULL);
    }
    if (!err) {
        err = end_intake(intake, txn, &counted, false);
    }
    struct file_row row;
    if (!err) {
        err = files_get(txn, &intake->id, &row);
    }
    if (err) {
        return err;
    }
    if (!counted.was_empty && !files_is_held(&row)) {
        held_note(intake->store, &intake->id, true, STORE_HELD_NONE);
    }
    return files_settle(intake->store, txn, &intake->id);
}

int store_intake_drop(struct store_intake *intake)
{
    if (!intake) {
        return 0;
    }
    struct store *store = intake->store;
    (void)await_flushes(intake);
    pthread_mutex_lock(&intake->lock);
    struct arrivals_job *self = new_job(intake, drop_apply, NULL);
    pthread_mutex_unlock(&intake->lock);
    const int err = store_submit_wait(store, &self->job);
    if (err && self->list.count > 0) {
        /* Ranges that nobody names: the next opening looks for them. */
        store->has_gaps = true;
    }
    arrival_list_settle(store, &self->list);
    free(self);
    intakes_remove(store->intakes, intake);
    intake_free(intake);
    return err;
}
