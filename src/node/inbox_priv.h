/* SPDX-License-Identifier: Apache-2.0 */
#ifndef NODE_INBOX_PRIV_H
#define NODE_INBOX_PRIV_H

/*
 * inbox: messages on their way from many threads to the one that deals with them.
 *
 * Bounded: what finds no room is dropped and counted. Nodes compare what they have, again and
 * again, so a lost message costs a few seconds.
 *
 * Threads: any may put, one takes.
 */

#include <stdbool.h>
#include <stdint.h>

#include "base/bytes.h"
#include "wire/node_id.h"

struct inbox;

struct inbox_limits {
    size_t bytes_max;
    size_t messages_max; /* of any length */
    /* No member may fill more than one part in so many, once that much is taken at all: a flood by
     * one leaves room for the others. 1: all of it. */
    unsigned shares;
};

struct inbox_message {
    uint8_t kind; /* the users' affair */
    struct node_id from;
    struct inbox_message *next;
    size_t size;
    uint8_t bytes[];
};

struct inbox *inbox_new(const struct inbox_limits *limits);
/* NULL is allowed. */
void inbox_free(struct inbox *inbox);

/* Copies. False: it was dropped. */
bool inbox_put(struct inbox *inbox, uint8_t kind, const struct node_id *from, struct bytes bytes);

/* All that is there, in the order of arrival; the caller frees it by inbox_next(). NULL: nothing.
 */
struct inbox_message *inbox_take(struct inbox *inbox);

/* Frees the first of a list and answers the next. */
struct inbox_message *inbox_next(struct inbox_message *message);

uint64_t inbox_dropped(struct inbox *inbox);

#endif
