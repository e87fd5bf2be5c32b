/* SPDX-License-Identifier: Apache-2.0 */
#include <stdlib.h>

#include "base/err.h"
#include "base/mem.h"
#include "tree/merge_priv.h"

static int add_row(const struct tree *tree, struct kv_txn *txn, struct tree_state *state,
                   enum tree_feed_kind kind, uint64_t now_ms)
{
    const uint64_t position = ++state->feed_last;
    const struct feed_row row = {kind, 0, position, now_ms};
    return feed_put(tree, txn, position, &row);
}

int merge_feed_gap(const struct tree *tree, struct kv_txn *txn, struct tree_state *state,
                   uint64_t now_ms)
{
    return add_row(tree, txn, state, TREE_FEED_GAP, now_ms);
}

void merge_feed_done(struct merge_feed *feed)
{
    free(feed->changes);
    free(feed->dots);
    free(feed->room);
}

int merge_feed_flush(struct merge_feed *feed)
{
    if (feed->changes_count == 0) {
        return 0;
    }
    const struct tree_op op = {
        .seq = feed->state->feed_last + 1,
        .event = TREE_EVENT_CHANGES,
        .changes = feed->changes,
        .changes_count = feed->changes_count,
    };
    CLEANUP_BUF struct buf bytes = BUF_INIT;
    int err = tree_op_format(&op, &bytes);
    if (err) {
        return -EIO; /* all was checked when it came */
    }
    feed->changes_count = 0;
    feed->room_used = 0;
    err = add_row(feed->tree, feed->txn, feed->state, TREE_FEED_MERGED, feed->now_ms);
    return err ? err : op_put(feed->tree, feed->txn, 0, op.seq, buf_bytes(&bytes));
}

/* Room for `size` bytes, aligned for anything. */
static void *take_room(struct merge_feed *feed, size_t size)
{
    const size_t alignment = _Alignof(max_align_t);
    void *room = feed->room + feed->room_used;
    feed->room_used += (size + alignment - 1) / alignment * alignment;
    return room;
}

static struct bytes keep(struct merge_feed *feed, struct bytes bytes)
{
    if (bytes.size == 0) {
        return BYTES(NULL, 0);
    }
    uint8_t *copy = take_room(feed, bytes.size);
    memcpy(copy, bytes.data, bytes.size);
    return BYTES(copy, bytes.size);
}

static void keep_attributes(struct merge_feed *feed, struct bytes attributes,
                            struct tree_change *change)
{
    if (attributes.size == 0) {
        return;
    }
    struct bytes left = keep(feed, attributes);
    struct tree_attribute *list = take_room(feed, TREE_ATTRIBUTES_MAX * sizeof *list);
    while (change->attributes_count < TREE_ATTRIBUTES_MAX &&
           tree_attribute_next(&left, &list[change->attributes_count])) {
        change->attributes_count++;
    }
    change->attributes = list;
}

int merge_feed_add(struct merge_feed *feed, struct bytes path, const struct tree_version *version,
                   bool is_gone)
{
    /* Each string is rounded up, and the list of attributes has its full size. */
    const size_t need = path.size + version->target.size + version->attributes.size +
                        TREE_ATTRIBUTES_MAX * sizeof(struct tree_attribute) +
                        4 * _Alignof(max_align_t);
    if (!feed->changes) {
        feed->changes = mem_alloc_array(MERGE_FEED_CHANGES_MAX, sizeof *feed->changes);
        feed->dots = mem_alloc_array(MERGE_FEED_CHANGES_MAX, sizeof *feed->dots);
        feed->room = mem_alloc(MERGE_FEED_BYTES_MAX);
    }
    if (feed->changes_count == MERGE_FEED_CHANGES_MAX ||
        feed->room_used + need > MERGE_FEED_BYTES_MAX) {
        const int err = merge_feed_flush(feed);
        if (err) {
            return err;
        }
    }
    struct tree_change *change = &feed->changes[feed->changes_count];
    struct dot *dot = &feed->dots[feed->changes_count++];
    *dot = version->dot;
    *change = (struct tree_change){
        .kind = TREE_DELETE,
        .path = keep(feed, path),
        .context = dot,
        .context_count = 1,
    };
    if (!is_gone) {
        change->kind = version->kind;
        change->mode = version->mode;
        change->mtime_ns = version->mtime_ns;
        change->file_id = version->file_id;
        change->size_bytes = version->size_bytes;
        change->target = keep(feed, version->target);
        keep_attributes(feed, version->attributes, change);
    }
    return 0;
}
