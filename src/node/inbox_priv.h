/* SPDX-License-Identifier: Apache-2.0 */
#ifndef NODE_INBOX_PRIV_H
#define NODE_INBOX_PRIV_H

/*
 * inbox: messages of members on their way from the threads of the link to the core thread.
 *
 * Bounded: what finds no room is dropped and counted. Members make their lists equal by digests,
 * again and again, so a lost message costs a few seconds.
 *
 * Threads: any may put, one takes.
 */

#include <stdbool.h>
#include <stdint.h>

#include "base/bytes.h"
#include "wire/node_id.h"

/* Sixteen of the longest messages, of a network of 10,000 all at once. */
#define INBOX_BYTES_MAX ((size_t)16 * 1024 * 1024)
/* Of any length. */
#define INBOX_MESSAGES_MAX 4096u

struct inbox;

struct inbox_message {
    struct node_id from;
    struct inbox_message *next;
    size_t size;
    uint8_t bytes[];
};

struct inbox *inbox_new(void);
void inbox_free(struct inbox *inbox);

/* Copies. False: it was dropped. */
bool inbox_put(struct inbox *inbox, const struct node_id *from, struct bytes bytes);

/* All that is there, in the order of arrival; the caller frees each. NULL: nothing. */
struct inbox_message *inbox_take(struct inbox *inbox);

uint64_t inbox_dropped(struct inbox *inbox);

#endif
