/* SPDX-License-Identifier: Apache-2.0 */
#ifndef NODE_UNNAMED_PRIV_H
#define NODE_UNNAMED_PRIV_H

/*
 * unnamed: content that this node keeps as a copy for others is let go of when no path names it any
 * more: it was deleted or replaced.
 *
 * The tree has no index from content to paths, and an index that every change had to keep would
 * cost more than to look now and then. So it is looked for in two steps. Now and then the files
 * that are held as copies are listed, and crossed out as the rows of the tree are read; what is
 * left is suspected. After UNNAMED_GRACE_MS the same is done with the suspects alone, and what is
 * still left is released. A change that moves a name from rows not read yet to rows that were read
 * hides it from the second look; so all changes since its begin are read from the feed, the last of
 * them in the transaction that releases.
 *
 * The grace is for content that was asked for faster than the change came that names it. Nothing
 * is looked for before this node once agreed with others about the tree since its start, nor while
 * a snapshot is being merged.
 *
 * Costs: a look into each file of the store every UNNAMED_PAUSE_MS, and, if copies are held, a read
 * of all rows of the tree for every UNNAMED_WINDOW of them, at a fifth of one processor; 2 MiB.
 *
 * Threads: one.
 */

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

struct node;
struct unnamed;

/* Times are those of store_now_ms(). */
#define UNNAMED_GRACE_MS ((uint64_t)10 * 60 * 1000)
#define UNNAMED_PAUSE_MS ((uint64_t)10 * 60 * 1000)
/* Files that are looked for at a time. */
#define UNNAMED_WINDOW ((size_t)65536)

/* `stopping` ends a round early. */
struct unnamed *unnamed_new(struct node *node, const _Atomic bool *stopping);
void unnamed_free(struct unnamed *unnamed);

/* What is due. Errors of the store; tried again with the next round. */
[[nodiscard]] int unnamed_round(struct unnamed *unnamed);

#endif
