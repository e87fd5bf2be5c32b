/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/ack.h"

#include <inttypes.h>
#include <jansson.h>

#include "base/err.h"
#include "base/mem.h"
#include "client/entry.h"
#include "node/fetch.h"
#include "node/replica.h"
#include "tree/sync.h"

/* What a node takes (docs/API.md). */
#define COUNT_MAX 32u
#define WAIT_S_MAX 3600u
#define COPIES_MAX 33u
#define COPIES_WAIT_S_MAX 86400u
#define STATUS_ACCEPTED 202

_Static_assert(COUNT_MAX == TREE_SYNC_AWAIT_MAX, "docs/API.md");
_Static_assert((uint64_t)WAIT_S_MAX * 1000 == REPLICA_AWAIT_MS_MAX, "likewise");
_Static_assert(COPIES_MAX == FETCH_COPIES_MAX + 1, "likewise");
_Static_assert((uint64_t)COPIES_WAIT_S_MAX * 1000 == FETCH_COPIES_MS_MAX, "likewise");

/* What the numbers are called here and in a query, and what they are for people. */
static const struct ack_key {
    const char *name;
    const char *parameter;
    const char *what;
    uint64_t least;
    uint64_t most;
} ack_keys[] = {
    {"ack", "ack", "nodes", 0, COUNT_MAX},
    {"ack-wait", "ack_wait", "seconds", 1, WAIT_S_MAX},
    {"copies", "copies", "nodes", 1, COPIES_MAX},
    {"copies-wait", "copies_wait", "seconds", 1, COPIES_WAIT_S_MAX},
};

/* -ENOENT also if the verb does not take it. */
static int read_number(const struct invocation *invocation, const struct ack_key *key,
                       uint64_t *ret_number)
{
    return config_find(invocation->config, key->name)
               ? config_number(invocation->config, key->name, key->most, ret_number)
               : -ENOENT;
}

bool ack_check(const struct invocation *invocation)
{
    for (size_t i = 0; i < ARRAY_SIZE(ack_keys); i++) {
        const struct ack_key *key = &ack_keys[i];
        uint64_t number = 0;
        const int err = read_number(invocation, key, &number);
        if (err != -ENOENT && (err || number < key->least)) {
            cli_usage(invocation, "--%s takes a number of %s up to %" PRIu64, key->name, key->what,
                      key->most);
            return false;
        }
    }
    return true;
}

void ack_add(const struct invocation *invocation, struct buf *target)
{
    for (size_t i = 0; i < ARRAY_SIZE(ack_keys); i++) {
        const struct ack_key *key = &ack_keys[i];
        uint64_t number = 0;
        if (read_number(invocation, key, &number) == 0) {
            const bool has_query = memchr(target->data, '?', target->size) != NULL;
            buf_add_format(target, "%c%s=%" PRIu64, has_query ? '&' : '?', key->parameter, number);
        }
    }
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
