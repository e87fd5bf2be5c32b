/* SPDX-License-Identifier: Apache-2.0 */
/*
 * All that a store does at the same time, with the same few contents: puts, holds, releases, reads
 * and views in several threads, against collection, reclaiming, compaction, eviction and scrub in
 * one more.
 *
 * Each worker holds files for a reason of its own, so that it knows without asking the others what
 * must be there: what it holds, unless it is the one whose reason is the cache. Everything else is
 * there or not, but never wrong. When all is released and tidied, nothing may be left.
 */
#include "helpers.h"

#include <dlfcn.h>
#include <stdatomic.h>
#include <sys/syscall.h>

#define CONTENTS 24
#define VIEWS 3
#define PROMISE_MS 50
/* Under the sanitizers a step takes ten times as long. */
#define STEPS (IS_SANITIZED ? 3000u : 12000u)
/* Of a run in which some kind of work has had no chance yet. */
#define STEPS_MAX (20 * STEPS)

#ifdef __SANITIZE_THREAD__
/* libuv closes by the bare system call, which the sanitizer does not see: it takes the next user
 * of a loop's descriptor for a race with the one that made it. So that it sees it: */
long syscall(long number, ...)
{
    va_list arguments;
    va_start(arguments, number);
    long values[6];
    for (size_t i = 0; i < ARRAY_SIZE(values); i++) {
        values[i] = va_arg(arguments, long);
    }
    va_end(arguments);
    if (number == SYS_close) {
        return close((int)values[0]);
    }
    long (*next)(long, ...) = NULL;
    void *const symbol = dlsym(RTLD_NEXT, "syscall");
    memcpy(&next, &symbol, sizeof next);
    return next(number, values[0], values[1], values[2], values[3], values[4], values[5]);
}
#endif

/* The store finds this function before libc's. A disk takes its time for a sync, and in that time
 * things meet that are made for it: a block that is marked for removal, and somebody who wants it.
 */
int fdatasync(int fd)
{
    static _Atomic uint32_t calls;
    if (++calls % 8 == 0) {
        usleep(calls / 8 % 1500);
    }
    return fsync(fd);
}

struct content {
    uint8_t *data;
    size_t size;
    struct file_metadata metadata;
    struct id id;
    char path[128]; /* a file with the same bytes */
};

struct stress {
    struct scratch *scratch;
    struct store *store;
    struct content contents[CONTENTS];
    _Atomic bool done;
    _Atomic uint64_t reads_good;
    _Atomic uint64_t evicted_bytes;
    _Atomic uint64_t moved_bytes;
    _Atomic uint64_t removed_count;
};

struct open_view {
    struct store_view view;
    const uint8_t *expected;
    bool is_open;
};

struct worker {
    struct stress *stress;
    enum store_reason reason;
    struct random random;
    uint32_t holds[CONTENTS];
    struct open_view views[VIEWS];
    pthread_t thread;
};

static const size_t sizes[CONTENTS] = {
    0,     1,         100,       4095,      4096,      4097,      20000,     50000,
    65535, 65536,     65537,     100000,    BLOCK - 1, BLOCK,     BLOCK + 1, 300000,
    2,     BLOCK + 2, BLOCK + 9, 2 * BLOCK, 30000,     2 * BLOCK, 600000,    700001,
};

/* Those of more than a block share their first one with the others of the same parity. */
static void make_contents(struct stress *stress, uint64_t seed)
{
    for (size_t i = 0; i < CONTENTS; i++) {
        struct content *content = &stress->contents[i];
        content->size = sizes[i];
        content->data = make_content(seed + 100 + i, sizes[i]);
        if (sizes[i] > BLOCK) {
            CLEANUP_FREE uint8_t *first = make_content(seed + i % 2, BLOCK);
            memcpy(content->data, first, BLOCK);
        }
        expected_metadata(BYTES(content->data, content->size), &content->metadata);
        content->id = expected_id(BYTES(content->data, content->size));
        snprintf(content->path, sizeof content->path, "%s/outside-%zu", stress->scratch->root, i);
        write_path(content->path, BYTES(content->data, content->size));
    }
}

/* True if every block of it has to be there. */
static bool is_mine(const struct worker *worker, size_t index)
{
    return worker->reason != STORE_CACHE && worker->holds[index] > 0;
}

static void feed(struct worker *worker, struct store_put *put, const struct content *content)
{
    const uint64_t way = random_below(&worker->random, 4);
    if (way == 0) {
        MUST(store_put_in_place(put, content->path) == 0);
    } else if (way == 1) {
        CLEANUP_FD int fd = open(content->path, O_RDONLY | O_CLOEXEC);
        MUST(fd >= 0 && store_put_fd(put, fd) == 0);
    } else if (way == 2) {
        MUST(store_put_write(put, BYTES(content->data, content->size)) == 0);
    } else {
        for (size_t at = 0; at < content->size;) {
            const size_t left = content->size - at;
            size_t piece = 1 + random_below(&worker->random, 200000);
            piece = piece < left ? piece : left;
            MUST(store_put_write(put, BYTES(content->data + at, piece)) == 0);
            at += piece;
        }
    }
}

static void step_put(struct worker *worker, size_t index)
{
    const struct content *content = &worker->stress->contents[index];
    struct store_put *put = NULL;
    MUST(store_put_begin(worker->stress->store, worker->reason, &put) == 0);
    feed(worker, put, content);
    if (random_below(&worker->random, 8) == 0) {
        store_put_abort(put);
        return;
    }
    struct store_put_result result;
    MUST(store_put_commit(put, &result) == 0);
    MUST(id_equal(&result.id, &content->id));
    worker->holds[index] = worker->holds[index] ? worker->holds[index] : 1;
}

static void step_hold(struct worker *worker, size_t index)
{
    const struct content *content = &worker->stress->contents[index];
    const int err = store_hold(worker->stress->store, &content->id, worker->reason);
    MUST(err == 0 || (err == -ENOENT && worker->holds[index] == 0));
    worker->holds[index] += err == 0;
}

static void step_release(struct worker *worker, size_t index)
{
    const struct content *content = &worker->stress->contents[index];
    const int err = store_release(worker->stress->store, &content->id, worker->reason);
    MUST(err == (worker->holds[index] ? 0 : -ENOENT));
    worker->holds[index] -= err == 0;
}

/* Any block of the content; gives its bytes. NULL: it has none. */
static const struct block_ref *pick_block(struct worker *worker, size_t index,
                                          const uint8_t **ret_expected)
{
    const struct content *content = &worker->stress->contents[index];
    if (content->metadata.blocks_count == 0) {
        return NULL;
    }
    const size_t at = random_below(&worker->random, content->metadata.blocks_count);
    *ret_expected = content->data + at * BLOCK;
    return &content->metadata.blocks[at];
}

static void step_read(struct worker *worker, size_t index)
{
    const uint8_t *expected = NULL;
    const struct block_ref *block = pick_block(worker, index, &expected);
    if (!block) {
        return;
    }
    const uint32_t begin = (uint32_t)random_below(&worker->random, block->size_bytes);
    const uint32_t size = (uint32_t)random_below(&worker->random, block->size_bytes - begin) + 1;
    CLEANUP_FREE uint8_t *data = mem_alloc(size);
    const int err = store_read_block(worker->stress->store, &block->id, begin, data, size);
    MUST(err == 0 || (err == -ENOENT && !is_mine(worker, index)));
    MUST(err || memcmp(data, expected + begin, size) == 0);
    worker->stress->reads_good += err == 0;
}

/* A span at a time, while everything else goes on: what could be opened is there to its end. */
static void step_pieces(struct worker *worker, size_t index)
{
    const uint8_t *expected = NULL;
    const struct block_ref *block = pick_block(worker, index, &expected);
    if (!block) {
        return;
    }
    struct store_reader *reader = NULL;
    const int err = store_reader_open(worker->stress->store, &block->id, &reader);
    MUST(err == 0 || (err == -ENOENT && !is_mine(worker, index)));
    CLEANUP_FREE uint8_t *data = mem_alloc(STORE_SPAN_BYTES);
    for (uint32_t at = 0; !err && at < block->size_bytes; at += STORE_SPAN_BYTES) {
        const uint32_t left = block->size_bytes - at;
        const uint32_t size = left < STORE_SPAN_BYTES ? left : STORE_SPAN_BYTES;
        const int failed = store_reader_copy(reader, at, data, size);
        MUST(failed == 0 || (failed == -ENOENT && !is_mine(worker, index)));
        MUST(failed || memcmp(data, expected + at, size) == 0);
    }
    store_reader_close(reader);
}

/* Closes a view that was open over many other steps, or opens one. */
static void step_view(struct worker *worker, size_t index)
{
    struct open_view *slot = &worker->views[random_below(&worker->random, VIEWS)];
    if (slot->is_open) {
        MUST(memcmp(slot->view.bytes.data, slot->expected, slot->view.bytes.size) == 0);
        store_view_close(&slot->view);
        slot->is_open = false;
        return;
    }
    const struct block_ref *block = pick_block(worker, index, &slot->expected);
    if (!block) {
        return;
    }
    const int err = store_view_open(worker->stress->store, &block->id, &slot->view);
    MUST(err == 0 || (err == -ENOENT && !is_mine(worker, index)));
    if (!err) {
        MUST(slot->view.bytes.size == block->size_bytes);
        MUST(memcmp(slot->view.bytes.data, slot->expected, block->size_bytes) == 0);
        slot->is_open = true;
    }
}

/* What was promised stays until then. */
static void step_promise(struct worker *worker, size_t index)
{
    struct store *store = worker->stress->store;
    const uint8_t *expected = NULL;
    const struct block_ref *block = pick_block(worker, index, &expected);
    if (!block) {
        return;
    }
    const struct clock *clock = &worker->stress->scratch->clock.clock;
    const uint64_t until_ms = clock_monotonic_ms(clock) + PROMISE_MS;
    const int err = store_promise(store, &block->id, PROMISE_MS);
    MUST(err == 0 || err == -EBUSY || (err == -ENOENT && !is_mine(worker, index)));
    for (int i = 0; !err && i < 3; i++) {
        uint8_t byte = 0;
        const int failed = store_read_block(store, &block->id, 0, &byte, 1);
        MUST(failed == 0 || (failed == -ENOENT && clock_monotonic_ms(clock) >= until_ms));
        MUST(failed || byte == expected[0]);
    }
}

static void step_report(struct worker *worker, size_t index)
{
    const uint8_t *expected = NULL;
    const struct block_ref *block = pick_block(worker, index, &expected);
    if (block) {
        bool dropped = false;
        const int err = store_report_bad(worker->stress->store, &block->id, &dropped);
        MUST(err == 0 || (err == -ENOENT && !is_mine(worker, index)));
        MUST(!dropped);
    }
}

static bool has_shown_all(const struct stress *stress)
{
    return stress->reads_good > 0 && stress->evicted_bytes > 0 && stress->removed_count > 0 &&
           (IS_SANITIZED || stress->moved_bytes > 0);
}

static void *work(void *argument)
{
    struct worker *worker = argument;
    static void (*const steps[])(struct worker *, size_t) = {
        step_put,     step_put,     step_put,     step_put,    step_release,
        step_release, step_release, step_release, step_read,   step_release,
        step_read,    step_read,    step_view,    step_view,   step_view,
        step_promise, step_report,  step_hold,    step_pieces,
    };
    const struct stress *stress = worker->stress;
    for (uint32_t step = 0; step < STEPS || (!has_shown_all(stress) && step < STEPS_MAX); step++) {
        steps[random_below(&worker->random, ARRAY_SIZE(steps))](
            worker, random_below(&worker->random, CONTENTS));
    }
    for (size_t i = 0; i < VIEWS; i++) {
        if (worker->views[i].is_open) {
            store_view_close(&worker->views[i].view);
        }
    }
    for (size_t i = 0; i < CONTENTS; i++) {
        while (worker->holds[i] > 0) {
            step_release(worker, i);
        }
    }
    return NULL;
}

static void evict_some(struct stress *stress, struct random *random)
{
    struct store_candidate candidates[8];
    struct id ids[8];
    size_t count = 0;
    MUST(store_evict_candidates(stress->store, random_below(random, 2 * MIB) + 1, 8, candidates,
                                &count) == 0);
    MUST(count <= 8);
    for (size_t i = 0; i < count; i++) {
        ids[i] = candidates[i].id;
    }
    if (random_below(random, 4) == 0) {
        store_evict_cancel(stress->store, ids, count);
        return;
    }
    struct store_evicted evicted;
    MUST(store_evict(stress->store, ids, count, &evicted) == 0);
    stress->evicted_bytes += evicted.bytes;
}

/* Nobody needs what is here for promises alone. */
static void end_promises(struct store *store)
{
    struct store_promised position = {0};
    struct id ids[64];
    int err = 0;
    while (!err) {
        size_t count = 0;
        size_t ended = 0;
        err = store_promised_next(store, &position, 0, ARRAY_SIZE(ids), ids, &count);
        MUST(err == 0 || err == -ENOENT);
        MUST(store_promise_end(store, ids, count, &ended) == 0 && ended <= count);
    }
}

static void maintain_once(struct stress *stress, struct random *random)
{
    const struct store_grace grace = {random_below(random, 4), random_below(random, 4)};
    uint64_t count = 0;
    size_t removed = 0;
    bool more = false;
    struct store_scrub_report report;
    const uint64_t what = random_below(random, 40);
    if (what == 0) {
        MUST(store_tidy(stress->store, &grace) == 0);
    } else if (what == 1) {
        MUST(store_scrub(stress->store, &(struct store_scrub_options){0}, &report) == 0);
        MUST(report.blocks_bad == 0 && report.files_hit == 0);
    } else if (what == 2) {
        end_promises(stress->store);
    } else if (what < 8) {
        MUST(store_compact(stress->store, &count, &more) == 0);
        stress->moved_bytes += count;
    } else if (what < 16) {
        evict_some(stress, random);
    } else if (what < 24) {
        const size_t limit = 1 + random_below(random, 200);
        MUST(store_reclaim(stress->store, &grace, limit, &count, &more) == 0);
    } else {
        const size_t limit = 1 + random_below(random, 50);
        MUST(store_collect(stress->store, &grace, limit, &removed, &more) == 0);
        stress->removed_count += removed;
    }
}

static void *maintain(void *argument)
{
    struct stress *stress = argument;
    struct random random;
    random_init(&random, stress->contents[1].data[0]);
    while (!stress->done) {
        advance(stress->scratch, 1);
        maintain_once(stress, &random);
    }
    return NULL;
}

static void assert_nothing_left(struct scratch *scratch)
{
    advance(scratch, STORE_PROMISE_MS_MAX); /* no promise holds any more */
    end_promises(scratch->store);
    tidy_now(scratch);
    const struct store_status status = status_of(scratch->store);
    assert_int_equal(status.blocks_count, 0);
    assert_int_equal(status.files_count, 0);
    assert_int_equal(status.lost_count, 0);
    assert_int_equal(status.live_bytes, 0);
    assert_int_equal(status.cache_bytes, 0);
    assert_int_equal(status.unreferenced_count, 0);
    assert_int_equal(status.dead_ranges_count, 0);
    assert_int_equal(status.externals_count, 0);
    assert_int_equal(status.corrupt_count, 0);
    assert_int_equal(status.withdrawn_count, 0);
    assert_int_equal(status.allocated_bytes, 0);
    assert_int_equal(disk_bytes(scratch), 0);
}

static void nothing_live_is_lost_and_nothing_dead_stays(void **state)
{
    struct scratch *scratch = *state;
    const uint64_t seed = test_seed("stress");
    scratch->options.segment_bytes = 2 * BLOCK; /* many, so that some of them waste much */
    scratch_open(scratch);
    struct stress stress = {.scratch = scratch, .store = scratch->store};
    make_contents(&stress, seed);

    struct worker workers[STORE_REASONS];
    pthread_t maintainer;
    for (int i = 0; i < STORE_REASONS; i++) {
        workers[i] = (struct worker){.stress = &stress, .reason = (enum store_reason)i};
        random_init(&workers[i].random, seed + 1000 + (uint64_t)i);
        assert_ok(pthread_create(&workers[i].thread, NULL, work, &workers[i]));
    }
    assert_ok(pthread_create(&maintainer, NULL, maintain, &stress));
    for (int i = 0; i < STORE_REASONS; i++) {
        assert_ok(pthread_join(workers[i].thread, NULL));
    }
    stress.done = true;
    assert_ok(pthread_join(maintainer, NULL));

    print_message("good reads %llu, removed %llu rows, evicted %llu bytes, moved %llu bytes\n",
                  (unsigned long long)stress.reads_good, (unsigned long long)stress.removed_count,
                  (unsigned long long)stress.evicted_bytes, (unsigned long long)stress.moved_bytes);
    assert_true(has_shown_all(&stress));
    assert_nothing_left(scratch);
    scratch_reopen(scratch);
    assert_nothing_left(scratch);
    for (size_t i = 0; i < CONTENTS; i++) {
        free(stress.contents[i].data);
        file_metadata_done(&stress.contents[i].metadata);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        DIRECTORY_TEST(nothing_live_is_lost_and_nothing_dead_stays),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
