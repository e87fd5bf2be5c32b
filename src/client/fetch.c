/* SPDX-License-Identifier: Apache-2.0 */
#include "client/fetch.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "base/cleanup.h"
#include "base/mem.h"
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

struct fetch {
    struct verified *verified;
    const struct fetch_target *target;
    bool is_wrong;
};

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

/* One connection: from the first block that is not here to the end. */
static bool fetch_rest(struct client *client, const char *path, struct fetch *fetch,
                       struct client_response *response)
{
    char range[64];
    snprintf(range, sizeof range, "Range: bytes=%" PRIu64 "-", verified_restart(fetch->verified));
    struct client_request request = {.target = path,
                                     .on_data = on_data,
                                     .context = fetch,
                                     .is_stopped = fetch->target->is_stopped};
    if (verified_block(fetch->verified) > 0) {
        request.headers[0] = range;
    }
    const bool good = client_perform(client, &request, response);
    if (fetch->is_wrong) {
        fail(response, "a byte is wrong");
    } else if (good && verified_end(fetch->verified)) {
        fail(response, "the node gave too little");
        return false;
    }
    return good;
}

bool fetch_content(struct client *client, const struct id *id, const struct file_metadata *metadata,
                   const struct fetch_target *target, struct client_response *response)
{
    if (metadata->blocks_count == 0) {
        return true;
    }
    char hex[ID_HEX_CHARS + 1];
    id_format(id, hex);
    CLEANUP_FREE char *path = mem_format("/files/%s/data", hex);
    struct fetch fetch = {
        .verified = verified_new(metadata, target->write, target->write_context),
        .target = target,
    };
    bool good = false;
    for (int attempt = 1; !good && attempt <= ATTEMPTS_MAX; attempt++) {
        const size_t before = verified_block(fetch.verified);
        good = fetch_rest(client, path, &fetch, response);
        const bool has_broken =
            !good && !response->err && response->status < 300 && response->status > 0;
        if (!good && !has_broken && !(response->no_node && before > 0)) {
            break;
        }
        if (verified_block(fetch.verified) > before) {
            attempt = 0;
        }
        if (!good) {
            pause_before_attempt(attempt + 1);
        }
    }
    if (!good && !response->no_node) {
        CLEANUP_FREE char *why = mem_copy_string(buf_string(&response->failure));
        buf_clear(&response->failure);
        buf_add_format(&response->failure, "block %zu of %zu: %s", verified_block(fetch.verified),
                       metadata->blocks_count, why);
    }
    verified_free(fetch.verified);
    return good;
}
