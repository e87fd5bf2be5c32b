/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The order that makes a put durable and whole: bytes into a reserved range of a segment, names of
 * the blocks and of the file in one transaction, and that is committed after the segment is
 * synced. A large file is named in parts of FLUSH_BYTES as it comes, so that little is written
 * twice after a crash; nobody holds those blocks until the last job names the file, and if that
 * never comes they are collected.
 */

#include <stdlib.h>

#include "base/err.h"
#include "base/mem.h"
#include "store/files_priv.h"
#include "store/index_priv.h"
#include "store/pins_priv.h"
#include "store/put_priv.h"
#include "store/store_priv.h"
#include "store/writer.h"

/* One job of the writer per so much: a sync of this takes a fraction of a second, and the next
 * part is hashed meanwhile. */
#define FLUSH_BYTES ((uint64_t)64 * 1024 * 1024)
#define FLUSH_BLOCKS 4096

static void record_of(const struct new_block *block, struct block_record *ret_record)
{
    *ret_record = (struct block_record){.size_bytes = block->size_bytes};
    memcpy(ret_record->crcs, block->crcs, sizeof(uint32_t) * block_spans(block->size_bytes));
}

int put_add_written(struct store *store, struct kv_txn *txn, const struct new_block *block,
                    bool held_soon)
{
    const struct reservation *place = &block->reservation;
    struct block_record record;
    int err = index_block(txn, &block->id, &record);
    if (!err && block_owned_location(&record)) {
        /* Somebody else was faster; our copy is not needed. */
        return index_add_unused(txn, &place->location, block->size_bytes, place->segment_class);
    }
    const bool is_new = err == -ENOENT;
    if (is_new) {
        record_of(block, &record);
    } else if (err) {
        return err;
    }
    err =
        index_add_location(store, txn, &block->id, &record, &place->location, place->segment_class);
    if (err) {
        return err;
    }
    return is_new && held_soon ? index_put_block_raw(txn, &block->id, &record)
                               : index_put_block(store, txn, &block->id, &record);
}

/* Blocks handed to the writer. */
struct flush_job {
    struct store_job job;
    struct store *store;
    struct store_put *put; /* NULL: it is gone */
    struct new_block **blocks;
    size_t blocks_count;
};

static void settle_blocks(struct store *store, struct new_block **blocks, size_t blocks_count)
{
    for (size_t i = 0; i < blocks_count; i++) {
        if (blocks[i]->written) {
            segments_settle(store->segments, &blocks[i]->reservation);
        }
        free(blocks[i]);
    }
    free(blocks);
}

static int flush_apply(struct store_job *job, struct kv_txn *txn)
{
    const struct flush_job *flush = CONTAINER_OF(job, struct flush_job, job);
    int err = 0;
    for (size_t i = 0; !err && i < flush->blocks_count; i++) {
        err = put_add_written(flush->store, txn, flush->blocks[i], false);
    }
    return err;
}

static void flush_done(struct store_job *job, int err)
{
    struct flush_job *flush = CONTAINER_OF(job, struct flush_job, job);
    struct store_put *put = flush->put;
    if (err) {
        flush->store->has_gaps = true;
    }
    settle_blocks(flush->store, flush->blocks, flush->blocks_count);
    free(flush);
    if (!put) {
        return;
    }
    pthread_mutex_lock(&put->lock);
    put->flush_err = put->flush_err ? put->flush_err : err;
    put->flushes--;
    pthread_cond_signal(&put->flushed);
    pthread_mutex_unlock(&put->lock);
}

/* Names the ranges as dead instead: the put was given up. */
static int discard_apply(struct store_job *job, struct kv_txn *txn)
{
    const struct flush_job *flush = CONTAINER_OF(job, struct flush_job, job);
    int err = 0;
    for (size_t i = 0; !err && i < flush->blocks_count; i++) {
        const struct new_block *block = flush->blocks[i];
        if (block->written) {
            err = index_add_unused(txn, &block->reservation.location, block->size_bytes,
                                   block->reservation.segment_class);
        }
    }
    return err;
}

/* Hands what is pending to the writer, on behalf of `owner` (NULL: nobody waits for it). */
static void submit_pending(struct store_put *put, store_apply_fn apply, struct store_put *owner)
{
    struct flush_job *flush = mem_alloc(sizeof *flush);
    *flush = (struct flush_job){
        .job = {.apply = apply, .done = flush_done},
        .store = put->store,
        .put = owner,
        .blocks = put->pending,
        .blocks_count = put->pending_count,
    };
    put->pending = NULL;
    put->pending_count = 0;
    put->pending_capacity = 0;
    put->pending_bytes = 0;
    if (owner) {
        pthread_mutex_lock(&owner->lock);
        owner->flushes++;
        pthread_mutex_unlock(&owner->lock);
    }
    store_submit(put->store, &flush->job);
}

void put_flush_if_full(struct store_put *put)
{
    if (!put->in_place_path &&
        (put->pending_bytes >= FLUSH_BYTES || put->pending_count >= FLUSH_BLOCKS)) {
        submit_pending(put, flush_apply, put);
    }
}

/* True if the block has a place in this very file already. */
static int is_in_file(const struct store_put *put, struct kv_txn *txn,
                      const struct block_record *record, bool *ret_is)
{
    for (uint8_t i = 0; i < record->locations_count; i++) {
        if (!location_is_external(&record->locations[i])) {
            continue;
        }
        struct external external;
        const int err = externals_get(txn, record->locations[i].container, &external);
        if (err && err != -ENOENT) {
            return err;
        }
        /* Of a followed one the place goes with the follower. */
        if (!err && !external.withdrawn && !external.is_followed &&
            file_identity_equal(&external.identity, &put->in_place_identity) &&
            strcmp(external.path, put->in_place_path) == 0) {
            *ret_is = true;
            return 0;
        }
    }
    *ret_is = false;
    return 0;
}

/* Names a block that lies in the file outside; registers the file with the first one. */
static int add_in_place(const struct store_put *put, struct kv_txn *txn,
                        const struct new_block *block, uint64_t *container)
{
    struct block_record record;
    int err = index_block(txn, &block->id, &record);
    bool is_there = false;
    if (err == -ENOENT) {
        record_of(block, &record);
        err = 0;
    } else if (!err) {
        err = is_in_file(put, txn, &record, &is_there);
        is_there = is_there || block_owned_location(&record);
    }
    if (err || is_there) {
        return err;
    }
    if (*container == 0) {
        err = externals_add(txn, &put->in_place_identity, put->in_place_path, false, container);
    }
    if (!err) {
        const struct location location = {*container, block->file_offset_bytes};
        err = index_add_location(put->store, txn, &block->id, &record, &location, SEGMENT_LARGE);
    }
    return err ? err : index_put_block(put->store, txn, &block->id, &record);
}

/* Several puts that become known together. */
struct commit_job {
    struct store_job job;
    struct store *store;
    struct store_commit commit;
    struct store_put **puts;
    struct store_put_result *results;
};

/* Held for the put's reason, once however often. */
static int hold_once(struct store_put *put, struct kv_txn *txn, const struct id *id)
{
    struct file_row row;
    const int err = files_get(txn, id, &row);
    if (err) {
        return err;
    }
    if (row.holders[put->reason] > 0) {
        return files_check(txn, &put->metadata);
    }
    return files_hold(put->store, txn, id, put->reason);
}

/* What went wrong before the commit: the list of blocks may be short then. */
static int failure_of(struct store_put *put)
{
    pthread_mutex_lock(&put->lock);
    const int err = put->flush_err;
    pthread_mutex_unlock(&put->lock);
    return err;
}

static int name_put(struct store_put *put, struct kv_txn *txn, const struct id *file_id)
{
    uint64_t container = 0;
    int err = failure_of(put);
    for (size_t i = 0; !err && i < put->pending_count; i++) {
        err = put->in_place_path ? add_in_place(put, txn, put->pending[i], &container)
                                 : put_add_written(put->store, txn, put->pending[i], true);
    }
    if (!err) {
        err = files_add(txn, file_id, &put->metadata);
    }
    return err ? err : files_check(txn, &put->metadata);
}

/* What most files are: one block, and both are new. To name the block, the file, and to hold both
 * one after the other is three times as many look-ups and twice as many writes. False: it is not
 * so. */
static int hold_single(struct store_put *put, struct kv_txn *txn, const struct id *file_id,
                       bool *ret_is)
{
    *ret_is = false;
    if (put->in_place_path || put->metadata.blocks_count != 1 || put->pending_count != 1 ||
        failure_of(put) != 0) {
        return 0;
    }
    const struct new_block *block = put->pending[0];
    const struct reservation *place = &block->reservation;
    struct block_record record;
    struct file_row row;
    int err = index_block(txn, &block->id, &record);
    if (err == -ENOENT) {
        err = files_get(txn, file_id, &row);
    }
    if (err != -ENOENT) {
        return err;
    }
    record_of(block, &record);
    record.holders[put->reason] = 1;
    err = index_add_location(put->store, txn, &block->id, &record, &place->location,
                             place->segment_class);
    if (!err) {
        err = index_put_new_block(put->store, txn, &block->id, &record);
    }
    *ret_is = true;
    return err ? err : files_add_held(put->store, txn, file_id, &put->metadata, put->reason);
}

/* Blocks were added in the belief that they are held soon; who is not goes into the queue. */
static int settle_put(struct store_put *put, struct kv_txn *txn, const struct id *file_id)
{
    int err = files_settle(put->store, txn, file_id);
    for (size_t i = 0; !err && i < put->pending_count; i++) {
        struct block_record record;
        err = index_block(txn, &put->pending[i]->id, &record);
        if (!err && !block_is_held(&record)) {
            err = index_put_block(put->store, txn, &put->pending[i]->id, &record);
        }
    }
    return err;
}

static int commit_apply(struct store_job *job, struct kv_txn *txn)
{
    struct commit_job *self = CONTAINER_OF(job, struct commit_job, job);
    const struct store_commit *commit = &self->commit;
    int err = 0;
    for (size_t i = 0; !err && i < commit->puts_count; i++) {
        const struct id *id = &self->results[i].id;
        bool is_held = false;
        err = commit->hold ? hold_single(self->puts[i], txn, id, &is_held) : 0;
        if (!err && !is_held) {
            err = name_put(self->puts[i], txn, id);
        }
        if (!err && !is_held && commit->hold) {
            err = hold_once(self->puts[i], txn, id);
        }
    }
    if (!err && commit->also) {
        err = commit->also(commit->context, txn, self->results);
    }
    for (size_t i = 0; !err && !commit->hold && i < commit->puts_count; i++) {
        err = settle_put(self->puts[i], txn, &self->results[i].id);
    }
    return err;
}

/* Ends a put; what it wrote and nobody named is given back. */
static void free_put(struct store_put *put)
{
    if (put->pending_count > 0) {
        submit_pending(put, discard_apply, NULL);
    }
    for (size_t i = 0; i < put->pinned_count; i++) {
        pins_drop(put->store->pins, &put->pinned[i]);
    }
    free(put->pinned);
    free(put->in_place_path);
    buf_done(&put->window);
    file_metadata_done(&put->metadata);
    pthread_cond_destroy(&put->flushed);
    pthread_mutex_destroy(&put->lock);
    free(put);
}

static void commit_done(struct store_job *job, int err)
{
    struct commit_job *self = CONTAINER_OF(job, struct commit_job, job);
    for (size_t i = 0; i < self->commit.puts_count; i++) {
        struct store_put *put = self->puts[i];
        /* Jobs are answered in order, so all parts of this put have been. */
        CHECK(put->flushes == 0);
        err = put->flush_err ? put->flush_err : err;
    }
    for (size_t i = 0; i < self->commit.puts_count; i++) {
        struct store_put *put = self->puts[i];
        if (!err) {
            settle_blocks(put->store, put->pending, put->pending_count);
            put->pending_count = 0;
        }
        free_put(put);
    }
    self->commit.done(self->commit.context, err, err ? NULL : self->results);
    free(self->puts);
    free(self->results);
    free(self);
}

void store_commit_async(struct store *store, const struct store_commit *commit)
{
    struct commit_job *self = mem_alloc(sizeof *self);
    *self = (struct commit_job){
        .job = {.apply = commit_apply, .done = commit_done},
        .store = store,
        .commit = *commit,
        .puts = mem_alloc_array(commit->puts_count + 1, sizeof(struct store_put *)),
        .results = mem_alloc_array(commit->puts_count + 1, sizeof(struct store_put_result)),
    };
    for (size_t i = 0; i < commit->puts_count; i++) {
        struct store_put *put = commit->puts[i];
        self->puts[i] = put;
        const int err = put_write_rest(put);
        pthread_mutex_lock(&put->lock);
        put->flush_err = put->flush_err ? put->flush_err : err;
        pthread_mutex_unlock(&put->lock);
        self->results[i].length_bytes = put->metadata.length_bytes;
        self->results[i].new_bytes = put->new_bytes;
        file_metadata_id(&put->metadata, &self->results[i].id);
    }
    store_submit(store, &self->job);
}

/* store_put_commit_async() by store_commit_async(). */
struct single_commit {
    store_put_done_fn done;
    void *context;
};

static void single_done(void *context, int err, const struct store_put_result *results)
{
    struct single_commit *single = context;
    single->done(single->context, err, results);
    free(single);
}

void store_put_commit_async(struct store_put *put, store_put_done_fn done, void *context)
{
    struct single_commit *single = mem_alloc(sizeof *single);
    *single = (struct single_commit){done, context};
    const struct store_commit commit = {
        .puts = &put,
        .puts_count = 1,
        .hold = true,
        .done = single_done,
        .context = single,
    };
    store_commit_async(put->store, &commit);
}

struct commit_wait {
    pthread_mutex_t lock;
    pthread_cond_t answered;
    bool done;
    int err;
    struct store_put_result result;
};

static void commit_answered(void *context, int err, const struct store_put_result *result)
{
    struct commit_wait *wait = context;
    pthread_mutex_lock(&wait->lock);
    wait->done = true;
    wait->err = err;
    if (result) {
        wait->result = *result;
    }
    pthread_cond_signal(&wait->answered);
    pthread_mutex_unlock(&wait->lock);
}

int store_put_commit(struct store_put *put, struct store_put_result *ret_result)
{
    struct commit_wait wait = {
        .lock = PTHREAD_MUTEX_INITIALIZER,
        .answered = PTHREAD_COND_INITIALIZER,
    };
    store_put_commit_async(put, commit_answered, &wait);
    pthread_mutex_lock(&wait.lock);
    while (!wait.done) {
        pthread_cond_wait(&wait.answered, &wait.lock);
    }
    pthread_mutex_unlock(&wait.lock);
    pthread_cond_destroy(&wait.answered);
    pthread_mutex_destroy(&wait.lock);
    if (!wait.err) {
        *ret_result = wait.result;
    }
    return wait.err;
}

void store_put_abort(struct store_put *put)
{
    if (!put) {
        return;
    }
    pthread_mutex_lock(&put->lock);
    while (put->flushes > 0) {
        pthread_cond_wait(&put->flushed, &put->lock);
    }
    pthread_mutex_unlock(&put->lock);
    free_put(put);
}
