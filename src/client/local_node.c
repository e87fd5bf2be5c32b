/* SPDX-License-Identifier: Apache-2.0 */
#include "client/local_node.h"

#include <errno.h>
#include <string.h>

#include "client/entry.h"

/* Where the socket of the node that was asked stands elsewhere, another node's may stand here,
 * which is frozen or stopped for debugging: nobody waits for that one for good. */
#define SILENCE_MS_MAX 10000u

static json_t *ask_status(struct client *client, uint64_t silence_ms_max,
                          const _Atomic bool *is_stopped, struct client_response *response)
{
    const struct client_request request = {
        .target = "/status", .silence_ms_max = silence_ms_max, .is_stopped = is_stopped};
    if (!client_perform(client, &request, response)) {
        return NULL;
    }
    return json_loadb(buf_string(&response->body), response->body.size, 0, NULL);
}

int local_node_find(struct client *client, const _Atomic bool *is_stopped,
                    struct client **ret_local, json_t **ret_status,
                    struct client_response *response)
{
    json_t *status = ask_status(client, 0, is_stopped, response);
    if (!status) {
        return -EIO;
    }
    const char *path = entry_text(status, "socket");
    const bool is_unix = client_is_unix(client);
    struct client *local = is_unix        ? client_clone(client)
                           : *path == '/' ? client_new_unix(path)
                                          : NULL;
    json_t *same = is_unix ? json_incref(status)
                   : local ? ask_status(local, SILENCE_MS_MAX, is_stopped, response)
                           : NULL;
    const bool good = *entry_text(status, "node") &&
                      strcmp(entry_text(status, "node"), entry_text(same, "node")) == 0;
    json_decref(status);
    if (!good) {
        json_decref(same);
        client_free(local);
        return -ENOENT;
    }
    *ret_local = local;
    if (ret_status) {
        *ret_status = same;
    } else {
        json_decref(same);
    }
    return 0;
}
