/* SPDX-License-Identifier: Apache-2.0 */
#include "client/fetch.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "base/cleanup.h"
#include "base/err.h"
#include "base/mem.h"
#include "client/local_store.h"
#include "client/missing.h"
#include "hash/sha256.h"

/* Connections in a row that brought not one block: what is wrong will stay wrong. */
#define ATTEMPTS_MAX 3
#define ATTEMPT_PAUSE_MS 300

static void fail(struct client_response *response, const char *text)
{
    buf_clear(&response->failure);
    buf_add_string(&response->failure, text);
}

bool fetch_metadata(struct client *client, const struct id *id, struct file_metadata *ret_metadata,
                    struct client_response *response)
{
    char hex[ID_HEX_CHARS + 1];
    id_format(id, hex);
    CLEANUP_FREE char *target = mem_format("/files/%s/metadata", hex);
    const struct client_request request = {.target = target};
    if (!client_perform(client, &request, response)) {
        return false;
    }
    struct id actual;
    sha256_id(buf_bytes(&response->body), &actual);
    if (!id_equal(&actual, id) || file_metadata_parse(buf_bytes(&response->body), ret_metadata)) {
        fail(response, "the node gave a list of blocks that is not the one of this id");
        return false;
    }
    return true;
}

/* Some blocks in a row on their way. */
struct fetch {
    struct client *client;
    const struct id *id;
    const char *path;
    const struct file_metadata *metadata;
    const struct fetch_target *target;
    size_t first;
    size_t end;               /* behind the last one */
    uint64_t begin_bytes;     /* in the file, of the first one */
    uint64_t end_bytes;       /* behind the last one */
    uint64_t written_bytes;   /* up to there all is with the target */
    struct file_metadata run; /* the list of these blocks alone; borrows from `metadata` */
    struct verified *verified;
    bool is_wrong;
};

static int on_block(void *context, struct bytes data)
{
    struct fetch *fetch = context;
    const int err = fetch_target_take(fetch->target, fetch->written_bytes, data);
    fetch->written_bytes += err ? 0 : data.size;
    return err;
}

static int on_data(void *context, struct bytes data)
{
    struct fetch *fetch = context;
    if (fetch->target->arrived) {
        fetch->target->arrived(fetch->target->arrived_context, data.size);
    }
    const int err = verified_add(fetch->verified, data);
    fetch->is_wrong = err == -EBADMSG;
    return err;
}

static void pause_before_attempt(int attempt)
{
    const long pause_ms = (long)attempt * ATTEMPT_PAUSE_MS;
    const struct timespec pause = {pause_ms / 1000, pause_ms % 1000 * 1000000};
    nanosleep(&pause, NULL);
}

/* One connection: from the first block that is not here to the end of the run. */
static bool fetch_rest(struct fetch *fetch, struct client_response *response)
{
    char range[96];
    const uint64_t begin_bytes = fetch->begin_bytes + verified_restart(fetch->verified);
    const bool is_to_the_end = fetch->end == fetch->metadata->blocks_count;
    struct client_request request = {.target = fetch->path,
                                     .on_data = on_data,
                                     .context = fetch,
                                     .is_stopped = fetch->target->is_stopped};
    if (is_to_the_end) {
        snprintf(range, sizeof range, "Range: bytes=%" PRIu64 "-", begin_bytes);
    } else {
        snprintf(range, sizeof range, "Range: bytes=%" PRIu64 "-%" PRIu64, begin_bytes,
                 fetch->end_bytes - 1);
    }
    if (begin_bytes > 0 || !is_to_the_end) {
        request.headers[0] = range;
    }
    const bool good = client_perform(fetch->client, &request, response);
    if (fetch->is_wrong) {
        fail(response, "a byte is wrong");
    } else if (good && verified_end(fetch->verified)) {
        fail(response, "the node gave too little");
        return false;
    }
    return good;
}

/* `has_some`: the node is known to have given some of the file. */
static bool fetch_run(struct fetch *fetch, bool has_some, struct client_response *response)
{
    bool good = false;
    bool has_broken = false;
    for (int attempt = 1; !good && attempt <= ATTEMPTS_MAX; attempt++) {
        const size_t before = verified_block(fetch->verified);
        good = fetch_rest(fetch, response);
        has_broken = !good && !response->err && response->status < 300 && response->status > 0;
        if (!good && !has_broken && !(response->no_node && (has_some || before > 0))) {
            break;
        }
        if (verified_block(fetch->verified) > before) {
            attempt = 0;
        }
        if (!good) {
            pause_before_attempt(attempt + 1);
        }
    }
    if (!good && !response->no_node) {
        CLEANUP_FREE char *why = mem_copy_string(buf_string(&response->failure));
        buf_clear(&response->failure);
        buf_add_format(&response->failure, "block %zu of %zu: %s",
                       fetch->first + verified_block(fetch->verified),
                       fetch->metadata->blocks_count, why);
        if (has_broken) {
            missing_add(fetch->client, fetch->id, &response->failure);
        }
    }
    return good;
}

/* From block `fetch->first` on what is not with the target yet, up to the next one that is. False:
 * `response` tells why. */
static bool fetch_gap(struct fetch *fetch, const uint8_t *blocks, bool has_some,
                      struct client_response *response)
{
    const struct file_metadata *metadata = fetch->metadata;
    fetch->end = fetch->first;
    fetch->end_bytes = fetch->begin_bytes;
    while (fetch->end < metadata->blocks_count && blocks[fetch->end] != LOCAL_COPIED) {
        fetch->end_bytes += metadata->blocks[fetch->end++].size_bytes;
    }
    fetch->run = (struct file_metadata){.length_bytes = fetch->end_bytes - fetch->begin_bytes,
                                        .blocks = metadata->blocks + fetch->first,
                                        .blocks_count = fetch->end - fetch->first};
    fetch->written_bytes = fetch->begin_bytes;
    fetch->verified = verified_new(&fetch->run, on_block, fetch);
    const bool good = fetch_run(fetch, has_some, response);
    verified_free(fetch->verified);
    return good;
}

bool fetch_content(struct client *client, const struct id *id, const struct file_metadata *metadata,
                   const struct fetch_target *target, struct client_response *response)
{
    if (metadata->blocks_count == 0) {
        return true;
    }
    CLEANUP_FREE uint8_t *blocks = mem_alloc(metadata->blocks_count);
    const int err =
        target->local ? local_store_copy(target->local, client, id, metadata, target, blocks) : 0;
    if (err) {
        fail(response, err_text(err));
        response->err = err;
        return false;
    }
    char hex[ID_HEX_CHARS + 1];
    id_format(id, hex);
    CLEANUP_FREE char *path = mem_format("/files/%s/data", hex);
    struct fetch fetch = {
        .client = client, .id = id, .path = path, .metadata = metadata, .target = target};
    bool good = true;
    bool has_some = false;
    while (good && fetch.first < metadata->blocks_count) {
        if (blocks[fetch.first] == LOCAL_COPIED) {
            has_some = true;
            fetch.begin_bytes += metadata->blocks[fetch.first++].size_bytes;
        } else {
            good = fetch_gap(&fetch, blocks, has_some, response);
            has_some = true;
            fetch.first = fetch.end;
            fetch.begin_bytes = fetch.end_bytes;
        }
    }
    return good;
}
