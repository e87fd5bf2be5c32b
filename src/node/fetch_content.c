/* SPDX-License-Identifier: Apache-2.0 */
#include "node/fetch_content_priv.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/err.h"
#include "base/mem.h"
#include "hash/sha256.h"
#include "node/blocks_priv.h"
#include "node/fetch_files_priv.h"
#include "node/network_priv.h"
#include "node/node_priv.h"
#include "store/hold.h"
#include "store/read.h"

/* The text of a small file is checked at once. */
#define TEXT_BYTES_SMALL ((size_t)256)
/* Of small files, commits under way: while one is synced, the next one gathers. */
#define BATCHES_MAX 2u
/* As long as others are on their way, so many are waited for, or so long: a commit of a few files
 * writes as many pages as one of dozens, and where a sync takes no time all would be of a few. */
#define BATCH_ENOUGH 512u
#define BATCH_US ((uint64_t)10 * 1000)

/* ---- contents ----------------------------------------------------------------------------------
 */

struct content *content_new(struct fetch *fetch, const struct id *id, enum store_reason reason)
{
    struct content *content = mem_alloc(sizeof *content);
    content->fetch = fetch;
    content->id = *id;
    content->reason = reason;
    content->references = 1;
    pthread_mutex_init(&content->lock, NULL);
    pthread_mutex_lock(&fetch->contents_lock);
    HASH_ADD(hh, fetch->contents, id, sizeof content->id, content);
    pthread_mutex_unlock(&fetch->contents_lock);
    return content;
}

struct content *content_reference(struct content *content)
{
    content->references++;
    return content;
}

void content_release(struct content *content)
{
    if (!content || --content->references > 0) {
        return;
    }
    CHECK(!content->intake && !content->put);
    file_metadata_done(&content->metadata);
    buf_done(&content->text);
    free(content->have);
    pthread_mutex_destroy(&content->lock);
    free(content);
}

static struct content *find_content(struct fetch *fetch, const struct id *id)
{
    struct content *content = NULL;
    pthread_mutex_lock(&fetch->contents_lock);
    HASH_FIND(hh, fetch->contents, id, sizeof *id, content);
    if (content) {
        content_reference(content);
    }
    pthread_mutex_unlock(&fetch->contents_lock);
    return content;
}

bool content_is_coming(struct fetch *fetch, const struct id *id)
{
    const struct content *content = NULL;
    pthread_mutex_lock(&fetch->contents_lock);
    HASH_FIND(hh, fetch->contents, id, sizeof *id, content);
    pthread_mutex_unlock(&fetch->contents_lock);
    return content != NULL;
}

static bool bit_is_set(const uint8_t *bits, uint32_t index)
{
    return bits[index / 8] >> (index % 8) & 1;
}

bool content_has(struct content *content, uint32_t index)
{
    pthread_mutex_lock(&content->lock);
    const bool is_known = content->have && !content->is_small && !content->is_done &&
                          index < content->metadata.blocks_count;
    const bool has = content->is_done || (is_known && bit_is_set(content->have, index));
    pthread_mutex_unlock(&content->lock);
    /* It may have come by another place of the list, or by another file. */
    return has || (is_known && store_has_block(node_store(content->fetch->node),
                                               &content->metadata.blocks[index].id));
}

bool content_is_done(struct content *content)
{
    pthread_mutex_lock(&content->lock);
    const bool is_done = content->is_done;
    pthread_mutex_unlock(&content->lock);
    return is_done;
}

/* ---- what workers do, and tell the fetch thread ------------------------------------------------
 */

struct task {
    struct work work;
    struct fetch_news news;
    struct content *content;
    struct buf text;
    uint32_t index;
    int err;
    uint8_t *have;
};

static struct task *task_new(struct content *content)
{
    struct task *task = mem_alloc(sizeof *task);
    task->content = content_reference(content);
    return task;
}

static void task_free(struct task *task)
{
    content_release(task->content);
    buf_done(&task->text);
    free(task->have);
    free(task);
}

static void put_task(struct task *task, void (*run)(struct work *work))
{
    task->work.run = run;
    workers_put(task->content->fetch->workers, &task->work);
}

static void post_task(struct task *task, void (*run)(struct fetch *fetch, struct fetch_news *news))
{
    task->news.run = run;
    fetch_post(task->content->fetch, &task->news);
}

/* ---- opening -----------------------------------------------------------------------------------
 */

static bool is_small(const struct file_metadata *metadata)
{
    return metadata->blocks_count <= 1 && metadata->length_bytes <= CONTENT_SMALL_BYTES;
}

static int learn(struct content *content, struct bytes text)
{
    struct file_metadata metadata = FILE_METADATA_INIT;
    struct id id;
    sha256_id(text, &id);
    int err = id_equal(&id, &content->id) ? 0 : -EBADMSG;
    if (!err) {
        err = file_metadata_parse(text, &metadata) ? -EBADMSG : 0;
    }
    if (err) {
        file_metadata_done(&metadata);
        return err;
    }
    content->metadata = metadata;
    content->has_metadata = true;
    content->is_small = is_small(&metadata);
    return 0;
}

/* Who asked while it was being opened has this answer, too; but what is known by then may be of
 * more help than what was. */
static void run_opened(struct fetch *fetch, struct fetch_news *news)
{
    struct task *task = CONTAINER_OF(news, struct task, news);
    struct content *content = task->content;
    pthread_mutex_lock(&content->lock);
    const bool has_ended = content->is_closed;
    pthread_mutex_unlock(&content->lock);
    const bool opens_again = content->opens_again && !has_ended;
    content->is_opening = false;
    content->opens_again = false;
    if (task->err && opens_again) {
        content_open(content, buf_bytes(&content->text));
    } else {
        fetch_content_opened(fetch, content, task->err, task->have);
    }
    task_free(task);
}

/* What is here, for the answer and for those who read. */
static void take_have(struct content *content, struct task *task)
{
    const size_t size = STORE_INTAKE_HAVE_BYTES(content->metadata.blocks_count);
    task->have = mem_alloc(size + 1);
    pthread_mutex_lock(&content->lock);
    if (!content->have) {
        content->have = mem_alloc(size + 1);
    }
    if (content->intake) {
        store_intake_have(content->intake, task->have);
        memcpy(content->have, task->have, size);
    } else if (content->put) {
        memset(task->have, 1, size);
    }
    const bool is_coming = content->intake != NULL;
    pthread_mutex_unlock(&content->lock);
    if (is_coming) {
        blocks_set_have(content->fetch->blocks, &content->id, BYTES(task->have, size));
    }
}

static int end_intake(struct store_intake *intake, enum content_end how)
{
    switch (how) {
    case CONTENT_DROP:
        return store_intake_drop(intake);
    case CONTENT_ASIDE:
        return store_intake_set_aside(intake);
    case CONTENT_KEEP:
        break;
    }
    return store_intake_close(intake);
}

static int open_intake(struct content *content)
{
    struct store *store = node_store(content->fetch->node);
    struct store_intake *intake = NULL;
    pthread_mutex_lock(&content->lock);
    const bool is_open = content->intake || content->is_closed;
    const int closed = content->is_closed ? -ECANCELED : 0;
    pthread_mutex_unlock(&content->lock);
    if (is_open || closed) {
        return closed;
    }
    int err = store_intake_open(store, &content->metadata, content->reason, &intake);
    if (err) {
        return err;
    }
    pthread_mutex_lock(&content->lock);
    const bool is_late = content->is_closed;
    if (!is_late) {
        content->intake = intake;
    }
    pthread_mutex_unlock(&content->lock);
    if (!is_late) {
        return 0;
    }
    err = end_intake(intake, content->ends_as);
    return err ? err : -ECANCELED;
}

static bool begin_use(struct content *content);
static void end_use(struct content *content);
static int copy_block(struct content *content, uint32_t index);

/* A small one has no intake that would count what is here already, in another file. */
static bool has_small(const struct content *content)
{
    return content->is_small && content->metadata.blocks_count == 1 &&
           store_has_block(node_store(content->fetch->node), &content->metadata.blocks[0].id);
}

static void take_small(struct content *content)
{
    if (begin_use(content)) {
        const int err = copy_block(content, 0);
        (void)err; /* then it is fetched */
        end_use(content);
    }
}

static void work_open(struct work *work)
{
    struct task *task = CONTAINER_OF(work, struct task, work);
    struct content *content = task->content;
    if (!content->has_metadata && task->text.size > 0) {
        task->err = learn(content, buf_bytes(&task->text));
    } else if (!content->has_metadata) {
        struct store *store = node_store(content->fetch->node);
        task->err = store_file_metadata(store, &content->id, &content->metadata);
        content->has_metadata = task->err == 0;
        content->is_small = !task->err && is_small(&content->metadata);
    }
    if (!task->err && !content->is_small) {
        task->err = open_intake(content);
    } else if (!task->err && has_small(content)) {
        take_small(content);
    }
    if (!task->err) {
        take_have(content, task);
    }
    post_task(task, run_opened);
}

void content_open(struct content *content, struct bytes text)
{
    if (content->is_opening) {
        content->opens_again = true;
        buf_clear(&content->text);
        buf_add(&content->text, text);
        return;
    }
    struct task *task = task_new(content);
    content->is_opening = true;
    if (!content->has_metadata && text.size > 0 && text.size <= TEXT_BYTES_SMALL) {
        task->err = learn(content, text);
    } else if (!content->has_metadata) {
        buf_add(&task->text, text);
    }
    if (task->err || (content->has_metadata && content->is_small && !has_small(content))) {
        if (!task->err) {
            take_have(content, task);
        }
        task->news.run = run_opened;
        fetch_later(content->fetch, &task->news);
        return;
    }
    put_task(task, work_open);
}

/* ---- a file that is here already ---------------------------------------------------------------
 */

static void run_committed(struct fetch *fetch, struct fetch_news *news)
{
    struct task *task = CONTAINER_OF(news, struct task, news);
    fetch_content_committed(fetch, task->content, task->err);
    task_free(task);
}

static void work_take(struct work *work)
{
    struct task *task = CONTAINER_OF(work, struct task, work);
    struct content *content = task->content;
    struct store *store = node_store(content->fetch->node);
    struct store_file_info info;
    task->err = store_file_info(store, &content->id, &info);
    if (!task->err && content->reason != STORE_CACHE && info.holders[content->reason] == 0) {
        task->err = store_hold(store, &content->id, content->reason);
    }
    if (!task->err && !content->has_metadata) {
        task->err = store_file_metadata(store, &content->id, &content->metadata);
        content->has_metadata = !task->err;
    }
    if (!task->err) {
        /* If that fails it is tried again in the next life. */
        const int err = store_intake_forget(store, &content->id);
        (void)err;
        pthread_mutex_lock(&content->lock);
        content->is_done = true;
        pthread_mutex_unlock(&content->lock);
    }
    post_task(task, run_committed);
}

void content_take(struct content *content)
{
    put_task(task_new(content), work_take);
}

/* ---- blocks ------------------------------------------------------------------------------------
 */

static int make_put(struct content *content, const struct id *block, struct bytes bytes)
{
    struct id id;
    sha256_id(bytes, &id);
    const bool is_right = id_equal(&id, block) && content->metadata.blocks_count == 1 &&
                          bytes.size == content->metadata.blocks[0].size_bytes &&
                          id_equal(&id, &content->metadata.blocks[0].id);
    if (!is_right) {
        return -EBADMSG;
    }
    struct store_put *put = NULL;
    int err = store_put_begin(node_store(content->fetch->node), content->reason, &put);
    if (!err) {
        err = store_put_block(put, &id, bytes);
    }
    pthread_mutex_lock(&content->lock);
    if (!err && !content->put) {
        content->put = STEAL_PTR(put);
    }
    pthread_mutex_unlock(&content->lock);
    store_put_abort(put);
    return err;
}

static void finish_end(struct content *content);
static void begin_commit(struct content *content);

static bool begin_use(struct content *content)
{
    pthread_mutex_lock(&content->lock);
    const bool may = !content->is_closed && (content->intake || content->is_small);
    content->uses += may;
    pthread_mutex_unlock(&content->lock);
    return may;
}

/* The last one does what waited for it. */
static void end_use(struct content *content)
{
    pthread_mutex_lock(&content->lock);
    const bool is_last = --content->uses == 0;
    const bool ends = is_last && content->ends_as != 0;
    const bool commits = is_last && content->commits && !content->is_small;
    content->commits = content->commits && !commits;
    /* At once: who ends it from here on leaves the rest to the commit. */
    content->is_committing = content->is_committing || (commits && !ends);
    pthread_mutex_unlock(&content->lock);
    if (ends) {
        finish_end(content);
    } else if (commits) {
        begin_commit(content);
    }
}

static void run_came(struct fetch *fetch, struct fetch_news *news)
{
    struct task *task = CONTAINER_OF(news, struct task, news);
    task->content->is_told = false;
    fetch_content_came(fetch, task->content);
    task_free(task);
}

static int put_block(struct content *content, uint32_t index, const struct id *block,
                     struct bytes bytes)
{
    if (content->is_small) {
        return make_put(content, block, bytes);
    }
    const int err = store_intake_block(content->intake, index, bytes);
    if (err) {
        return err;
    }
    pthread_mutex_lock(&content->lock);
    if (content->have) {
        content->have[index / 8] |= (uint8_t)(1u << index % 8);
    }
    pthread_mutex_unlock(&content->lock);
    blocks_came(content->fetch->blocks, &content->id, index);
    if (content->is_read && !atomic_exchange(&content->is_told, true)) {
        post_task(task_new(content), run_came);
    }
    return 0;
}

int content_deliver(struct fetch *fetch, const struct id *file, uint32_t index,
                    const struct id *block, struct bytes bytes)
{
    struct content *content = find_content(fetch, file);
    if (!content) {
        return -ECANCELED;
    }
    int err = -ECANCELED;
    if (begin_use(content)) {
        err = put_block(content, index, block, bytes);
        end_use(content);
    }
    content_release(content);
    return err;
}

static void run_copied(struct fetch *fetch, struct fetch_news *news)
{
    struct task *task = CONTAINER_OF(news, struct task, news);
    fetch_content_copied(fetch, task->content, task->index, task->err);
    task_free(task);
}

static int copy_block(struct content *content, uint32_t index)
{
    struct store_view view;
    const struct id *block = &content->metadata.blocks[index].id;
    int err = store_view_open(node_store(content->fetch->node), block, &view);
    if (err) {
        return err;
    }
    err = put_block(content, index, block, view.bytes);
    store_view_close(&view);
    return err;
}

static void work_copy(struct work *work)
{
    struct task *task = CONTAINER_OF(work, struct task, work);
    task->err = -ECANCELED;
    if (begin_use(task->content)) {
        task->err = copy_block(task->content, task->index);
        end_use(task->content);
    }
    post_task(task, run_copied);
}

void content_copy(struct content *content, uint32_t index)
{
    struct task *task = task_new(content);
    task->index = index;
    put_task(task, work_copy);
}

/* ---- commits -----------------------------------------------------------------------------------
 */

static void commit_is_over(struct content *content, int err)
{
    struct task *task = task_new(content);
    task->err = err;
    post_task(task, run_committed);
}

/* On the writer thread. */
static void intake_done(void *context, int err)
{
    struct content *content = context;
    struct fetch *fetch = content->fetch;
    pthread_mutex_lock(&content->lock);
    if (!err) {
        content->intake = NULL;
        content->is_done = true;
    }
    content->is_committing = false;
    const bool ends = err && content->ends_as != 0; /* given up meanwhile */
    content->is_closed = content->ends_as != 0;
    pthread_mutex_unlock(&content->lock);
    if (ends) {
        finish_end(content);
    }
    commit_is_over(content, err);
    content_release(content);
    pthread_mutex_lock(&fetch->lock);
    fetch->commits_count--;
    pthread_cond_broadcast(&fetch->answered);
    pthread_mutex_unlock(&fetch->lock);
}

static void count_commit(struct fetch *fetch)
{
    pthread_mutex_lock(&fetch->lock);
    fetch->commits_count++;
    pthread_mutex_unlock(&fetch->lock);
}

/* `is_committing` is set. Waits while the writer has too much to do. */
static void begin_commit(struct content *content)
{
    count_commit(content->fetch);
    store_intake_commit_async(content->intake, intake_done, content_reference(content));
}

static void work_commit(struct work *work)
{
    struct task *task = CONTAINER_OF(work, struct task, work);
    store_intake_commit_async(task->content->intake, intake_done, content_reference(task->content));
    task_free(task);
}

void content_commit(struct content *content)
{
    struct fetch *fetch = content->fetch;
    if (content->is_small) {
        content_reference(content);
        content->next = NULL;
        if (!fetch->batch) {
            fetch->batch_us = network_now_us() + BATCH_US;
        }
        *fetch->batch_end = content;
        fetch->batch_end = &content->next;
        fetch->batch_count++;
        return;
    }
    pthread_mutex_lock(&content->lock);
    const bool is_busy = content->uses > 0;
    const bool has_intake = content->intake != NULL;
    const bool is_done = content->is_done;
    content->is_closed = content->is_closed || has_intake;
    content->commits = is_busy && has_intake;
    content->is_committing = !is_busy && has_intake;
    pthread_mutex_unlock(&content->lock);
    if (is_done) {
        content_take(content); /* but for the reason it is here: that lacked room */
    } else if (!has_intake) {
        commit_is_over(content, -EAGAIN);
    } else if (!is_busy) {
        count_commit(content->fetch); /* before it is with the workers, who end after the commits */
        put_task(task_new(content), work_commit);
    }
}

/* Small files that become known together. */
struct batch {
    struct work work;
    struct fetch_news news;
    struct fetch *fetch;
    struct content **contents;
    size_t count;
    int err;
};

static void run_batch_done(struct fetch *fetch, struct fetch_news *news)
{
    struct batch *batch = CONTAINER_OF(news, struct batch, news);
    fetch->batches_count--;
    for (size_t i = 0; i < batch->count; i++) {
        struct content *content = batch->contents[i];
        const bool is_done = content_is_done(content);
        /* What is not, has no bytes any more: they come again. */
        const int err = is_done ? 0 : batch->err ? batch->err : -EAGAIN;
        fetch_content_committed(fetch, content, err);
        content_release(content);
    }
    free((void *)batch->contents);
    free(batch);
}

/* On the writer thread. The puts are those of the contents that had one, in order: a content whose
 * put was not there is not done. */
static void batch_done(void *context, int err, const struct store_put_result *results)
{
    struct batch *batch = context;
    struct fetch *fetch = batch->fetch;
    batch->err = err;
    size_t next = 0;
    for (size_t i = 0; i < batch->count; i++) {
        struct content *content = batch->contents[i];
        pthread_mutex_lock(&content->lock);
        if (content->commits) {
            content->commits = false;
            content->is_done = !err && id_equal(&results[next++].id, &content->id);
        }
        pthread_mutex_unlock(&content->lock);
    }
    fetch_post(fetch, &batch->news);
    pthread_mutex_lock(&fetch->lock);
    fetch->commits_count--;
    pthread_cond_broadcast(&fetch->answered);
    pthread_mutex_unlock(&fetch->lock);
}

/* An empty file has no block that could have brought its put. */
static struct store_put *take_put(struct content *content)
{
    pthread_mutex_lock(&content->lock);
    struct store_put *put = STEAL_PTR(content->put);
    pthread_mutex_unlock(&content->lock);
    if (!put && content->metadata.blocks_count == 0 &&
        store_put_begin(node_store(content->fetch->node), content->reason, &put) != 0) {
        put = NULL;
    }
    pthread_mutex_lock(&content->lock);
    content->commits = put != NULL;
    pthread_mutex_unlock(&content->lock);
    return put;
}

static void work_batch(struct work *work)
{
    struct batch *batch = CONTAINER_OF(work, struct batch, work);
    struct store_put **puts = mem_alloc_array(batch->count, sizeof(struct store_put *));
    size_t puts_count = 0;
    for (size_t i = 0; i < batch->count; i++) {
        struct store_put *put = take_put(batch->contents[i]);
        if (put) {
            puts[puts_count++] = put;
        }
    }
    const struct store_commit commit = {
        .puts = puts,
        .puts_count = puts_count,
        .hold = true,
        .done = batch_done,
        .context = batch,
    };
    if (puts_count > 0) {
        store_commit_async(node_store(batch->fetch->node), &commit);
    } else {
        batch_done(batch, 0, NULL);
    }
    free((void *)puts);
}

static void begin_batch(struct fetch *fetch)
{
    struct batch *batch = mem_alloc(sizeof *batch);
    batch->fetch = fetch;
    batch->work.run = work_batch;
    batch->news.run = run_batch_done;
    batch->contents = mem_alloc_array(CONTENT_BATCH_FILES, sizeof(struct content *));
    uint64_t bytes = 0;
    while (fetch->batch && batch->count < CONTENT_BATCH_FILES && bytes < CONTENT_BATCH_BYTES) {
        struct content *content = fetch->batch;
        fetch->batch = content->next;
        bytes += content->metadata.length_bytes;
        batch->contents[batch->count++] = content;
    }
    fetch->batch_count -= batch->count;
    if (!fetch->batch) {
        fetch->batch_end = &fetch->batch;
    }
    fetch->batches_count++;
    count_commit(fetch);
    workers_put(fetch->workers, &batch->work);
}

/* Nothing that would come soon is waited for. */
static bool is_batch_due(const struct fetch *fetch)
{
    return fetch->batch_count >= BATCH_ENOUGH || network_now_us() >= fetch->batch_us ||
           HASH_COUNT(fetch->files) == fetch->settling_count;
}

void contents_due(struct fetch *fetch)
{
    while (fetch->batch && fetch->batches_count < BATCHES_MAX && is_batch_due(fetch)) {
        begin_batch(fetch);
    }
}

uint64_t contents_next_us(const struct fetch *fetch)
{
    return fetch->batch && fetch->batches_count < BATCHES_MAX ? fetch->batch_us : UINT64_MAX;
}

/* ---- ends --------------------------------------------------------------------------------------
 */

static void work_end(struct work *work)
{
    struct task *task = CONTAINER_OF(work, struct task, work);
    struct content *content = task->content;
    pthread_mutex_lock(&content->lock);
    struct store_intake *intake = STEAL_PTR(content->intake);
    struct store_put *put = STEAL_PTR(content->put);
    const enum content_end how = content->ends_as;
    pthread_mutex_unlock(&content->lock);
    store_put_abort(put);
    const int err = end_intake(intake, how);
    (void)err; /* it can be gone on with in any case, as far as it was flushed */
    task_free(task);
}

static void finish_end(struct content *content)
{
    put_task(task_new(content), work_end);
}

void content_end(struct content *content, enum content_end how)
{
    struct fetch *fetch = content->fetch;
    pthread_mutex_lock(&fetch->contents_lock);
    HASH_DELETE(hh, fetch->contents, content);
    pthread_mutex_unlock(&fetch->contents_lock);
    pthread_mutex_lock(&content->lock);
    content->is_closed = true;
    content->ends_as = how;
    const bool is_busy = content->uses > 0;
    const bool has_any = !content->is_committing && (content->intake || content->put);
    pthread_mutex_unlock(&content->lock);
    if (!is_busy && has_any) {
        finish_end(content);
    }
}

void contents_end(struct fetch *fetch)
{
    while (fetch->batch) {
        struct content *content = fetch->batch;
        fetch->batch = content->next;
        content_release(content);
    }
    fetch->batch_end = &fetch->batch;
}
