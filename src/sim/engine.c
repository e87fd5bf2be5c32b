/* SPDX-License-Identifier: Apache-2.0 */
#include "sim/engine.h"

#include <stdlib.h>

#include "base/mem.h"

/*
 * A heap with four children a node: half as deep as a binary one, and the four keys that are
 * compared on the way down lie in one cache line (Johnson 1975; LaMarca and Ladner 1996). A
 * calendar queue or timing wheel would do fewer comparisons, but what waits here is little (a tick
 * for each node, and datagrams for the fraction of a millisecond that they take), so the heap stays
 * in the cache, and it has no bucket width that suits one load and ruins another.
 *
 * A key is the time and a number that grows with each insertion; in the low bits of the latter
 * stands where the rest is found. Records are reused, last freed first.
 */

#define RECORD_BITS 28u
#define RECORD_MASK ((UINT64_C(1) << RECORD_BITS) - 1)
#define CHILDREN 4u

struct key {
    uint64_t at_us;
    uint64_t order; /* number of insertion << RECORD_BITS | index of the record */
};

struct record {
    void (*run)(void *context, uint64_t argument);
    void *context;
    uint64_t argument; /* of a free one: the index of the next free one */
};

struct sim_engine {
    uint64_t now_us;
    uint64_t insertions;
    uint64_t done_count;
    struct key *heap;
    size_t heap_count;
    size_t heap_capacity;
    struct record *records;
    size_t records_count;
    size_t records_capacity;
    size_t free_first; /* RECORD_MASK: none */
};

struct sim_engine *sim_engine_new(void)
{
    struct sim_engine *engine = mem_alloc(sizeof *engine);
    engine->free_first = RECORD_MASK;
    return engine;
}

void sim_engine_free(struct sim_engine *engine)
{
    if (!engine) {
        return;
    }
    free(engine->heap);
    free(engine->records);
    free(engine);
}

uint64_t sim_engine_now_us(const struct sim_engine *engine)
{
    return engine->now_us;
}

uint64_t sim_engine_done_count(const struct sim_engine *engine)
{
    return engine->done_count;
}

size_t sim_engine_waiting_count(const struct sim_engine *engine)
{
    return engine->heap_count;
}

static bool is_before(const struct key *a, const struct key *b)
{
    return a->at_us != b->at_us ? a->at_us < b->at_us : a->order < b->order;
}

static size_t take_record(struct sim_engine *engine)
{
    if (engine->free_first != RECORD_MASK) {
        const size_t index = engine->free_first;
        engine->free_first = (size_t)engine->records[index].argument;
        return index;
    }
    CHECK(engine->records_count < RECORD_MASK);
    if (engine->records_count == engine->records_capacity) {
        engine->records_capacity = engine->records_capacity ? 2 * engine->records_capacity : 1024;
        engine->records =
            mem_resize_array(engine->records, engine->records_capacity, sizeof *engine->records);
    }
    return engine->records_count++;
}

static void push(struct sim_engine *engine, struct key key)
{
    if (engine->heap_count == engine->heap_capacity) {
        engine->heap_capacity = engine->heap_capacity ? 2 * engine->heap_capacity : 1024;
        engine->heap = mem_resize_array(engine->heap, engine->heap_capacity, sizeof *engine->heap);
    }
    struct key *heap = engine->heap;
    size_t at = engine->heap_count++;
    while (at > 0) {
        const size_t parent = (at - 1) / CHILDREN;
        if (!is_before(&key, &heap[parent])) {
            break;
        }
        heap[at] = heap[parent];
        at = parent;
    }
    heap[at] = key;
}

static struct key pop(struct sim_engine *engine)
{
    struct key *heap = engine->heap;
    const struct key first = heap[0];
    const size_t count = --engine->heap_count;
    const struct key moved = heap[count];
    size_t at = 0;
    for (;;) {
        const size_t begin = at * CHILDREN + 1;
        if (begin >= count) {
            break;
        }
        const size_t end = begin + CHILDREN < count ? begin + CHILDREN : count;
        size_t least = begin;
        for (size_t child = begin + 1; child < end; child++) {
            if (is_before(&heap[child], &heap[least])) {
                least = child;
            }
        }
        if (!is_before(&heap[least], &moved)) {
            break;
        }
        heap[at] = heap[least];
        at = least;
    }
    heap[at] = moved;
    return first;
}

void sim_engine_at(struct sim_engine *engine, uint64_t at_us,
                   void (*run)(void *context, uint64_t argument), void *context, uint64_t argument)
{
    const size_t index = take_record(engine);
    engine->records[index] = (struct record){.run = run, .context = context, .argument = argument};
    push(engine, (struct key){.at_us = at_us > engine->now_us ? at_us : engine->now_us,
                              .order = engine->insertions++ << RECORD_BITS | index});
}

void sim_engine_run_until(struct sim_engine *engine, uint64_t until_us)
{
    while (engine->heap_count > 0 && engine->heap[0].at_us <= until_us) {
        const struct key key = pop(engine);
        const size_t index = key.order & RECORD_MASK;
        const struct record record = engine->records[index];
        engine->records[index].argument = engine->free_first;
        engine->free_first = index;
        engine->now_us = key.at_us;
        engine->done_count++;
        record.run(record.context, record.argument);
    }
    if (until_us > engine->now_us) {
        engine->now_us = until_us;
    }
}
