/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CLUSTER_POOL_PRIV_H
#define CLUSTER_POOL_PRIV_H

/*
 * pool: the records of members, each kept once however many views hold it. A record is immutable:
 * what it says belongs to one (incarnation, boot nonce) of its member. Its status is not part of
 * it; a view keeps that beside.
 */

#include "cluster/cluster.h"

struct record {
    uint32_t references;
    bool is_pooled; /* others may share it; two that differ in one version are told apart */
    uint64_t hash;  /* of id, incarnation and boot nonce */
    struct node_id id;
    uint64_t incarnation;
    uint64_t boot_nonce;
    uint64_t capacity_bytes;
    struct address address;
    uint8_t minor;
    uint8_t name_size;
    uint8_t zone_size;
    uint8_t text[]; /* name, then zone */
};

/* The record that says what `member` does, status aside, with one more reference. */
struct record *pool_take(struct member_pool *pool, const struct member_record *member);
struct record *record_share(struct record *record);
/* Gives a reference back. NULL is allowed. */
void pool_give(struct member_pool *pool, struct record *record);

/* The same as a value with `status`; strings are borrowed from the record. */
struct member_record record_value(const struct record *record, enum member_status status);

static inline struct bytes record_zone(const struct record *record)
{
    return BYTES(record->text + record->name_size, record->zone_size);
}

#endif
