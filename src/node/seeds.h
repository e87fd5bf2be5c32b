/* SPDX-License-Identifier: Apache-2.0 */
#ifndef NODE_SEEDS_H
#define NODE_SEEDS_H

/*
 * seeds: the members that --join names, as addresses. Names are looked up again and again, since
 * the machine behind a name may come later, or change; numbers stand for themselves.
 *
 * Threads: the loop's. A look-up runs in a thread of its own, for as long as the system's resolver
 * takes; that may be half a minute, and nothing can end it before. So nobody waits for it: not the
 * roster that a worker of libuv writes, nor the end of the process.
 */

#include <uv.h>

#include "cluster/cluster.h"

/* All addresses of a name count, up to this. */
#define SEEDS_ADDRESSES_PER_NAME_MAX 16u

struct seeds;

/* `addresses` are all that are known now, each once, at most CLUSTER_SEEDS_MAX; borrowed. */
typedef void seeds_found(void *context, const struct address *addresses, size_t count);

/* True if `names` is "HOST:PORT[,HOST:PORT...]" with at most CLUSTER_SEEDS_MAX of them. */
bool seeds_check(const char *names);

/* `names` as checked. The caller owns *ret_seeds and gives it to seeds_close(). */
struct seeds *seeds_new(uv_loop_t *loop, const char *names, seeds_found *found, void *context);

/* Begins a round, unless one is under way; `found` is called at its end if anything has changed.
 * A name that can't be looked up keeps the addresses that it had. */
void seeds_look_up(struct seeds *seeds);

/* Nothing is called any more; a look-up that is under way ends on its own, some time. The caller
 * runs the loop until nothing is left in it. NULL is allowed. */
void seeds_close(struct seeds *seeds);

#endif
