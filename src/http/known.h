/* SPDX-License-Identifier: Apache-2.0 */
#ifndef HTTP_KNOWN_H
#define HTTP_KNOWN_H

/*
 * known: the members as they were known at one moment, to be found by their ids: for answers that
 * speak of nodes.
 */

#include <jansson.h>

#include "base/buf.h"
#include "locate/locate.h"
#include "node/fetch.h"
#include "node/network.h"

struct known {
    struct member_info *members; /* in the order of their ids */
    size_t count;
    struct node_id shunned[FETCH_SHUNNED_MAX];
    size_t shunned_count;
};

/* The caller gives it to known_done(). */
void known_init(struct known *known, struct network *network);
void known_done(struct known *known);
#define CLEANUP_KNOWN __attribute__((cleanup(known_done)))

/* NULL: it was forgotten. */
const struct member_info *known_find(const struct known *known, const struct node_id *id);
const struct member_info *known_find_at(const struct known *known, const struct address *address);

/* {"node":ID,"name":...,"zone":...,"address":...}, of a member that was forgotten the id alone;
 * with "self":true if it is this node. */
json_t *known_json(const struct known *known, const struct node_id *id);

/* The members that could not be asked, and those that have it and are not asked for it: an array of
 * these, with "why": "unreachable", "silent" or "shunned". */
json_t *known_not_asked(const struct known *known, const struct locate_answer *answers,
                        size_t count);

/* The same for people: "2 could not be asked: b (zone z1, 10.0.0.2:7420, unreachable), ...", or
 * nothing if all were. */
void known_add_not_asked(const struct known *known, const struct locate_answer *answers,
                         size_t count, struct buf *text);

#endif
