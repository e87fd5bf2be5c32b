/* SPDX-License-Identifier: Apache-2.0 */
#ifndef FOLLOW_HOOKS_PRIV_H
#define FOLLOW_HOOKS_PRIV_H

/*
 * hooks: a thread that runs the command for each arrival in the queue of places, one after the
 * other, each until it succeeds.
 */

#include "follow/places_priv.h"

struct hooks;

struct hooks_options {
    struct places *places;
    const char *command;
    int output_fd;       /* standard output of the command */
    const char *dir;     /* absolute */
    const char *address; /* of the node */
    /* From its thread: a run that failed, or (`why` is NULL) succeeded. */
    void (*ended)(void *context, const char *path, const char *why);
    void *context;
};

/* `options` is copied, its texts not. */
struct hooks *hooks_new(const struct hooks_options *options);

/* There may be more in the queue. From any thread. */
void hooks_wake(struct hooks *hooks);

/* Ends the thread. A command that runs is left to its end after a moment, and then false: `places`
 * and the options must stay. */
bool hooks_free(struct hooks *hooks);

#endif
