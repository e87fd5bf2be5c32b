/* SPDX-License-Identifier: Apache-2.0 */
#include "cluster/pool_priv.h"

#include <stdlib.h>

#include "base/mem.h"

struct member_pool {
    struct record *records; /* by `hash`; several of one hash are told apart by what they say */
};

struct member_pool *member_pool_new(void)
{
    return mem_alloc(sizeof(struct member_pool));
}

void member_pool_free(struct member_pool *pool)
{
    if (!pool) {
        return;
    }
    CHECK(!pool->records);
    free(pool);
}

/* The finaliser of splitmix64 (Steele, Lea, Flood 2014). */
static uint64_t mix(uint64_t value)
{
    value = (value ^ (value >> 30)) * 0xbf58476d1ce4e5b9u;
    value = (value ^ (value >> 27)) * 0x94d049bb133111ebu;
    return value ^ (value >> 31);
}

/* Sums of these tell views apart, so every bit of the version counts. */
static uint64_t hash_of(const struct member_record *member)
{
    uint64_t hash = 0;
    uint64_t words[3] = {0};
    memcpy(words, member->id.bytes, sizeof member->id.bytes);
    for (size_t i = 0; i < ARRAY_SIZE(words); i++) {
        hash = mix(hash + 0x9e3779b97f4a7c15u + words[i]);
    }
    hash = mix(hash + 0x9e3779b97f4a7c15u + member->version.incarnation);
    return mix(hash + 0x9e3779b97f4a7c15u + member->version.boot_nonce);
}

static bool says_the_same(const struct record *record, const struct member_record *member)
{
    return node_id_equal(&record->id, &member->id) &&
           record->incarnation == member->version.incarnation &&
           record->boot_nonce == member->version.boot_nonce &&
           record->capacity_bytes == member->capacity_bytes && record->minor == member->minor &&
           address_equal(&record->address, &member->address) &&
           bytes_equal(BYTES(record->text, record->name_size), member->name) &&
           bytes_equal(record_zone(record), member->zone);
}

struct record *pool_take(struct member_pool *pool, const struct member_record *member)
{
    uint64_t hash = hash_of(member);
    struct record *record = NULL;
    HASH_FIND(hh, pool->records, &hash, sizeof hash, record);
    if (record && says_the_same(record, member)) {
        return record_share(record);
    }
    const bool is_twin = record != NULL; /* somebody says something else of the same version */
    record = mem_alloc(sizeof *record + member->name.size + member->zone.size);
    record->references = 1;
    record->hash = hash;
    record->id = member->id;
    record->incarnation = member->version.incarnation;
    record->boot_nonce = member->version.boot_nonce;
    record->capacity_bytes = member->capacity_bytes;
    record->address = member->address;
    record->minor = member->minor;
    record->name_size = (uint8_t)member->name.size;
    record->zone_size = (uint8_t)member->zone.size;
    if (member->name.size) {
        memcpy(record->text, member->name.data, member->name.size);
    }
    if (member->zone.size) {
        memcpy(record->text + member->name.size, member->zone.data, member->zone.size);
    }
    if (!is_twin) {
        HASH_ADD(hh, pool->records, hash, sizeof record->hash, record);
    }
    return record;
}

struct record *record_share(struct record *record)
{
    record->references++;
    return record;
}

void pool_give(struct member_pool *pool, struct record *record)
{
    if (!record || --record->references > 0) {
        return;
    }
    struct record *kept = NULL;
    HASH_FIND(hh, pool->records, &record->hash, sizeof record->hash, kept);
    if (kept == record) {
        HASH_DEL(pool->records, record);
    }
    free(record);
}

struct member_record record_value(const struct record *record, enum member_status status)
{
    return (struct member_record){
        .id = record->id,
        .version = {record->incarnation, record->boot_nonce, status},
        .address = record->address,
        .capacity_bytes = record->capacity_bytes,
        .minor = record->minor,
        .name = BYTES(record->text, record->name_size),
        .zone = record_zone(record),
    };
}
