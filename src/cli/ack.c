/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/ack.h"

#include <inttypes.h>
#include <jansson.h>

#include "base/err.h"
#include "cli/entry.h"

/* What a node takes (docs/API.md). */
#define COUNT_MAX 32u
#define WAIT_S_MAX 3600u
#define STATUS_ACCEPTED 202

bool ack_check(const struct invocation *invocation)
{
    uint64_t number = 0;
    int err = config_number(invocation->config, "ack", COUNT_MAX, &number);
    if (err && err != -ENOENT) {
        cli_usage(invocation, "--ack takes a number of nodes up to %u", COUNT_MAX);
        return false;
    }
    err = config_number(invocation->config, "ack-wait", WAIT_S_MAX, &number);
    if ((err && err != -ENOENT) || (!err && number == 0)) {
        cli_usage(invocation, "--ack-wait takes a number of seconds up to %u", WAIT_S_MAX);
        return false;
    }
    return true;
}

static void add_number(const struct invocation *invocation, const char *key, const char *name,
                       uint64_t limit, struct buf *target)
{
    uint64_t number = 0;
    if (config_number(invocation->config, key, limit, &number) == 0) {
        const bool has_query = memchr(target->data, '?', target->size) != NULL;
        buf_add_format(target, "%c%s=%" PRIu64, has_query ? '&' : '?', name, number);
    }
}

void ack_add(const struct invocation *invocation, struct buf *target)
{
    add_number(invocation, "ack", "ack", COUNT_MAX, target);
    add_number(invocation, "ack-wait", "ack_wait", WAIT_S_MAX, target);
}

bool ack_is_reached(const struct client_response *response, struct buf *ret_why)
{
    if (response->status != STATUS_ACCEPTED) {
        return true;
    }
    json_t *answer = json_loadb((const char *)response->body.data, response->body.size, 0, NULL);
    const char *why = entry_text(answer, "message");
    buf_clear(ret_why);
    buf_add_string(ret_why, *why ? why : "done, but too few other nodes have it so far");
    json_decref(answer);
    return false;
}

bool ack_report(const struct invocation *invocation, const char *about,
                const struct client_response *response)
{
    CLEANUP_BUF struct buf why = BUF_INIT;
    if (ack_is_reached(response, &why)) {
        return true;
    }
    cli_error(invocation, "%s: %s", about, buf_string(&why));
    return false;
}
