/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TREE_MERGE_PRIV_H
#define TREE_MERGE_PRIV_H

/*
 * What merge.c and its parts share: one step of a merge.
 */

#include "base/buf.h"
#include "tree/place_priv.h"
#include "tree/row_walk_priv.h"
#include "tree/snapshot_priv.h"

/* One row of the feed tells of so much; the bytes are of paths, targets and attributes. */
#define MERGE_FEED_CHANGES_MAX ((size_t)1000)
#define MERGE_FEED_BYTES_MAX ((size_t)256 * 1024)

/* What is told to watchers, gathered for rows of the feed. */
struct merge_feed {
    const struct tree *tree;
    struct kv_txn *txn;
    struct tree_state *state;
    uint64_t now_ms;
    struct tree_change *changes;
    struct dot *dots;
    size_t changes_count;
    uint8_t *room; /* of the changes' strings */
    size_t room_used;
};

/* `version` of `path` came, or, `is_gone`, went. */
[[nodiscard]] int merge_feed_add(struct merge_feed *feed, struct bytes path,
                                 const struct tree_version *version, bool is_gone);
[[nodiscard]] int merge_feed_flush(struct merge_feed *feed);
[[nodiscard]] int merge_feed_gap(const struct tree *tree, struct kv_txn *txn,
                                 struct tree_state *state, uint64_t now_ms);
void merge_feed_done(struct merge_feed *feed);

/* An origin of the snapshot, as it is known here. */
struct merge_peer {
    uint32_t stamp;  /* of the step in which the rest was read; else it is old */
    uint32_t number; /* 0: none yet */
    uint64_t seq;    /* of our vector */
};

/* An origin of this database, as it is known in the snapshot. */
struct merge_local {
    uint32_t stamp;
    uint32_t index; /* the snapshot's origins_count: not there */
    struct origin_id id;
};

/* Versions that ops of ours beyond the snapshot's vector replaced. */
struct merge_gone;

/* Kept with the snapshot from step to step. */
struct merge_caches {
    uint32_t stamp;
    struct merge_peer *peers;
    struct merge_local *locals;
    size_t locals_count;
    struct head *after;
    size_t after_capacity;
    bool *matched;
    size_t matched_capacity;
    struct merge_gone *gone;
    uint64_t *scanned; /* by origin number: up to this seq ops were looked at for `gone` */
    size_t scanned_count;
};

struct merge {
    const struct tree *tree;
    struct kv_txn *txn;
    struct tree_snapshot *snapshot;
    struct merge_caches *caches;
    struct tree_merge_options options;
    uint64_t now_ms;
    struct tree_state state;
    struct place place;
    struct row_walk walk;
    struct merge_feed feed;
};

/* The origin `index` of the snapshot here; borrowed until the next call. */
[[nodiscard]] int merge_peer(struct merge *merge, uint32_t index, struct merge_peer **ret_peer);
/* The same, with a number. */
[[nodiscard]] int merge_peer_add(struct merge *merge, uint32_t index, struct merge_peer **ret_peer);

/* merge_row.c: joins what both have of `path`. `record` may be NULL; `has_row`: merge->walk is at
 * the row of the path. */
[[nodiscard]] int merge_path(struct merge *merge, struct bytes path,
                             const struct snapshot_record *record, bool has_row);

/* merge_gone.c: looks at all ops that the snapshot's vector does not cover.
 * -EAGAIN: they are not kept, or too many. */
[[nodiscard]] int merge_gone_update(struct merge *merge);
bool merge_gone_has(const struct merge *merge, const struct dot *dot, struct bytes path);
void merge_gone_clear(struct merge_caches *caches);

#endif
