/* SPDX-License-Identifier: Apache-2.0 */

/* Requests to the node: each thread that has one takes a client of those that are spare. */

#include <inttypes.h>
#include <stdlib.h>

#include "base/cleanup.h"
#include "base/err.h"
#include "base/mem.h"
#include "client/percent.h"
#include "fuse/mount_priv.h"

struct client *ask_client(struct mount *mount)
{
    struct client *client = NULL;
    pthread_mutex_lock(&mount->spare_lock);
    if (mount->spare_clients_count > 0) {
        client = mount->spare_clients[--mount->spare_clients_count];
    }
    pthread_mutex_unlock(&mount->spare_lock);
    return client ? client : client_new_unix(mount->socket_path);
}

void ask_done(struct mount *mount, struct client *client)
{
    pthread_mutex_lock(&mount->spare_lock);
    if (mount->spare_clients_count < SPARE_MAX) {
        mount->spare_clients[mount->spare_clients_count++] = STEAL_PTR(client);
    }
    pthread_mutex_unlock(&mount->spare_lock);
    client_free(client);
}

void ask_free(struct mount *mount)
{
    while (mount->spare_clients_count > 0) {
        client_free(mount->spare_clients[--mount->spare_clients_count]);
    }
    while (mount->spare_buffers_count > 0) {
        free(mount->spare_buffers[--mount->spare_buffers_count]);
    }
}

void *buffer_take(struct mount *mount)
{
    void *buffer = NULL;
    pthread_mutex_lock(&mount->spare_lock);
    if (mount->spare_buffers_count > 0) {
        buffer = mount->spare_buffers[--mount->spare_buffers_count];
    }
    pthread_mutex_unlock(&mount->spare_lock);
    return buffer ? buffer : mem_alloc_aligned(4096, READ_BYTES_MAX);
}

void buffer_give(struct mount *mount, void *buffer)
{
    pthread_mutex_lock(&mount->spare_lock);
    if (mount->spare_buffers_count < SPARE_MAX) {
        mount->spare_buffers[mount->spare_buffers_count++] = STEAL_PTR(buffer);
    }
    pthread_mutex_unlock(&mount->spare_lock);
    free(buffer);
}

static const struct {
    const char *code;
    int err;
} codes[] = {
    {"not_found", -ENOENT},      {"exists", -EEXIST},       {"is_directory", -EISDIR},
    {"not_directory", -ENOTDIR}, {"not_empty", -ENOTEMPTY}, {"condition_failed", -EEXIST},
    {"too_large", -EFBIG},       {"no_space", -ENOSPC},     {"path_too_long", -ENAMETOOLONG},
    {"bad_utf8", -EILSEQ},       {"bad_path", -EINVAL},     {"bad_body", -EINVAL},
    {"bad_query", -EINVAL},      {"bad_tar", -EINVAL},
};

/* What a request that failed is to a program. */
static int failure(const struct client_response *response)
{
    for (size_t i = 0; i < ARRAY_SIZE(codes); i++) {
        if (client_is_code(response, codes[i].code)) {
            return codes[i].err;
        }
    }
    return response->no_node ? -ENOTCONN : -EIO;
}

int ask(struct mount *mount, const struct client_request *request, struct client_response *response)
{
    struct client_request own = *request;
    own.is_stopped = &mount->is_silent;
    if (mount->is_silent) {
        return -ENOTCONN;
    }
    mount->asks_begun++;
    struct client *client = ask_client(mount);
    const bool good = client_perform(client, &own, response);
    ask_done(mount, client);
    mount->asks_ended++;
    return good ? 0 : mount->is_silent ? -ENOTCONN : failure(response);
}

void ask_target(struct buf *target, struct bytes path)
{
    CLEANUP_FREE char *text = mem_format("%.*s", (int)path.size, (const char *)path.data);
    buf_add_string(target, "/fs/");
    percent_add_path(target, text);
}

void ask_add_time(struct buf *text, int64_t ns)
{
    buf_add_format(text, "%s%" PRId64 ".%09" PRId64, ns < 0 ? "-" : "",
                   (int64_t)llabs(ns / 1000000000), (int64_t)llabs(ns % 1000000000));
}

int ask_change(struct mount *mount, struct bytes path, const char *json)
{
    CLEANUP_RESPONSE struct client_response response = CLIENT_RESPONSE_INIT;
    CLEANUP_BUF struct buf target = BUF_INIT;
    ask_target(&target, path);
    buf_add_string(&target, "?ack=0");
    const struct client_request request = {
        .method = "POST",
        .target = buf_string(&target),
        .headers = {"Content-Type: application/json"},
        .body = bytes_of_string(json),
        .silence_ms_max = CHANGE_SILENCE_MS_MAX,
    };
    return ask(mount, &request, &response);
}

int ask_delete(struct mount *mount, struct bytes path)
{
    CLEANUP_RESPONSE struct client_response response = CLIENT_RESPONSE_INIT;
    CLEANUP_BUF struct buf target = BUF_INIT;
    ask_target(&target, path);
    buf_add_string(&target, "?ack=0");
    const struct client_request request = {
        .method = "DELETE",
        .target = buf_string(&target),
        .silence_ms_max = CHANGE_SILENCE_MS_MAX,
    };
    return ask(mount, &request, &response);
}
