/* SPDX-License-Identifier: Apache-2.0 */
#include "cluster/pool_priv.h"

#include <stdlib.h>

#include "base/mem.h"

/* Places at first; a power of two, as always. */
#define PLACES_MIN 64u

/*
 * Records by their hash: open addressing, at most half full, with the hash beside each pointer.
 * When ten thousand nodes of a simulated network learn of each other, each of a hundred million
 * additions comes here, and waits for memory: this looks at one line of the table, and at the
 * record; a table of chains (base/map.h) at three more, and made records half as large again.
 */
struct place {
    uint64_t hash;
    struct record *record; /* NULL: free */
};

struct member_pool {
    struct place *places;
    size_t places_count;
    size_t records_count;
};

struct member_pool *member_pool_new(void)
{
    struct member_pool *pool = mem_alloc(sizeof *pool);
    pool->places_count = PLACES_MIN;
    pool->places = mem_alloc_array(pool->places_count, sizeof *pool->places);
    return pool;
}

void member_pool_free(struct member_pool *pool)
{
    if (!pool) {
        return;
    }
    CHECK(pool->records_count == 0);
    free(pool->places);
    free(pool);
}

/* Where `hash` stands, or the free place where it would. */
static struct place *find_place(const struct member_pool *pool, uint64_t hash)
{
    size_t index = hash & (pool->places_count - 1);
    while (pool->places[index].record && pool->places[index].hash != hash) {
        index = (index + 1) & (pool->places_count - 1);
    }
    return &pool->places[index];
}

static void put(struct member_pool *pool, struct record *record)
{
    if (2 * (pool->records_count + 1) > pool->places_count) {
        const struct member_pool old = *pool;
        pool->places_count *= 2;
        pool->places = mem_alloc_array(pool->places_count, sizeof *pool->places);
        for (size_t i = 0; i < old.places_count; i++) {
            if (old.places[i].record) {
                *find_place(pool, old.places[i].hash) = old.places[i];
            }
        }
        free(old.places);
    }
    *find_place(pool, record->hash) = (struct place){record->hash, record};
    record->is_pooled = true;
    pool->records_count++;
}

/* What stands behind it moves up, so that no search stops at the hole (Knuth 6.4, algorithm R). */
static void take_out(struct member_pool *pool, const struct record *record)
{
    const size_t mask = pool->places_count - 1;
    size_t hole = (size_t)(find_place(pool, record->hash) - pool->places);
    for (size_t i = (hole + 1) & mask; pool->places[i].record; i = (i + 1) & mask) {
        const size_t wanted = pool->places[i].hash & mask;
        /* It may stand in the hole if that is not before the place that it wants. */
        if (((i - wanted) & mask) >= ((i - hole) & mask)) {
            pool->places[hole] = pool->places[i];
            hole = i;
        }
    }
    pool->places[hole] = (struct place){0};
    pool->records_count--;
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
    struct record *record = find_place(pool, hash)->record;
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
        put(pool, record);
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
    if (record->is_pooled) {
        take_out(pool, record);
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
