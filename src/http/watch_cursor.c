/* SPDX-License-Identifier: Apache-2.0 */
#include "http/watch_cursor.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/err.h"
#include "http/endpoints_priv.h"
#include "tree/feed.h"

void watch_cursor_format(uint64_t epoch, uint64_t position, char ret_text[WATCH_CURSOR_BYTES])
{
    snprintf(ret_text, WATCH_CURSOR_BYTES, "%" PRIu64 ":%" PRIu64, epoch, position);
}

int watch_cursor_parse(const char *text, uint64_t *ret_epoch, uint64_t *ret_position)
{
    uint64_t numbers[2] = {0};
    for (int i = 0; i < 2; i++) {
        const char *begin = text;
        for (; *text >= '0' && *text <= '9'; text++) {
            if (__builtin_mul_overflow(numbers[i], 10u, &numbers[i]) ||
                __builtin_add_overflow(numbers[i], (uint64_t)(*text - '0'), &numbers[i])) {
                return -EINVAL;
            }
        }
        if (text == begin || *text != (i == 0 ? ':' : 0)) {
            return -EINVAL;
        }
        text += i == 0;
    }
    *ret_epoch = numbers[0];
    *ret_position = numbers[1];
    return 0;
}

/* What a client has said, parsed. */
struct said {
    bool has_cursor;
    uint64_t epoch;
    uint64_t position;
    bool has_token;
    struct tree_token token;
};

static int read_said(const char *since, const char *token, struct said *said)
{
    if (since && strchr(since, ':')) {
        said->has_cursor = true;
        const int err = watch_cursor_parse(since, &said->epoch, &said->position);
        if (err) {
            return err;
        }
    } else if (since && strcmp(since, "0") != 0) {
        if (token) {
            return -EINVAL; /* two tokens */
        }
        token = since;
    }
    if (!token) {
        return 0;
    }
    said->has_token = true;
    return tree_token_parse(bytes_of_string(token), &said->token);
}

static int begin_in(struct kv_txn *txn, const struct tree *tree, const char *since,
                    const struct said *said, struct watch_begin *ret_begin)
{
    struct tree_summary summary;
    int err = tree_summary(tree, txn, &summary);
    if (err) {
        return err;
    }
    bool knows = false;
    if (said->has_cursor) {
        err = tree_feed_knows(tree, txn, said->epoch, said->position, &knows);
        if (err) {
            return err;
        }
    }
    struct watch_begin begin = {.epoch = summary.epoch, .position = summary.feed_last};
    const bool is_oldest = since && strcmp(since, "0") == 0;
    if (is_oldest) {
        begin.position = summary.feed_first - 1;
    } else if (knows) {
        begin.position = said->position;
    } else if (said->has_token) {
        err = tree_token_begin(tree, txn, &said->token, &begin.position, &begin.seen);
        begin.is_gap = err == -ESTALE;
    } else {
        /* Of another feed, or of a life of this one that is not known here (an older copy of the
         * data directory was put back): all that is kept may be news. */
        begin.is_gap = said->has_cursor;
    }
    if (begin.is_gap) {
        begin.position = summary.feed_first - 1;
        err = 0;
    }
    if (!err) {
        *ret_begin = begin;
    }
    return err;
}

int watch_begin(struct node *node, const char *since, const char *token,
                struct watch_begin *ret_begin)
{
    struct said said = {0};
    int err = read_said(since, token, &said);
    CLEANUP(kv_abort) struct kv_txn *txn = NULL;
    if (!err) {
        err = node_snapshot(node, &txn);
    }
    if (!err) {
        err = begin_in(txn, node_tree(node), since, &said, ret_begin);
    }
    tree_seen_done(&said.token.seen);
    return err;
}

/* ---- GET /watch/token ---- */

/* -ESTALE: of another feed. */
static int make_token(struct request *request, const char *at, char ret_cursor[WATCH_CURSOR_BYTES],
                      struct buf *ret_token)
{
    uint64_t epoch = 0;
    uint64_t position = 0;
    CLEANUP(kv_abort) struct kv_txn *txn = NULL;
    struct tree_summary summary;
    int err = at ? watch_cursor_parse(at, &epoch, &position) : 0;
    if (!err) {
        err = node_snapshot(request->node, &txn);
    }
    if (!err) {
        err = tree_summary(node_tree(request->node), txn, &summary);
    }
    bool knows = true;
    if (!err && at) {
        err = tree_feed_knows(node_tree(request->node), txn, epoch, position, &knows);
    }
    if (err || !knows) {
        return err ? err : -ESTALE;
    }
    position = at ? position : summary.feed_last;
    watch_cursor_format(summary.epoch, position, ret_cursor);
    return tree_token_make(node_tree(request->node), txn, position, ret_token);
}

static void begin_token(struct request *request)
{
    char cursor[WATCH_CURSOR_BYTES];
    CLEANUP_BUF struct buf token = BUF_INIT;
    const int err = make_token(request, request_parameter(request, "at"), cursor, &token);
    if (err == -EINVAL) {
        answer_error(request, MHD_HTTP_BAD_REQUEST, "bad_cursor", "a cursor is EPOCH:POSITION");
    } else if (err == -EFBIG) {
        answer_error(request, MHD_HTTP_CONFLICT, "no_token",
                     "a token that names all logs of this network is too long");
    } else if (err == -ESTALE || err == -EAGAIN) {
        answer_error(request, MHD_HTTP_CONFLICT, "no_token",
                     err == -ESTALE ? "a gap lies behind this cursor, or it is of another feed"
                                    : "this cursor is too far behind: read on first");
    } else if (err) {
        answer_failure(request, err);
    } else {
        json_t *body = json_object();
        json_object_set_new(body, "cursor", json_string(cursor));
        json_object_set_new(body, "token", json_of_bytes(buf_bytes(&token)));
        answer_json(request, MHD_HTTP_OK, body);
    }
}

static const char *const token_parameters[] = {"at", NULL};

const struct endpoint endpoint_watch_token = {
    .method = "GET",
    .prefix = "/watch/token",
    .parameters = token_parameters,
    .begin = begin_token,
};
