/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TRANSFER_COPIES_PRIV_H
#define TRANSFER_COPIES_PRIV_H

/*
 * The state of copies, and what its parts call of each other:
 *
 *   copies.c        what comes from outside, time
 *   copies_wish.c   what this node wants others to keep
 *   copies_list.c   what others want to be kept here
 */

#include "base/map.h"
#include "base/mem.h"
#include "transfer/copies.h"
#include "wire/keep_message.h"
#include "wire/ring_key.h"

/* The files of a wish go in so many messages, whose numbers are that of the ask and, in the lowest
 * bits, that of the part. */
#define PART_BITS 6u
#define PARTS_MAX (1u << PART_BITS)
_Static_assert((COPIES_FILES_MAX + KEEP_FILES_MAX - 1) / KEEP_FILES_MAX <= PARTS_MAX,
               "a part has its bit");

struct wish;

enum ask_state { ASK_RUNNING, ASK_DONE, ASK_GIVEN_UP };

/* One member that is asked for one wish. */
struct ask {
    uint64_t id;
    struct wish *wish;
    struct node_id node;
    enum ask_state state;
    bool was_heard;
    bool was_asked_again;
    uint64_t done_parts; /* by their bits */
    uint64_t deadline_us;
    struct ask *next; /* of the wish */
    UT_hash_handle hh;
};

struct wish {
    uint64_t number;
    uint64_t until_us;
    struct id *files;
    size_t files_count;
    unsigned parts_count;
    size_t count;
    size_t done_count;
    size_t running_count;
    struct node_id candidates[COPIES_ASKED_MAX];
    size_t candidates_count;
    size_t candidates_asked;
    struct ask *asks;
    struct wish *prev;
    struct wish *next;
};

struct list_name {
    uint8_t bytes[NODE_ID_BYTES + sizeof(uint64_t)]; /* who asked, and its number */
};

struct list {
    uint64_t id;
    struct list_name name;
    struct node_id from;
    uint64_t number;
    struct id *files;
    bool *is_kept;
    uint32_t files_count;
    uint32_t begun_count;
    uint32_t kept_count;
    uint32_t running_count;
    bool is_stuck; /* a file waits for room: that was told */
    uint64_t news_us;
    UT_hash_handle hh;
    UT_hash_handle hh_name;
};

struct copies {
    struct copies_host host;
    uint64_t now_us;
    uint64_t due_us; /* nothing is due before */
    uint64_t next_id;
    struct wish *wishes;
    struct ask *asks;   /* by id */
    struct list *lists; /* by id, in the order of arrival */
    struct list *lists_by_name;
    uint32_t fetches_count;
    struct copies_counters counters;
};

/* copies.c */

void copies_send(struct copies *copies, const struct node_id *to,
                 const struct keep_message *message);
/* Something is due at `at_us`. */
void copies_due_at(struct copies *copies, uint64_t at_us);

/* copies_wish.c */

void wish_take_kept(struct copies *copies, const struct node_id *from,
                    const struct keep_message *message);
void wishes_lost(struct copies *copies, const struct node_id *member);
void wishes_tick(struct copies *copies);
void wishes_free(struct copies *copies);

/* copies_list.c */

void list_take_keep(struct copies *copies, const struct node_id *from,
                    const struct keep_message *message);
void list_take_release(struct copies *copies, const struct node_id *from, uint64_t number);
void lists_tick(struct copies *copies);
void lists_free(struct copies *copies);

#endif
