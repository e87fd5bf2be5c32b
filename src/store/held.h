/* SPDX-License-Identifier: Apache-2.0 */
#ifndef STORE_HELD_H
#define STORE_HELD_H

/*
 * held: what this store can give to others, by key, for who tells others about it: the keys of a
 * range in order, the state of one, and word of every change.
 *
 * A file version is *complete* if it is held and all its blocks are here; *partial* if only some
 * are: it is on its way (store/intake.h), or blocks of it were evicted or lost; if all of them were
 * lost, its list of blocks is still here, for whoever finds them elsewhere. A block is complete
 * if it is here and held, or not here at all. What nobody holds any more is on its way out and does
 * not count, though it can be read until it is collected; nor does a block that was taken by an
 * intake and is not flushed yet.
 *
 * Who wants to know everything sets its watch first and walks then.
 */

#include "hash/id.h"
#include "store/store.h"

/* A key on the ring: the first 160 bits of an id. */
#define STORE_KEY_BYTES 20

enum store_held_state { STORE_HELD_NONE, STORE_HELD_PARTIAL, STORE_HELD_COMPLETE };

struct store_held {
    struct id id;
    bool is_file; /* else a block */
    enum store_held_state state;
};

/* A position in a range of keys. The members are private. */
struct store_held_walk {
    struct id next;
    uint8_t end[STORE_KEY_BYTES];
    bool wraps;
    bool is_over;
};

/* All keys from `begin` on, clockwise, up to `end`, which is the first one that is not meant: over
 * the top if `end` is not behind `begin`, the whole ring if the two are the same. */
void store_held_walk_begin(struct store_held_walk *walk, const uint8_t begin[STORE_KEY_BYTES],
                           const uint8_t end[STORE_KEY_BYTES]);

/* Up to `limit` of what is held, in the order of the ring; 0 in *ret_count: that was all. A walk is
 * no snapshot: each call sees the store as it is. It looks at no more than
 * STORE_HELD_WALK_ROWS rows at a time and may tell less than `limit` before the end. -EIO. */
#define STORE_HELD_WALK_ROWS 16384
[[nodiscard]] int store_held_walk_next(struct store *store, struct store_held_walk *walk,
                                       struct store_held *ret_held, size_t limit,
                                       size_t *ret_count);

/* The state of a file or block. What a walk tells of it, STORE_HELD_NONE for what it leaves out. */
[[nodiscard]] int store_held_state(struct store *store, const struct id *id,
                                   enum store_held_state *ret_state);
/* The same of a file, and whether it is held for `reason`, seen in one moment. */
[[nodiscard]] int store_held_for(struct store *store, const struct id *file,
                                 enum store_reason reason, enum store_held_state *ret_state,
                                 bool *ret_is_for);

/*
 * Has `changed` called on the writer thread after each commit that changed what is held, with the
 * new states in the order of the changes (`held` is borrowed for the call): a file is complete,
 * partial or gone, a block is here or gone. A file that lost a block is not told of, only the
 * block. It should be quick; it may not wait for the store.
 *
 * Everything that commits after this returns is told. NULL ends it: no call is under way when it
 * returns. Not from the writer thread. -EROFS; errors of store_submit().
 */
typedef void (*store_held_changed_fn)(void *context, const struct store_held *held, size_t count);
[[nodiscard]] int store_held_watch(struct store *store, store_held_changed_fn changed,
                                   void *context);

#endif
