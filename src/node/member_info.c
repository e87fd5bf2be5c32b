/* SPDX-License-Identifier: Apache-2.0 */
#include "node/member_info.h"

#include <string.h>

#include "base/mem.h"

static void copy_text(char *to, size_t room, struct bytes text)
{
    CHECK(text.size < room);
    memcpy(to, text.data, text.size);
    to[text.size] = 0;
}

void member_info_init(struct member_info *info, const struct cluster_member *member,
                      int64_t wall_offset_us)
{
    const struct member_record *record = &member->record;
    *info = (struct member_info){
        .id = record->id,
        .version = record->version,
        .address = record->address,
        .capacity_bytes = record->capacity_bytes,
        .since_ms = ((int64_t)member->since_us + wall_offset_us) / 1000,
        .rtt_us = member->rtt_us,
        .is_self = member->is_self,
        .in_ring = member->in_ring,
    };
    copy_text(info->name, sizeof info->name, record->name);
    copy_text(info->zone, sizeof info->zone, record->zone);
}
