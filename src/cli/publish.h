/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CLI_PUBLISH_H
#define CLI_PUBLISH_H

/*
 * publish: the requests behind `artel put`. Each call publishes one thing and prints the line that
 * says so, or the reason why not; from any thread, each with a client of its own.
 */

#include <stdatomic.h>

#include "cli/cli.h"
#include "cli/progress.h"
#include "client/client.h"

struct publish {
    const struct invocation *invocation;
    struct progress *progress;
    bool is_atomic;
    bool is_in_place; /* the client is that of the node's Unix socket */
    bool is_json;
    const char *mode;     /* "0644" for all files, or NULL: their own */
    const char *if_match; /* "If-Match: ..." and the like, or NULL */
    atomic_bool has_failed;
};

/* A file, or with "-" standard input, as `path`. A link is followed. */
void publish_file(struct publish *publish, struct client *client, const char *source,
                  const char *path);

/* A symbolic link as it is. */
void publish_link(struct publish *publish, struct client *client, const char *source,
                  const char *path);

/* The directory itself, without what is in it; one that is there already is as good. */
void publish_empty_directory(struct publish *publish, struct client *client, const char *source,
                             const char *path);

/* All that is in the directory, as one stream. */
void publish_directory(struct publish *publish, struct client *client, const char *source,
                       const char *path);

/* "artel put: PATH: text", and a mark that not all went well. */
void publish_fail(struct publish *publish, const char *path, const char *text);

#endif
