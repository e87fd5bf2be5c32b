/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TRANSFER_COPIES_H
#define TRANSFER_COPIES_H

/*
 * copies: some other nodes shall hold files whole, before their publisher is told that they do
 * (`put --copies N`). The publisher asks as many as are wanted, and the next one for each that
 * refuses, falls silent or is lost; a node that is asked fetches the files, holds them as copies
 * and says so when they are durable.
 *
 * A state machine, as transfer/transfer.h. Times are microseconds of the caller's monotonic clock.
 *
 * Threads: one at a time. The host's functions must not call back into it.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/bytes.h"
#include "hash/id.h"
#include "wire/node_id.h"

/* Other nodes that can be wanted; and asked one after the other until so many have it. */
#define COPIES_NODES_MAX 32u
#define COPIES_ASKED_MAX 128u
/* Files of one wish: more than the largest directory that is published in one step. */
#define COPIES_FILES_MAX 1000000u
/* Wishes at a time, of this node; beyond: -EBUSY. */
#define COPIES_WISHES_MAX 4096u
/* Lists of files that others want kept here, of one of them and of all; beyond, they are refused.
 */
#define COPIES_LISTS_OF_ONE_MAX 256u
#define COPIES_LISTS_MAX 2048u
/* Of all these, so many files are fetched at a time. */
#define COPIES_FETCHES_MAX 4096u
/* Who says nothing for so long has taken it up badly: asked again once, then another is. */
#define COPIES_REPLY_MS 3000u
/* Who works says so as often; who has not for some times that is given up for another. */
#define COPIES_NEWS_MS 3000u
#define COPIES_SILENT_MS (5 * COPIES_NEWS_MS)

struct copies;

struct copies_host {
    /* A message to one member, over a connection; nearly always arrives. */
    void (*send)(void *context, const struct node_id *to, struct bytes message);
    /* Of the wish `number`: `count` others have all of its files. Once; less than were wanted: the
     * time is over, or nobody is left to ask. What goes on goes on. */
    void (*kept)(void *context, uint64_t number, size_t count);
    /* Fetch this and hold it as a copy; answered by copies_fetched() with the same list and index,
     * once. `publisher` has it. */
    void (*fetch)(void *context, uint64_t list, uint32_t index, const struct node_id *publisher,
                  const struct id *file);
    /* Not wanted any more; copies_fetched() may come or not. */
    void (*fetch_end)(void *context, uint64_t list, uint32_t index, const struct id *file);
    void *context;
};

/* `random_seed`: another one at every start. */
struct copies *copies_new(const struct copies_host *host, uint64_t random_seed);
/* Nothing is told any more. NULL is allowed. */
void copies_free(struct copies *copies);

struct copies_member {
    struct node_id id;
    struct bytes zone; /* borrowed for the call */
};

struct copies_wish {
    uint64_t number; /* the caller's; no other wish has it */
    const struct id *files;
    size_t files_count; /* 1 to COPIES_FILES_MAX */
    size_t count;       /* 1 to COPIES_NODES_MAX others shall have them */
    uint64_t until_us;
    struct bytes zone; /* this node's */
    /* All others that are alive, in any order. */
    const struct copies_member *members;
    size_t members_count;
};

/* Asks the next members on the ring behind the first file's key; first one of each zone that is
 * neither ours nor that of one that was chosen, then the others. kept() is not called within it.
 * -EBUSY: COPIES_WISHES_MAX. */
[[nodiscard]] int copies_wish(struct copies *copies, uint64_t now_us,
                              const struct copies_wish *wish);
/* As if its time were over: kept() tells what there is, and what goes on goes on. Nothing if it is
 * over. */
void copies_cancel(struct copies *copies, uint64_t now_us, uint64_t number);

/* What arrived; nothing worse than a refusal happens whatever is in it. */
void copies_message(struct copies *copies, uint64_t now_us, const struct node_id *from,
                    struct bytes message);
/* A member is not alive any more: others are asked instead of it, and what it wanted goes on. */
void copies_lost(struct copies *copies, uint64_t now_us, const struct node_id *member);

/* How a fetch went: 0, -EAGAIN: it waits for room on the disk (others are told to ask elsewhere,
 * and another answer comes, or none), or that it failed. */
void copies_fetched(struct copies *copies, uint64_t now_us, uint64_t list, uint32_t index, int err);

void copies_tick(struct copies *copies, uint64_t now_us);
/* When copies_tick() is due; UINT64_MAX: not at all. */
uint64_t copies_next_us(const struct copies *copies);

struct copies_counters {
    uint64_t wishes;
    uint64_t wishes_short;   /* that ended with less than was wanted */
    uint64_t lists_kept;     /* for others, to the end */
    uint64_t lists_refused;  /* there were too many, or a file could not be had */
    uint64_t messages_bad;   /* malformed, of another version */
    uint64_t wishes_running; /* now */
    uint64_t lists_running;  /* now */
};
const struct copies_counters *copies_counters(const struct copies *copies);

#endif
