/* SPDX-License-Identifier: Apache-2.0 */
#ifndef FOLLOW_ADOPTER_PRIV_H
#define FOLLOW_ADOPTER_PRIV_H

/*
 * adopter: a thread that tells a node of this machine which files of the directory are its copy of
 * their blocks (adoptions_priv.h), so that they cost their bytes once. Of a node elsewhere it asks
 * nothing. Whether it succeeds is nothing that a follower waits for or fails by.
 */

#include "client/client.h"
#include "follow/adoptions_priv.h"

struct adopter;

struct adopter_options {
    struct adoptions *adoptions;
    const struct client *client; /* of the node; cloned */
    const char *dir;             /* absolute */
    const _Atomic bool *is_stopped;
    /* From its thread, once: what the node can't take. `path` may be NULL. */
    void (*told)(void *context, const char *path, const char *why);
    void *context;
};

/* `options` is copied, its texts not. */
struct adopter *adopter_new(const struct adopter_options *options);

/* There may be more in the queue. From any thread. */
void adopter_wake(struct adopter *adopter);

/* The stream of changes is there: if that is of another start of the node, it may be another node,
 * or have other data. From any thread. */
void adopter_look(struct adopter *adopter, const char *cursor);

/* Ends the thread, within a second or two once *is_stopped is true. NULL is allowed. */
void adopter_free(struct adopter *adopter);

#endif
