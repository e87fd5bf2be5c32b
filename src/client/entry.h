/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CLIENT_ENTRY_H
#define CLIENT_ENTRY_H

/*
 * entry: what stands at a path, as the node tells it: {"path","type","id","length","mode",
 * "mtime"...} (docs/API.md). Kept as the JSON it came as, so that --json can print all of it.
 */

#include <jansson.h>

#include "client/client.h"

/* A node's lines are an entry each: paths of 4 KiB and a target of as much, escaped; or one with
 * all its 1024 versions of a conflict. */
#define ENTRY_LINE_BYTES_MAX ((size_t)32 * 1024 * 1024)

/* The entry of `path`, which the caller gives to json_decref(); NULL: `response` tells why. */
json_t *entry_stat(struct client *client, const char *path, struct client_response *response);

/* Calls `visit` for each line of JSON objects that `request` (whose on_data is not used) streams.
 * An error of visit ends it. False: `response` tells why. */
[[nodiscard]] bool entry_stream(struct client *client, const struct client_request *request,
                                int (*visit)(void *context, json_t *object), void *context,
                                struct client_response *response);

/* The entries below a directory: `depth` as in the API ("1", "all"; NULL: unset), `match` a
 * pattern or NULL. */
[[nodiscard]] bool entry_list(struct client *client, const char *path, const char *depth,
                              const char *match, int (*visit)(void *context, json_t *entry),
                              void *context, struct client_response *response);

/* A member that is text, or "". */
const char *entry_text(const json_t *entry, const char *key);
/* One that is a number, or 0. */
uint64_t entry_number(const json_t *entry, const char *key);
uint64_t entry_length(const json_t *entry);
bool entry_is(const json_t *entry, const char *type);

/* What a file gets from the entry: its permissions, and now if no time is told. */
mode_t entry_mode(const json_t *entry, mode_t otherwise);
struct timespec entry_mtime(const json_t *entry);

/* "/fs/a%20b"; the caller frees it. */
char *entry_target(const char *path);

#endif
