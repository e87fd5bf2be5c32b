/* SPDX-License-Identifier: Apache-2.0 */
#ifndef HTTP_AWAITED_H
#define HTTP_AWAITED_H

/*
 * awaited: what a request has asked other threads of the node for, each of which tells something
 * once. It is a part of the record that they write to, which belongs to all of them: whoever leaves
 * last frees it.
 *
 *     awaited_lock(awaited);
 *     ... what came, into the record ...
 *     if (awaited_told(awaited)) ... frees the record ...
 *
 * Threads: awaited_lock() and awaited_told() from any; the others are for the request.
 */

#include <pthread.h>

#include "http/wait.h"

struct awaited {
    struct wait wait;
    pthread_mutex_t lock; /* over the record, while somebody may tell; before that of the waits */
    unsigned owners;      /* the request, and those who will tell */
    unsigned tellers;
    bool is_gone; /* the request is, and the server may be */
};

/* Nobody will tell anything yet. In a record of its own memory. */
void awaited_init(struct awaited *awaited, const struct request *request);

/* Before so many others are asked. */
void awaited_ask(struct awaited *awaited, unsigned tellers);

void awaited_lock(struct awaited *awaited);
void awaited_unlock(struct awaited *awaited);

/* One of them has told, with the lock, which this gives back. Wakes the request if nobody is left
 * to tell. True: the caller frees the record. */
[[nodiscard]] bool awaited_told(struct awaited *awaited);

/* Before the request looks at the record. True: all have told, and nobody else touches it. */
bool awaited_look(struct awaited *awaited);

/* As wait_sleep(), if they have not. */
enum wait_outcome awaited_sleep(struct awaited *awaited, struct request *request);

/* The request ends, and is woken no more. *ret_is_told: nobody will tell anything; else the caller
 * may call off what it asked for, before awaited_end(). */
void awaited_leave(struct awaited *awaited, bool *ret_is_told);
/* After awaited_leave(). True: the caller frees the record. */
[[nodiscard]] bool awaited_end(struct awaited *awaited);

#endif
