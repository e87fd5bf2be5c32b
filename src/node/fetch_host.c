/* SPDX-License-Identifier: Apache-2.0 */

/*
 * What transfer asks of its host: messages to peers by blocks, the disk by contents, and holders by
 * locate. Locate tells in the middle of its work, so what it found is handed on a little later.
 */

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/mem.h"
#include "node/blocks_priv.h"
#include "node/fetch_files_priv.h"
#include "node/network_priv.h"

/* ---- peers -------------------------------------------------------------------------------------
 */

static void host_ask(void *context, const struct node_id *peer, uint32_t number, uint8_t flags,
                     const struct id *file)
{
    struct fetch *fetch = context;
    blocks_ask(fetch->blocks, peer, number, flags, file);
}

static void host_stop(void *context, const struct node_id *peer, const struct id *file)
{
    struct fetch *fetch = context;
    blocks_stop_growth(fetch->blocks, peer, file);
}

static void host_request(void *context, const struct node_id *peer, uint32_t number, bool insists,
                         const struct id *file, const struct transfer_part *parts,
                         size_t parts_count)
{
    struct fetch *fetch = context;
    blocks_request(fetch->blocks, peer, number, insists, file, parts, parts_count);
}

static void host_cancel(void *context, const struct node_id *peer, uint32_t number)
{
    struct fetch *fetch = context;
    blocks_cancel(fetch->blocks, peer, number);
}

static void host_shunned(void *context, const struct node_id *peer)
{
    struct fetch *fetch = context;
    pthread_mutex_lock(&fetch->lock);
    fetch->shunned[fetch->shunned_count % FETCH_SHUNNED_MAX] = (struct fetch_shunned){
        .node = *peer,
        .until_us = network_now_us() + TRANSFER_SHUNNED_MS * 1000ull,
    };
    fetch->shunned_count++;
    pthread_mutex_unlock(&fetch->lock);
    char id[NODE_ID_HEX_CHARS + 1];
    node_id_format(peer, id);
    log_warn("source_shunned", KV("member", (const char *)id));
}

/* ---- holders -----------------------------------------------------------------------------------
 */

/* A block may have the id of a file: of one whose content is the text of another file's list. */
struct seek_key {
    struct id id;
    uint8_t is_block;
};

struct fetch_seek {
    struct fetch_find find;
    struct seek_key key;
    bool is_final;     /* locate has said its last word, and transfer has not heard it yet */
    UT_hash_handle hh; /* by key */
};

struct found {
    struct fetch_news news;
    struct seek_key key;
    uint64_t number; /* of the find */
    struct transfer_holder *holders;
    size_t holders_count;
    bool is_final;
    struct locate_answer *answers;
    size_t answers_count;
    size_t unasked_count;
};

static struct seek_key key_of(const struct id *id, bool is_block)
{
    return (struct seek_key){.id = *id, .is_block = is_block};
}

static struct fetch_seek *find_seek(struct fetch *fetch, const struct seek_key *key)
{
    struct fetch_seek *seek = NULL;
    HASH_FIND(hh, fetch->seeks, key, sizeof *key, seek);
    return seek;
}

static void end_seek(struct fetch *fetch, struct fetch_seek *seek)
{
    if (!seek->is_final) {
        fetch_find_end(fetch, &seek->find);
    }
    HASH_DELETE(hh, fetch->seeks, seek);
    free(seek);
}

/* Of a file, the answers are for those who wait for it. */
static void keep_answers(struct fetch *fetch, struct found *found)
{
    struct fetch_file *file = found->key.is_block ? NULL : fetch_file_find(fetch, &found->key.id);
    if (file && found->is_final) {
        free(file->answers);
        file->answers = STEAL_PTR(found->answers);
        file->answers_count = found->answers_count;
    }
}

static void run_found(struct fetch *fetch, struct fetch_news *news)
{
    struct found *found = CONTAINER_OF(news, struct found, news);
    struct fetch_seek *seek = find_seek(fetch, &found->key);
    if (seek && seek->find.number == found->number) {
        if (found->is_final) {
            end_seek(fetch, seek);
        }
        keep_answers(fetch, found);
        transfer_found(fetch->transfer, network_now_us(), &found->key.id, found->key.is_block,
                       found->holders, found->holders_count, found->is_final, found->unasked_count);
    }
    free(found->holders);
    free(found->answers);
    free(found);
}

static void seek_found(struct fetch *fetch, struct fetch_find *find,
                       const struct locate_found *located)
{
    struct fetch_seek *seek = CONTAINER_OF(find, struct fetch_seek, find);
    struct found *found = mem_alloc(sizeof *found);
    found->news.run = run_found;
    found->key = seek->key;
    found->number = find->number;
    found->is_final = located->is_final;
    found->holders = mem_alloc_array(located->holders_count + 1, sizeof *found->holders);
    for (size_t i = 0; i < located->holders_count; i++) {
        const struct locate_held_by *holder = &located->holders[i];
        if (!node_id_equal(&holder->node, node_identity(fetch->node))) {
            found->holders[found->holders_count++] = (struct transfer_holder){
                .node = holder->node,
                .state = holder->state == LOCATE_COMPLETE ? TRANSFER_COMPLETE : TRANSFER_PARTIAL,
            };
        }
    }
    if (located->is_final && located->answers_count > 0) {
        found->answers =
            mem_copy(located->answers, located->answers_count * sizeof *located->answers);
        found->answers_count = located->answers_count;
    }
    for (size_t i = 0; i < found->answers_count; i++) {
        found->unasked_count += found->answers[i].outcome >= LOCATE_SILENT;
    }
    seek->is_final = located->is_final;
    fetch_later(fetch, &found->news);
}

/* Too many are looked for: as if nobody could be asked, so it is tried again. */
static void find_nothing(struct fetch *fetch, struct fetch_seek *seek)
{
    struct found *found = mem_alloc(sizeof *found);
    found->news.run = run_found;
    found->key = seek->key;
    found->number = seek->find.number;
    found->is_final = true;
    found->unasked_count = 1;
    seek->is_final = true;
    fetch_later(fetch, &found->news);
}

static void host_find(void *context, const struct id *id, bool is_block,
                      const struct node_id *publisher, bool everyone)
{
    struct fetch *fetch = context;
    const struct seek_key key = key_of(id, is_block);
    struct fetch_seek *seek = find_seek(fetch, &key);
    if (seek) {
        end_seek(fetch, seek);
    }
    seek = mem_alloc(sizeof *seek);
    seek->key = key;
    seek->find = (struct fetch_find){
        .key = ring_key_of(id),
        .depth = everyone ? LOCATE_EVERYONE : LOCATE_UNTIL_COMPLETE,
        .has_publisher = publisher != NULL,
        .found = seek_found,
    };
    if (publisher) {
        seek->find.publisher = *publisher;
    }
    HASH_ADD(hh, fetch->seeks, key, sizeof seek->key, seek);
    if (fetch_find_begin(fetch, &seek->find)) {
        find_nothing(fetch, seek);
    }
}

static void host_find_end(void *context, const struct id *id, bool is_block)
{
    struct fetch *fetch = context;
    const struct seek_key key = key_of(id, is_block);
    struct fetch_seek *seek = find_seek(fetch, &key);
    if (seek) {
        end_seek(fetch, seek);
    }
}

void fetch_seeks_end(struct fetch *fetch)
{
    struct fetch_seek *seek = NULL;
    struct fetch_seek *next = NULL;
    HASH_ITER(hh, fetch->seeks, seek, next)
    {
        end_seek(fetch, seek);
    }
}

/* ---- the disk ----------------------------------------------------------------------------------
 */

static void host_open(void *context, const struct id *id, struct bytes metadata_text)
{
    struct fetch *fetch = context;
    struct fetch_file *file = fetch_file_find(fetch, id);
    CHECK(file);
    file->is_resuming = false;
    content_open(file->content, metadata_text);
}

static void host_copy(void *context, const struct id *id, uint32_t index)
{
    struct fetch *fetch = context;
    struct fetch_file *file = fetch_file_find(fetch, id);
    CHECK(file);
    content_copy(file->content, index);
}

static void host_commit(void *context, const struct id *id)
{
    struct fetch *fetch = context;
    struct fetch_file *file = fetch_file_find(fetch, id);
    CHECK(file);
    fetch_file_commit(fetch, file);
}

static void host_changed(void *context, const struct id *id)
{
    struct fetch *fetch = context;
    struct fetch_file *file = fetch_file_find(fetch, id);
    if (file) {
        fetch_file_changed(fetch, file);
    }
}

static void host_ended(void *context, const struct id *id, int err)
{
    struct fetch *fetch = context;
    struct fetch_file *file = fetch_file_find(fetch, id);
    CHECK(file);
    fetch_file_ended(fetch, file, err);
}

struct transfer_host fetch_transfer_host(struct fetch *fetch)
{
    return (struct transfer_host){
        .ask = host_ask,
        .stop = host_stop,
        .request = host_request,
        .cancel = host_cancel,
        .find = host_find,
        .find_end = host_find_end,
        .open = host_open,
        .copy = host_copy,
        .commit = host_commit,
        .changed = host_changed,
        .ended = host_ended,
        .shunned = host_shunned,
        .context = fetch,
    };
}
