/* SPDX-License-Identifier: Apache-2.0 */
#ifndef FOLLOW_ARRIVE_PRIV_H
#define FOLLOW_ARRIVE_PRIV_H

/*
 * arrive: gets the content of files from the node, several at once, each block verified, into files
 * without a name. What is done with them then is the engine's.
 */

#include <sys/stat.h>

#include "client/client.h"
#include "client/out_file.h"
#include "hash/id.h"

/* Given to the threads and not taken back: fewer than CREW_QUEUE_MAX, so that none is waited for;
 * each may hold an open file. */
#define ARRIVE_JOBS_MAX 200u

struct arrival {
    struct id id;
    uint64_t length_bytes;
    struct out_file_options options;
    void *owner; /* the engine's */

    /* Once it is done: */
    struct out_file *file; /* prepared; NULL: it failed */
    struct stat info;
    bool is_synced;
    int err;       /* of this machine's disk */
    char *failure; /* of the node, for people; or NULL */
    struct arrival *next;
};

struct arrive;

/* `done` is told from any thread that there is something to take. */
struct arrive *arrive_new(const struct client *client, int staging_fd,
                          const _Atomic bool *is_stopped, void (*done)(void *context),
                          void *context);
void arrive_free(struct arrive *arrive);

/* Begins; at most ARRIVE_JOBS_MAX that were not taken back. Owns `arrival` until then. */
void arrive_begin(struct arrive *arrive, struct arrival *arrival);

/* All that are done, as a list; the caller owns them, and gives each to arrival_free(). */
struct arrival *arrive_take(struct arrive *arrive);

/* With its file, if nobody took that. NULL is allowed. */
void arrival_free(struct arrival *arrival);

#endif
