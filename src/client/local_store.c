/* SPDX-License-Identifier: Apache-2.0 */

/*
 * What comes is seen in the index: an intake names its blocks each 64 MiB, or each second, and with
 * the commit at its end. They come in the order that suits the network, so they are copied to their
 * places in whatever order they are found, while others come. One request to the node (GET
 * /fetches/ID) keeps the fetch going as long as this process lives, and tells when it is over.
 *
 * The bytes are read into a buffer, compared, and written from there: the segment may change under
 * a mapping between the two, and a disk that can't be read would end the process.
 */

#include "client/local_store.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/mem.h"
#include "client/entry.h"
#include "client/local_node.h"
#include "client/text.h"
#include "kv/kv.h"
#include "store/read.h"

/* Whole spans of checksums, and little enough to stay in the second-level cache. */
#define PIECE_BYTES ((uint32_t)4 * STORE_SPAN_BYTES)
/* Between two looks at whether the index has changed. */
#define LOOK_EVERY_US ((uint64_t)10 * 1000)
/* To look for a block in vain takes one or two: a tenth of the time goes into that at most. */
#define LOOK_US_A_BLOCK ((uint64_t)20)
/* All is said to be here, and nothing more is named by the index: the node's disk is slow, or the
 * blocks are gone again. */
#define NAMED_WITHIN_MS 5000u

/* ---- the store --------------------------------------------------------------------------------
 */

/* Who writes the index, or can put another one or other segments there, says which bytes are right.
 */
static bool is_trusted(const char *data)
{
    static const char *const parts[] = {"", "/index", "/index/data.mdb", "/segments"};
    for (size_t i = 0; i < ARRAY_SIZE(parts); i++) {
        CLEANUP_FREE char *path = mem_format("%s%s", data, parts[i]);
        struct stat info;
        if (lstat(path, &info) < 0 || S_ISLNK(info.st_mode) ||
            (info.st_uid != 0 && info.st_uid != geteuid()) || (info.st_mode & 0022)) {
            return false;
        }
    }
    return true;
}

struct store *local_store_open(struct client *client)
{
    CLEANUP_RESPONSE struct client_response response = CLIENT_RESPONSE_INIT;
    CLEANUP(client_free) struct client *local = NULL;
    json_t *status = NULL;
    if (local_node_find(client, NULL, &local, &status, &response) != 0) {
        return NULL;
    }
    /* The socket stands in the data directory. */
    CLEANUP_FREE char *data = mem_copy_string(entry_text(status, "socket"));
    json_decref(status);
    const size_t directory_size = (size_t)(text_last_name(data) - data);
    data[directory_size > 0 ? directory_size - 1 : 0] = 0;
    const struct store_options options = {.path = data, .read_only = true, .must_exist = true};
    struct store *store = NULL;
    if (*data != '/' || !is_trusted(data) || store_open(&options, &store) != 0) {
        return NULL;
    }
    return store;
}

/* ---- the request that keeps the fetch going ---------------------------------------------------
 */

struct keeper {
    struct client *client;
    char *target;
    pthread_t thread;
    atomic_bool is_stopped;
    pthread_mutex_t lock; /* over the rest */
    pthread_cond_t changed;
    enum keeper_state { KEEPER_WAITS, KEEPER_WHOLE, KEEPER_FAILED } state;
};

static void *keep(void *argument)
{
    struct keeper *keeper = argument;
    CLEANUP_RESPONSE struct client_response response = CLIENT_RESPONSE_INIT;
    const struct client_request request = {.target = keeper->target,
                                           .is_stopped = &keeper->is_stopped};
    const bool is_whole = client_perform(keeper->client, &request, &response);
    pthread_mutex_lock(&keeper->lock);
    keeper->state = is_whole ? KEEPER_WHOLE : KEEPER_FAILED;
    pthread_cond_signal(&keeper->changed);
    pthread_mutex_unlock(&keeper->lock);
    return NULL;
}

static void keeper_done(struct keeper *keeper)
{
    pthread_cond_destroy(&keeper->changed);
    pthread_mutex_destroy(&keeper->lock);
    client_free(keeper->client);
    free(keeper->target);
}

static bool keeper_start(struct keeper *keeper, struct client *client, const struct id *id)
{
    char hex[ID_HEX_CHARS + 1];
    id_format(id, hex);
    keeper->client = client_clone(client);
    keeper->target = mem_format("/fetches/%s", hex);
    pthread_mutex_init(&keeper->lock, NULL);
    clock_init_condition(&keeper->changed);
    if (pthread_create(&keeper->thread, NULL, keep, keeper) != 0) {
        keeper_done(keeper);
        return false;
    }
    return true;
}

static void keeper_stop(struct keeper *keeper)
{
    atomic_store(&keeper->is_stopped, true);
    pthread_join(keeper->thread, NULL);
    keeper_done(keeper);
}

static uint64_t now_ms(void)
{
    return clock_monotonic_ms(clock_real());
}

/* Waits so long, or until the request is over if it was not `before`. */
static enum keeper_state keeper_wait(struct keeper *keeper, enum keeper_state before,
                                     uint64_t wait_us)
{
    const uint64_t until_us = now_ms() * 1000 + wait_us;
    pthread_mutex_lock(&keeper->lock);
    while (keeper->state == before &&
           clock_wait_until(&keeper->changed, &keeper->lock, until_us) != -ETIMEDOUT) {
    }
    const enum keeper_state state = keeper->state;
    pthread_mutex_unlock(&keeper->lock);
    return state;
}

/* ---- copies -----------------------------------------------------------------------------------
 */

struct copy {
    struct store *store;
    const struct file_metadata *metadata;
    const struct fetch_target *target;
    uint8_t *blocks;
    size_t lacking_count;
    uint64_t version; /* of the index, when it was looked at last */
    uint8_t *buffer;
    int err; /* of the target */
};

/* Without write_at a block goes as a whole: what was written can't be written again. */
static uint32_t piece_bytes(const struct copy *copy, uint32_t left_bytes)
{
    return copy->target->write_at && left_bytes > PIECE_BYTES ? PIECE_BYTES : left_bytes;
}

static int copy_block(struct copy *copy, const struct block_ref *block, uint64_t offset_bytes)
{
    uint32_t done_bytes = 0;
    while (done_bytes < block->size_bytes) {
        const uint32_t bytes = piece_bytes(copy, block->size_bytes - done_bytes);
        const int err = store_read_block(copy->store, &block->id, done_bytes, copy->buffer, bytes);
        if (err) {
            return err;
        }
        copy->err =
            fetch_target_take(copy->target, offset_bytes + done_bytes, BYTES(copy->buffer, bytes));
        if (copy->err) {
            return copy->err;
        }
        done_bytes += bytes;
    }
    if (copy->target->arrived) {
        copy->target->arrived(copy->target->arrived_context, block->size_bytes);
    }
    return 0;
}

static bool is_stopped(const struct copy *copy)
{
    return copy->target->is_stopped && *copy->target->is_stopped;
}

/* Copies what is there of what lacks. True: it was something. */
static bool look(struct copy *copy)
{
    const size_t before_count = copy->lacking_count;
    uint64_t offset_bytes = 0;
    copy->version = kv_version(store_kv(copy->store));
    for (size_t i = 0; i < copy->metadata->blocks_count && !is_stopped(copy); i++) {
        const struct block_ref *block = &copy->metadata->blocks[i];
        if (copy->blocks[i] == LOCAL_LACKS) {
            const int err = copy_block(copy, block, offset_bytes);
            if (copy->err || (err && !copy->target->write_at)) {
                break;
            }
            if (err != -ENOENT) {
                copy->blocks[i] = err ? LOCAL_BAD : LOCAL_COPIED;
                copy->lacking_count--;
            }
        }
        offset_bytes += block->size_bytes;
    }
    return copy->lacking_count < before_count;
}

static void copy_what_comes(struct copy *copy, struct keeper *keeper)
{
    enum keeper_state state = KEEPER_WAITS;
    uint64_t news_ms = now_ms();
    while (copy->lacking_count > 0 && !copy->err && !is_stopped(copy)) {
        const uint64_t look_us = LOOK_US_A_BLOCK * copy->lacking_count;
        const enum keeper_state now =
            keeper_wait(keeper, state, look_us > LOOK_EVERY_US ? look_us : LOOK_EVERY_US);
        const bool has_changed = kv_version(store_kv(copy->store)) != copy->version;
        const bool is_news = (has_changed && look(copy)) || now != state;
        state = now;
        news_ms = is_news ? now_ms() : news_ms;
        if (state == KEEPER_FAILED ||
            (state == KEEPER_WHOLE && now_ms() - news_ms > NAMED_WITHIN_MS)) {
            break;
        }
    }
}

int local_store_copy(struct store *store, struct client *client, const struct id *id,
                     const struct file_metadata *metadata, const struct fetch_target *target,
                     uint8_t *blocks)
{
    uint32_t buffer_bytes = PIECE_BYTES;
    for (size_t i = 0; i < metadata->blocks_count && !target->write_at; i++) {
        const uint32_t size_bytes = metadata->blocks[i].size_bytes;
        buffer_bytes = size_bytes > buffer_bytes ? size_bytes : buffer_bytes;
    }
    CLEANUP_FREE uint8_t *buffer = mem_alloc_aligned(64, buffer_bytes);
    struct copy copy = {
        .store = store,
        .metadata = metadata,
        .target = target,
        .blocks = blocks,
        .lacking_count = metadata->blocks_count,
        .buffer = buffer,
    };
    (void)look(&copy);
    struct keeper keeper = {0};
    if (copy.lacking_count > 0 && !copy.err && target->write_at &&
        keeper_start(&keeper, client, id)) {
        copy_what_comes(&copy, &keeper);
        keeper_stop(&keeper);
    }
    return copy.err;
}
