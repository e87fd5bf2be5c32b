/* SPDX-License-Identifier: Apache-2.0 */
#ifndef NODE_FETCH_INDEX_PRIV_H
#define NODE_FETCH_INDEX_PRIV_H

/*
 * fetch_index: what others told this node that they have, for locate/locate.h: an environment of
 * its own in DATA/holders, which is never synced. It is soft state: after an unclean stop, or if it
 * is damaged, it is thrown away, and the others tell it again.
 *
 * Threads: one, but for opening and closing.
 */

#include "locate/locate.h"

struct fetch_index;

/* -EIO, -ENOSPC, -EACCES, -EMFILE, -ENOMEM. Blocks. The caller gives *ret_index to
 * fetch_index_close(). */
[[nodiscard]] int fetch_index_open(const char *data, struct fetch_index **ret_index);

/* Keeps it for the next opening, if nothing in it failed; NULL is allowed. Blocks. */
void fetch_index_close(struct fetch_index *index);
/* The same, and it is thrown away. */
void fetch_index_discard(struct fetch_index *index);

/* As in struct locate_host; `index` NULL: -EIO. After a failure some of what was set before may be
 * lost: see fetch_index_failed(). */
[[nodiscard]] int fetch_index_set(struct fetch_index *index, const struct locate_row *row,
                                  enum locate_state *ret_old);
[[nodiscard]] int fetch_index_rows(struct fetch_index *index, const struct locate_row *from,
                                   const struct node_id *holder, struct locate_row *ret_rows,
                                   size_t limit, size_t *ret_count);

/* Ends the transaction under way, if it has read only, or it is time for it. To be called before
 * each wait, and by the time that it gives (UINT64_MAX: no time). NULL is allowed. */
uint64_t fetch_index_tend(struct fetch_index *index, uint64_t now_us);

/* The thread that used it ends, another one goes on: a transaction is of one thread. NULL is
 * allowed. */
void fetch_index_end_turns(struct fetch_index *index);

/* Something that was set is not there: it must not be used any more. The error; 0: all is well. */
int fetch_index_failed(const struct fetch_index *index);

#endif
