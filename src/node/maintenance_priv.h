/* SPDX-License-Identifier: Apache-2.0 */
#ifndef NODE_MAINTENANCE_PRIV_H
#define NODE_MAINTENANCE_PRIV_H

/*
 * maintenance: the thread that does what nobody asks for: collection and holes every few seconds,
 * compaction when the disk wastes space, forgetting what is older than NODE_HISTORY_MS and content
 * of others that no path names any more (node/unnamed_priv.h), and a slow scrub without end.
 */

#include <stdbool.h>

struct id;
struct maintenance;
struct node;

/* -EAGAIN: no thread to be had. */
[[nodiscard]] int maintenance_start(struct node *node, struct maintenance **ret_maintenance);
/* Ends it at its next step. NULL is allowed. */
void maintenance_stop(struct maintenance *maintenance);

/* unnamed_want(). */
void maintenance_want(struct maintenance *maintenance, const struct id *file);

/* The disk is full: what nobody holds any more is given back at once, without the times of grace.
 * The second waits for it, some seconds at most; true: there was something. From any thread, but
 * the writer. */
void maintenance_hurry(struct maintenance *maintenance);
bool maintenance_give_back(struct maintenance *maintenance);

#endif
