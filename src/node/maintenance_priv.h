/* SPDX-License-Identifier: Apache-2.0 */
#ifndef NODE_MAINTENANCE_PRIV_H
#define NODE_MAINTENANCE_PRIV_H

/*
 * maintenance: the thread that does what nobody asks for: collection and holes every few seconds,
 * compaction when the disk wastes space, forgetting what is older than NODE_HISTORY_MS and copies
 * that no path names any more (node/unnamed_priv.h), and a slow scrub without end.
 */

struct maintenance;
struct node;

/* -EAGAIN: no thread to be had. */
[[nodiscard]] int maintenance_start(struct node *node, struct maintenance **ret_maintenance);
/* Ends it at its next step. NULL is allowed. */
void maintenance_stop(struct maintenance *maintenance);

#endif
