/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Entries on their way into the tree.
 *
 * Not atomic: batches, each one change with the content of its files. While one is being synced
 * the next one is filled, never more than these two.
 *
 * Atomic: one change at the end. The content of many small files can't wait for it in memory, nor
 * in open puts, so it is committed in parts that nobody holds yet; the change at the end holds
 * them. What nobody holds is collected after a grace time, which begins anew when the content is
 * held and released again (tar_publisher_touch()). If the upload is given up, or the node dies,
 * there is nothing to undo.
 *
 * A path that comes twice in the stream is what it was last, as it would be on a disk.
 */

#include <pthread.h>
#include <stdlib.h>

#include "base/err.h"
#include "base/mem.h"
#include "http/tar_priv.h"
#include "store/hold.h"
#include "store/writer.h"

/* One sync for so much; a client with small files waits for a disk that syncs slowly, so not too
 * few of them, and what is in a batch is in memory (the end of each file, 256 KiB at most). */
#define BATCH_ENTRIES ((size_t)512)
#define BATCH_BYTES ((uint64_t)16 * 1024 * 1024)
/* A third of the time after which content that nobody holds is collected. */
#define TOUCH_MS (STORE_COLLECT_GRACE_MS_DEFAULT / 3)
/* Files in one job of the writer: a few ms of its time. */
#define TOUCH_FILES ((size_t)1024)

#define DIRECTORY_MODE 0755u

/* Entries that become known together. */
struct batch {
    struct tar_publisher *publisher;
    struct tar_entry *entries;
    size_t count;
    size_t capacity;
    size_t committed_count; /* of the first ones the content is known to the store */
    uint64_t open_bytes;    /* content of the others */
    size_t names_bytes;

    /* For the commit under way. */
    struct store_put **puts;
    size_t puts_count;
    struct tree_put *changes;
    struct dot version;
    bool has_version;
    uint64_t files_count;
    uint64_t length_bytes;
    int err;
    bool is_done;
};

/* Of a directory that was published in one step: who follows it switches it in one, too. */
static const struct tree_attribute atomic_attribute = {
    .name = {(const uint8_t *)TREE_ATTRIBUTE_ATOMIC, sizeof TREE_ATTRIBUTE_ATOMIC - 1},
    .value = {(const uint8_t *)"1", 1},
};

struct tar_publisher {
    struct node *node;
    uint8_t *path;
    size_t path_bytes;
    bool is_atomic;
    bool lists_files;
    struct buf published; /* ids of the files, if they are listed */
    struct tree_put top;  /* atomic: the directory itself */
    struct batch *batch;  /* being filled; NULL: nothing came yet */
    struct batch *under_way;
    size_t entries_count;
    uint64_t touched_ms;
    uint64_t files_count;
    uint64_t length_bytes;
    bool has_version;
    struct dot version;

    pthread_mutex_t lock; /* over is_done of batches */
    pthread_cond_t done;
};

void tar_entry_done(struct tar_entry *entry)
{
    store_put_abort(entry->put);
    free(entry->names);
    *entry = (struct tar_entry){0};
}

static struct bytes entry_path(const struct tar_entry *entry)
{
    return BYTES(entry->names, entry->path_bytes);
}

static void batch_free(struct batch *batch)
{
    if (!batch) {
        return;
    }
    for (size_t i = 0; i < batch->count; i++) {
        tar_entry_done(&batch->entries[i]);
    }
    free(batch->entries);
    free(batch->puts);
    free(batch->changes);
    free(batch);
}

struct tar_publisher *tar_publisher_new(const struct tar_options *options)
{
    const struct bytes path = options->path;
    struct tar_publisher *publisher = mem_alloc(sizeof *publisher);
    publisher->node = options->node;
    publisher->path = mem_alloc(path.size + 1);
    if (path.size > 0) {
        memcpy(publisher->path, path.data, path.size);
    }
    publisher->path_bytes = path.size;
    publisher->is_atomic = options->is_atomic;
    publisher->lists_files = options->lists_files;
    publisher->top = (struct tree_put){
        .path = BYTES(publisher->path, path.size),
        .kind = TREE_DIRECTORY,
        .mode = DIRECTORY_MODE,
        .mtime_ns = clock_wall_ms(node_clock(options->node)) * 1000000,
        .attributes = &atomic_attribute,
        .attributes_count = options->is_atomic,
    };
    pthread_mutex_init(&publisher->lock, NULL);
    pthread_cond_init(&publisher->done, NULL);
    return publisher;
}

/* Where the writer thread ends with a batch. */
static void batch_is_done(struct batch *batch, int err)
{
    struct tar_publisher *publisher = batch->publisher;
    pthread_mutex_lock(&publisher->lock);
    batch->err = err;
    batch->is_done = true;
    pthread_cond_signal(&publisher->done);
    pthread_mutex_unlock(&publisher->lock);
}

static int batch_wait(struct batch *batch)
{
    struct tar_publisher *publisher = batch->publisher;
    pthread_mutex_lock(&publisher->lock);
    while (!batch->is_done) {
        pthread_cond_wait(&publisher->done, &publisher->lock);
    }
    pthread_mutex_unlock(&publisher->lock);
    batch->is_done = false;
    return batch->err;
}

/* Takes the puts out of the entries that have one. */
static void collect_puts(struct batch *batch)
{
    free(batch->puts);
    batch->puts = mem_alloc_array(batch->count + 1, sizeof(struct store_put *));
    batch->puts_count = 0;
    for (size_t i = 0; i < batch->count; i++) {
        struct tar_entry *entry = &batch->entries[i];
        if (entry->put) {
            entry->has_result = true;
            entry->result_index = batch->puts_count;
            batch->puts[batch->puts_count++] = STEAL_PTR(entry->put);
        }
    }
}

static void content_committed(void *context, int err, const struct store_put_result *results)
{
    struct batch *batch = context;
    for (size_t i = batch->committed_count; !err && i < batch->count; i++) {
        struct tar_entry *entry = &batch->entries[i];
        if (entry->has_result) {
            entry->file_id = results[entry->result_index].id;
            entry->has_result = false;
        }
    }
    batch_is_done(batch, err);
}

/* Atomic: the content so far goes out of memory. */
static int commit_content(struct tar_publisher *publisher, struct batch *batch)
{
    const bool is_first = batch->committed_count == 0;
    collect_puts(batch);
    if (batch->puts_count > 0) {
        const struct store_commit commit = {
            .puts = batch->puts,
            .puts_count = batch->puts_count,
            .done = content_committed,
            .context = batch,
        };
        store_commit_async(node_store(publisher->node), &commit);
        const int err = batch_wait(batch);
        if (err) {
            return err;
        }
    }
    if (is_first) {
        publisher->touched_ms = clock_monotonic_ms(node_clock(publisher->node));
    }
    batch->committed_count = batch->count;
    batch->open_bytes = 0;
    return 0;
}

struct touch_job {
    struct store_job job;
    struct store *store;
    const struct tar_entry *entries;
    size_t entries_count;
};

static int touch_apply(struct store_job *base, struct kv_txn *txn)
{
    const struct touch_job *job = CONTAINER_OF(base, struct touch_job, job);
    int err = 0;
    for (size_t i = 0; !err && i < job->entries_count; i++) {
        const struct tar_entry *entry = &job->entries[i];
        if (entry->kind == TREE_FILE) {
            err = store_hold_in(job->store, txn, &entry->file_id, STORE_ORIGIN);
            if (!err) {
                err = store_release_in(job->store, txn, &entry->file_id, STORE_ORIGIN);
            }
        }
    }
    return err;
}

int tar_publisher_touch(struct tar_publisher *publisher)
{
    const struct batch *batch = publisher->batch;
    const uint64_t now_ms = clock_monotonic_ms(node_clock(publisher->node));
    if (!batch || batch->committed_count == 0 || now_ms - publisher->touched_ms < TOUCH_MS) {
        return 0;
    }
    struct store *store = node_store(publisher->node);
    for (size_t at = 0; at < batch->committed_count; at += TOUCH_FILES) {
        const size_t left = batch->committed_count - at;
        struct touch_job job = {
            .job = {.apply = touch_apply},
            .store = store,
            .entries = batch->entries + at,
            .entries_count = left < TOUCH_FILES ? left : TOUCH_FILES,
        };
        const int err = store_submit_wait(store, &job.job);
        if (err) {
            return err == -ENOENT ? -EAGAIN : err; /* collected already: too late */
        }
    }
    publisher->touched_ms = now_ms;
    return 0;
}

static int compare_entries(const void *left, const void *right)
{
    const struct tar_entry *a = left;
    const struct tar_entry *b = right;
    const int order = path_compare(entry_path(a), entry_path(b));
    return order != 0 ? order : (a->order > b->order) - (a->order < b->order);
}

/* Leaves of each path what came last. -EPROTO: something lies below what is no directory. */
static int settle_paths(struct batch *batch)
{
    if (batch->count > 0) {
        qsort(batch->entries, batch->count, sizeof *batch->entries, compare_entries);
    }
    size_t kept = 0;
    for (size_t i = 0; i < batch->count; i++) {
        struct tar_entry *entry = &batch->entries[i];
        struct tar_entry *before = kept > 0 ? &batch->entries[kept - 1] : NULL;
        if (before && bytes_equal(entry_path(before), entry_path(entry))) {
            tar_entry_done(before);
            kept--;
        }
        if (kept != i) {
            batch->entries[kept] = *entry;
            *entry = (struct tar_entry){0};
        }
        kept++;
    }
    batch->count = kept;
    for (size_t i = 1; i < kept; i++) {
        /* What is below a file follows it at once. */
        const struct tar_entry *before = &batch->entries[i - 1];
        if (before->kind != TREE_DIRECTORY &&
            path_is_within(entry_path(&batch->entries[i]), entry_path(before))) {
            return -EPROTO;
        }
    }
    return 0;
}

/* An empty stream makes an empty directory, and changes nothing if that is there. */
static int make_directory(struct batch *batch, const struct tree *tree, struct kv_txn *txn)
{
    const struct tree_put *top = &batch->publisher->top;
    struct tree_entry entry;
    const int err = tree_find(tree, txn, top->path, &entry);
    batch->has_version = err == -ENOENT;
    if (err == -ENOENT) {
        return tree_change_put(tree, txn, top, &batch->version);
    }
    return !err && entry.version.kind != TREE_DIRECTORY ? -ENOTDIR : err;
}

static int batch_apply(void *context, const struct tree *tree, struct kv_txn *txn,
                       const struct store_put_result *results)
{
    struct batch *batch = context;
    const struct tar_publisher *publisher = batch->publisher;
    if (batch->count == 0 && !publisher->is_atomic) {
        return make_directory(batch, tree, txn);
    }
    for (size_t i = 0; i < batch->count; i++) {
        const struct tar_entry *entry = &batch->entries[i];
        batch->changes[i] = (struct tree_put){
            .path = entry_path(entry),
            .kind = entry->kind,
            .mode = entry->mode,
            .mtime_ns = entry->mtime_ns,
            .file_id = entry->has_result ? results[entry->result_index].id : entry->file_id,
            .size_bytes = entry->size_bytes,
            .target = BYTES(entry->names + entry->path_bytes, entry->target_bytes),
        };
    }
    batch->has_version = true;
    if (!publisher->is_atomic) {
        return tree_change_put_many(tree, txn, batch->changes, batch->count, &batch->version);
    }
    const int err = tree_change_replace_directory(tree, txn, &publisher->top, batch->changes,
                                                  batch->count, &batch->version);
    /* Content that was collected since it came: the upload took too long. */
    return err == -ENOENT ? -EAGAIN : err;
}

static void batch_changed(void *context, int err, const struct store_put_result *results)
{
    (void)results;
    batch_is_done(context, err);
}

static void list_files(struct tar_publisher *publisher, const struct batch *batch)
{
    for (size_t i = 0; publisher->lists_files && i < batch->count; i++) {
        if (batch->changes[i].kind == TREE_FILE) {
            const struct id *id = &batch->changes[i].file_id;
            buf_add(&publisher->published, BYTES(id->bytes, sizeof id->bytes));
        }
    }
}

/* Waits for the batch under way and counts it. */
static int end_under_way(struct tar_publisher *publisher)
{
    struct batch *batch = publisher->under_way;
    if (!batch) {
        return 0;
    }
    const int err = batch_wait(batch);
    if (!err) {
        publisher->files_count += batch->files_count;
        publisher->length_bytes += batch->length_bytes;
        list_files(publisher, batch);
        if (batch->has_version) {
            publisher->has_version = true;
            publisher->version = batch->version;
        }
    }
    publisher->under_way = NULL;
    batch_free(batch);
    return err;
}

/* Hands the batch to the writer, behind the one that is there. */
static int publish_batch(struct tar_publisher *publisher)
{
    struct batch *batch = publisher->batch;
    int err = settle_paths(batch);
    if (!err) {
        err = end_under_way(publisher);
    }
    if (err) {
        return err;
    }
    collect_puts(batch);
    batch->changes = mem_alloc_array(batch->count + 1, sizeof *batch->changes);
    for (size_t i = 0; i < batch->count; i++) {
        const bool is_file = batch->entries[i].kind == TREE_FILE;
        batch->files_count += is_file;
        batch->length_bytes += is_file ? batch->entries[i].size_bytes : 0;
    }
    publisher->under_way = STEAL_PTR(publisher->batch);
    const struct node_change change = {
        .puts = batch->puts,
        .puts_count = batch->puts_count,
        .apply = batch_apply,
        .done = batch_changed,
        .context = batch,
    };
    node_change_async(publisher->node, &change);
    return 0;
}

static struct batch *batch_now(struct tar_publisher *publisher)
{
    if (!publisher->batch) {
        publisher->batch = mem_alloc(sizeof *publisher->batch);
        publisher->batch->publisher = publisher;
    }
    return publisher->batch;
}

int tar_publisher_add(struct tar_publisher *publisher, struct tar_entry *entry)
{
    struct batch *batch = batch_now(publisher);
    if (publisher->is_atomic && entry->path_bytes == publisher->path_bytes) {
        publisher->top.mode = entry->mode;
        publisher->top.mtime_ns = entry->mtime_ns;
        tar_entry_done(entry);
        return 0;
    }
    /* What one change can hold at most, so that a stream is refused before it fills the memory. */
    batch->names_bytes += entry->path_bytes + entry->target_bytes;
    if (publisher->is_atomic &&
        (batch->count >= TREE_OP_CHANGES_MAX || batch->names_bytes > TREE_OP_BYTES_MAX)) {
        tar_entry_done(entry);
        return -EFBIG;
    }
    if (batch->count == batch->capacity) {
        batch->capacity = batch->capacity ? 2 * batch->capacity : 16;
        batch->entries = mem_resize_array(batch->entries, batch->capacity, sizeof *batch->entries);
    }
    entry->order = publisher->entries_count++;
    batch->open_bytes += entry->size_bytes;
    batch->entries[batch->count++] = *entry;
    *entry = (struct tar_entry){0};
    if (batch->count - batch->committed_count < BATCH_ENTRIES && batch->open_bytes < BATCH_BYTES) {
        return 0;
    }
    return publisher->is_atomic ? commit_content(publisher, batch) : publish_batch(publisher);
}

int tar_publisher_finish(struct tar_publisher *publisher)
{
    int err = 0;
    const bool is_empty = publisher->entries_count == 0 && publisher->path_bytes > 0;
    if (publisher->batch || publisher->is_atomic || is_empty) {
        batch_now(publisher);
        err = publish_batch(publisher);
    }
    return err ? err : end_under_way(publisher);
}

void tar_publisher_result(struct tar_publisher *publisher, struct tar_result *ret_result)
{
    ret_result->published = publisher->published;
    publisher->published = BUF_INIT;
    ret_result->files_count = publisher->files_count;
    ret_result->length_bytes = publisher->length_bytes;
    ret_result->has_version = publisher->has_version;
    ret_result->version = publisher->version;
}

void tar_publisher_free(struct tar_publisher *publisher)
{
    if (!publisher) {
        return;
    }
    (void)end_under_way(publisher);
    batch_free(publisher->batch);
    pthread_cond_destroy(&publisher->done);
    pthread_mutex_destroy(&publisher->lock);
    buf_done(&publisher->published);
    free(publisher->path);
    free(publisher);
}
