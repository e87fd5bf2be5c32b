/* SPDX-License-Identifier: Apache-2.0 */
#ifndef NODE_MEMBER_INFO_H
#define NODE_MEMBER_INFO_H

/*
 * member_info: what this node knows of a member, as a plain value that outlives the list it was
 * taken from and that any thread may have.
 */

#include <stdbool.h>
#include <stdint.h>

#include "cluster/cluster.h"

struct member_info {
    struct node_id id;
    struct member_version version;
    struct address address;
    uint64_t capacity_bytes; /* of its disk; 0: not told */
    int64_t since_ms;        /* wall time: when its status became what it is, as noticed here */
    uint32_t rtt_us;         /* 0: never measured */
    bool is_self;
    bool in_ring;
    char name[MEMBER_NAME_BYTES_MAX + 1];
    char zone[MEMBER_ZONE_BYTES_MAX + 1];
};

/* `wall_offset_us` is what the wall clock is ahead of the clock of the cluster. */
void member_info_init(struct member_info *info, const struct cluster_member *member,
                      int64_t wall_offset_us);

#endif
