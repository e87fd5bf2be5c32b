/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TREE_TOKEN_H
#define TREE_TOKEN_H

/*
 * token: a position of a watcher that holds at every node, while a position of the feed is this
 * database's own: which ops of which logs it has seen.
 *
 * As text it is lower-case hex digits of
 *
 *   version u8 = 1, others u64, logs u32 and so many times (origin 16 bytes, seq u64), CRC-32C u32
 * of all before
 *
 * in ascending order of origins, integers little-endian. Logs of which nothing is kept in the feed
 * are left out if there are many; they are known by their sum, as in tree/vector.h: `others`.
 */

#include "base/buf.h"
#include "base/bytes.h"
#include "tree/tree.h"

/* Logs in one token; and how many there may be altogether so that none is left out. */
#define TREE_TOKEN_LOGS_MAX 16384u
#define TREE_TOKEN_LOGS_FEW 100u
#define TREE_TOKEN_CHARS_MAX (2 * (1 + 8 + 4 + (size_t)TREE_TOKEN_LOGS_MAX * 24 + 4))
/* Positions of the feed that are looked at to make a token, or to find where one begins: 10 ms, the
 * longest that a snapshot may be held. */
#define TREE_TOKEN_LOOKS_MAX 8192u

/* The ops that a watcher has seen, of some logs: all up to a sequence. */
struct tree_seen_log {
    struct origin_id origin;
    uint64_t seq; /* at least 1 */
};
struct tree_seen {
    struct tree_seen_log *logs; /* in ascending order of origins */
    size_t count;
};
void tree_seen_done(struct tree_seen *seen);
bool tree_seen_has(const struct tree_seen *seen, const struct dot *dot);

struct tree_token {
    uint64_t others;
    struct tree_seen seen;
};
/* Appends the text; at most TREE_TOKEN_LOGS_MAX logs. */
void tree_token_format(const struct tree_token *token, struct buf *ret_text);
/* The caller gives ret_token->seen to tree_seen_done(). -EINVAL: it is none; -EPROTONOSUPPORT: of a
 * later version; -EFBIG. */
[[nodiscard]] int tree_token_parse(struct bytes text, struct tree_token *ret_token);

/* Appends the token of who has seen everything up to `position` of the feed. -EINVAL: there is no
 * such position; -ESTALE: behind it is a gap, or what is behind it was forgotten, so that this
 * can't be told; -EAGAIN: it is further back than TREE_TOKEN_LOOKS_MAX; -EFBIG: too many logs. */
[[nodiscard]] int tree_token_make(const struct tree *tree, struct kv_txn *txn, uint64_t position,
                                  struct buf *ret_text);

/* Where the owner of `token` goes on here: what it has not seen lies behind *ret_position of the
 * feed, or will come; of what lies there it has seen *ret_seen, which the caller gives to
 * tree_seen_done(). Mostly it is the last such position; it is the oldest if the token lacks much.
 * -ESTALE: something that the token lacks is not kept here, or whether it does can't be told. */
[[nodiscard]] int tree_token_begin(const struct tree *tree, struct kv_txn *txn,
                                   const struct tree_token *token, uint64_t *ret_position,
                                   struct tree_seen *ret_seen);

#endif
