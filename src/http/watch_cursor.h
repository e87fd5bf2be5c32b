/* SPDX-License-Identifier: Apache-2.0 */
#ifndef HTTP_WATCH_CURSOR_H
#define HTTP_WATCH_CURSOR_H

/*
 * watch_cursor: where a stream of changes begins, by what its client says it has seen: a cursor,
 * EPOCH:POSITION of the feed of one node, or a token (tree/token.h), which holds at every node.
 */

#include "node/node.h"
#include "tree/token.h"

#define WATCH_CURSOR_BYTES 48
void watch_cursor_format(uint64_t epoch, uint64_t position, char ret_text[WATCH_CURSOR_BYTES]);
/* -EINVAL: it is none. */
[[nodiscard]] int watch_cursor_parse(const char *text, uint64_t *ret_epoch, uint64_t *ret_position);

struct watch_begin {
    uint64_t epoch;
    uint64_t position;     /* the stream begins behind it */
    struct tree_seen seen; /* of what comes there; the caller gives it to tree_seen_done() */
    bool is_gap;           /* something may be missing before it */
};

/* `since` is a cursor, a token, or "0", the oldest kept position; NULL: now. `token` (or NULL) is
 * where to begin if `since` is a cursor of another feed, or NULL. Without one that is a gap, and
 * the beginning is the oldest position; likewise if nobody can tell what a token has seen.
 * -EINVAL, -EPROTONOSUPPORT, -EFBIG: no such cursor or token can be. */
[[nodiscard]] int watch_begin(struct node *node, const char *since, const char *token,
                              struct watch_begin *ret_begin);

#endif
