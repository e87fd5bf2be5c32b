/* SPDX-License-Identifier: Apache-2.0 */
#ifndef NODE_UNNAMED_PRIV_H
#define NODE_UNNAMED_PRIV_H

/*
 * unnamed: content that came from others, as a copy for them or because it was read here, is let go
 * of when no path names it any more: it was deleted or replaced.
 *
 * The tree has no index from content to paths, and an index that every change had to keep would
 * cost more than to look now and then. So it is looked for in two steps. Now and then the files
 * that are held so are listed, and crossed out as the rows of the tree are read; what is
 * left is suspected. After UNNAMED_GRACE_MS the same is done with the suspects alone, and what is
 * still left is released. A change that moves a name from rows not read yet to rows that were read
 * hides it from the second look; so all changes since its begin are read from the feed, the last of
 * them in the transaction that releases.
 *
 * The grace is for content that was asked for faster than the change came that names it; who is
 * asked to keep a suspect (unnamed_want()) keeps it for another one. Nothing is looked for before
 * this node once agreed with others about the tree since its start, nor while a snapshot is being
 * merged.
 *
 * Costs: a look into each file of the store every UNNAMED_PAUSE_MS, and, if such are held, a read
 * of all rows of the tree for every UNNAMED_WINDOW of them, at a fifth of one processor; 2 MiB.
 *
 * Threads: one; unnamed_want() from any.
 */

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

struct id;
struct node;
struct unnamed;

/* Times are those of store_now_ms(). */
#define UNNAMED_GRACE_MS ((uint64_t)10 * 60 * 1000)
#define UNNAMED_PAUSE_MS ((uint64_t)10 * 60 * 1000)
/* Files that are looked for at a time. */
#define UNNAMED_WINDOW ((size_t)65536)

/* `stopping` ends a round early. */
struct unnamed *unnamed_new(struct node *node, const _Atomic bool *stopping);
/* NULL is allowed. */
void unnamed_free(struct unnamed *unnamed);

/* What is due. Errors of the store; tried again with the next round. */
[[nodiscard]] int unnamed_round(struct unnamed *unnamed);

/* Another node wants `file` to be kept here, whether it is held already or not: what is looked at
 * after this call stays for as long as if it came now. Does not wait. */
void unnamed_want(struct unnamed *unnamed, const struct id *file);

#endif
