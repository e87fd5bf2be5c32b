/* SPDX-License-Identifier: Apache-2.0 */
#ifndef FOLLOW_WANTED_PRIV_H
#define FOLLOW_WANTED_PRIV_H

/*
 * wanted: what the tree has, as the node told it, by path.
 */

#include <jansson.h>

#include "client/client.h"
#include "follow/places_priv.h"

struct wanted {
    UT_hash_handle hh;
    enum place_kind kind;
    bool is_atomic; /* a directory that was published in one step */
    struct id id;   /* of the content; of a link: as local_link_id() */
    uint64_t length_bytes;
    mode_t mode;
    struct timespec mtime; /* UTIME_NOW: nobody told one */
    char *target;          /* of a link, else NULL */
    char path[];
};

struct wanted_map {
    struct wanted *all; /* for HASH_ITER, in the order in which they came */
    size_t refused;     /* entries whose path can't be followed */
};

#define CLEANUP_WANTED __attribute__((cleanup(wanted_done)))
void wanted_done(struct wanted_map *map);

struct wanted *wanted_find(const struct wanted_map *map, const char *path);

/* False for a path that has one of our own names in it, or can't be one of a file at all. */
bool wanted_is_path(const char *path);

/* Adds an entry of a listing. -EPROTO: it makes no sense. */
[[nodiscard]] int wanted_add(struct wanted_map *map, const json_t *entry);

/* Adds what stands at `path`, if anything does. False: `response` tells why that is not known. */
[[nodiscard]] bool wanted_add_path(struct wanted_map *map, struct client *client, const char *path,
                                   struct client_response *response);

/* Adds what is at the directory `path` ("": everywhere) and below it, and matches. */
[[nodiscard]] bool wanted_add_below(struct wanted_map *map, struct client *client, const char *path,
                                    const char *pattern, struct client_response *response);

/* True if the place is that already: the same content, mode and time. */
bool wanted_is_at(const struct wanted *wanted, const struct place *place);

#endif
