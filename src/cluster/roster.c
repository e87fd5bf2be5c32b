/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The roster on disk, so that a node that starts knows whom to ask: version u8, the updates of all
 * other members as in wire/member.h, and the CRC-32C of all that (u32, little-endian).
 */

#include "base/err.h"
#include "cluster/cluster_priv.h"
#include "hash/crc32c.h"

#define ROSTER_VERSION 1

void cluster_save(const struct cluster *cluster, struct buf *ret_bytes)
{
    const size_t start = ret_bytes->size;
    field_put_u8(ret_bytes, ROSTER_VERSION);
    for (size_t i = 0; i < MEMBER_BUCKETS; i++) {
        const struct bucket *bucket = &cluster->view.buckets[i];
        for (size_t j = 0; j < bucket->count; j++) {
            if (!node_id_equal(&bucket->entries[j].record->id, &cluster->id)) {
                const struct member_update update = cluster_update_of(cluster, &bucket->entries[j]);
                field_put_member_update(ret_bytes, &update);
            }
        }
    }
    const struct bytes saved = BYTES(ret_bytes->data + start, ret_bytes->size - start);
    field_put_u32(ret_bytes, crc32c(saved));
}

int cluster_restore(struct cluster *cluster, uint64_t now_us, struct bytes saved)
{
    cluster->now_us = now_us;
    if (saved.size < 5 || saved.data[0] != ROSTER_VERSION ||
        crc32c(BYTES(saved.data, saved.size - 4)) != codec_get_le32(saved.data + saved.size - 4)) {
        return -EPROTO;
    }
    const struct bytes updates = BYTES(saved.data + 1, saved.size - 5);
    struct field_reader reader = field_reader_of(updates);
    struct member_update update;
    while (field_get_member_update(&reader, &update)) {
    }
    if (reader.bad) {
        return -EPROTO;
    }
    reader = field_reader_of(updates);
    while (field_get_member_update(&reader, &update)) {
        if (merge_update(cluster, &update, FROM_LIST)) {
            view_find(&cluster->view, &update.record.id)->is_restored = true;
        }
    }
    sync_eagerly(cluster);
    return 0;
}
