/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Whether the node that is asked has its tree: one that has lost it, and gets it back from others,
 * lacks for a while what is no reason to delete anything here.
 */

#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/backoff.h"
#include "base/buf.h"
#include "base/random.h"
#include "client/entry.h"
#include "client/percent.h"
#include "follow/engine_priv.h"

#define PAUSE_MS 100u
/* A node that starts without its tree knows its members and has compared trees with them by then.
 */
#define SETTLE_MS 10000
#define SETTLE_FIRST_MS 100u
#define SETTLE_LOOK_MS 1000u

bool settled_pause(const struct follow *follow, struct backoff *backoff)
{
    uint64_t number = 0;
    random_system(&number, sizeof number);
    uint64_t left_ms = backoff_next_ms(backoff, number);
    while (left_ms > 0 && !follow->is_stopped) {
        const uint64_t pause_ms = left_ms < PAUSE_MS ? left_ms : PAUSE_MS;
        const struct timespec pause = {0, (long)pause_ms * 1000000};
        nanosleep(&pause, NULL);
        left_ms -= pause_ms;
    }
    return !follow->is_stopped;
}

/* True if the node has the feed of `cursor`, or, if it got another one (a new disk, an older copy
 * of it), ran for long enough to have the tree that others have. */
static bool is_settled(struct follow *follow, const char *cursor)
{
    CLEANUP_RESPONSE struct client_response response = CLIENT_RESPONSE_INIT;
    /* A feed has another epoch after each start of the node: whether the cursor is one of its own,
     * it alone can tell. */
    CLEANUP_BUF struct buf target = BUF_INIT;
    buf_add_string(&target, "/watch/token?at=");
    percent_add(&target, bytes_of_string(cursor));
    const struct client_request known = {.target = buf_string(&target),
                                         .is_stopped = &follow->is_stopped};
    if (client_perform(follow->client, &known, &response)) {
        return true;
    }
    const struct client_request request = {.target = "/status", .is_stopped = &follow->is_stopped};
    if (!client_perform(follow->client, &request, &response)) {
        return false;
    }
    json_t *status = json_loadb(buf_string(&response.body), response.body.size, 0, NULL);
    const char *now = entry_text(status, "cursor");
    const size_t epoch = strcspn(cursor, ":") + 1;
    const bool is_same = strncmp(cursor, now, epoch) == 0;
    const bool agrees = json_is_true(json_object_get(status, "agree"));
    const bool is_old = json_integer_value(json_object_get(status, "up_ms")) >= SETTLE_MS;
    /* With nobody to agree with, an empty tree says nothing. */
    const bool is_told = json_integer_value(json_object_get(status, "members")) > 1 ||
                         json_integer_value(json_object_get(status, "entries")) > 0;
    json_decref(status);
    return is_same || (agrees && is_old && is_told);
}

bool settled_is(struct follow *follow)
{
    CLEANUP_FREE char *cursor = places_get(follow->places, "cursor");
    return !cursor || is_settled(follow, cursor);
}

bool settled_wait(struct follow *follow)
{
    struct backoff backoff = {.first_ms = SETTLE_FIRST_MS, .limit_ms = SETTLE_LOOK_MS};
    CLEANUP_FREE char *cursor = places_get(follow->places, "cursor");
    const bool may_lose = places_count(follow->places) > 0;
    bool is_waiting = cursor && may_lose && !is_settled(follow, cursor);
    if (is_waiting) {
        follow_tell_trouble(follow, NULL, "the node has no tree yet, or another one than before");
    }
    while (is_waiting && settled_pause(follow, &backoff)) {
        is_waiting = !is_settled(follow, cursor);
    }
    return !is_waiting;
}
