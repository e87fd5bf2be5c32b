/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CLIENT_CHANGES_H
#define CLIENT_CHANGES_H

/*
 * changes: the stream of changes of a node, never given up. The position is the cursor of the last
 * change that was dealt with, or a later one up to which the node says that nothing matches; every
 * connection begins behind it.
 *
 * A cursor is worth nothing at another node, nor at one that got another data directory. So the
 * node is asked now and then for a token of the same position, which holds everywhere; both are
 * sent, and the node takes the cursor if it is its own. The token is the older one, so that some
 * changes come again.
 *
 * Of one thread; all calls block.
 */

#include <jansson.h>
#include <stdbool.h>

#include "client/client.h"

struct changes;

/* What the node told. All of it lives until the callback returns. */
struct change_told {
    const char *cursor; /* of what lies behind this one; "" if none was ever told */
    const char *text;   /* the JSON as it came */
    const json_t *json; /* with "event", "gap" too */
    bool is_gap;        /* changes before it may be missing */
};

struct changes_options {
    struct client *client; /* borrowed, used by nobody else meanwhile */
    const char *path;      /* a pattern of tree/glob.h; NULL: everything */
    const char *cursor;    /* where to begin: these, one of them, or now */
    const char *token;
    bool is_patient;                /* no node at the beginning is no reason to end */
    const _Atomic bool *is_stopped; /* ends it within a second; NULL: never */

    /* Deals with a change. An error ends everything; the position stays before it. */
    int (*change)(void *context, const struct change_told *told);
    /* All up to here was dealt with; `cursor` or `token` may be NULL. Called when they changed,
     * not for each change. An error ends everything. */
    int (*moved)(void *context, const char *cursor, const char *token);
    /* The stream broke, and is begun again unless `is_over`. Called the first time, not for each
     * attempt. */
    void (*broke)(void *context, const char *why, bool is_over);
    void *context;
};

/* True if the node may take `text` for a cursor; or for a token, which otherwise it is. */
bool changes_is_cursor(const char *text);
bool changes_is_token(const char *text);
/* Of both, with what is between them in a file of two lines. */
#define CHANGES_CURSOR_BYTES_MAX 4096

/* `options` is copied, with its texts. */
struct changes *changes_new(const struct changes_options *options);
/* NULL is allowed. */
void changes_free(struct changes *changes);
CLEANUP_DEFINE(changes_free, struct changes)

/* Finds out where now is, if nothing said where to begin. False: `response` tells why. */
[[nodiscard]] bool changes_begin(struct changes *changes, struct client_response *response);

/* Tells changes until a callback fails (its error), it is stopped (-ECANCELED), or the node
 * refuses (-EPROTO; `broke` was told why). After changes_begin(). */
[[nodiscard]] int changes_run(struct changes *changes);

#endif
