/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Group commit: who fails fails alone, who is answered 0 is in the index, and after a failed sync
 * nothing is written any more.
 */
#include "helpers.h"

#include <semaphore.h>
#include <stdatomic.h>

#include "store/writer.h"

/* ---- faults: the store finds this function before libc's ---- */

static atomic_bool sync_fails;

int fdatasync(int fd)
{
    if (sync_fails) {
        errno = EIO;
        return -1;
    }
    return fsync(fd);
}

/* ---- jobs that write into a table of their own ---- */

static const char *const extra_tables[] = {"test"};
#define TABLE_TEST STORE_TABLES

struct test_job {
    struct store_job job;
    uint32_t number;
    uint32_t puts;  /* keys that it writes: (number, 0) and so on */
    int fails_with; /* behind them */
    sem_t *waits;   /* for this before anything */
    sem_t *begun;   /* told when it does */
    _Atomic int applied;
    _Atomic int answered;
    int err;
    int order; /* of the answers */
    sem_t *done;
    struct store *store;
    struct test_job *then; /* submitted from the answer */
};

static int answers;

static int put_key(struct kv_txn *txn, uint32_t number, uint32_t part)
{
    const uint32_t key[2] = {number, part};
    return kv_put(txn, TABLE_TEST, BYTES((const uint8_t *)key, sizeof key), BYTES(NULL, 0));
}

static int test_apply(struct store_job *base, struct kv_txn *txn)
{
    struct test_job *job = CONTAINER_OF(base, struct test_job, job);
    job->applied++;
    if (job->waits && job->applied == 1) {
        sem_post(job->begun);
        sem_wait(job->waits);
    }
    for (uint32_t part = 0; part < job->puts; part++) {
        MUST(put_key(txn, job->number, part) == 0);
    }
    return job->fails_with;
}

static void test_done(struct store_job *base, int err)
{
    struct test_job *job = CONTAINER_OF(base, struct test_job, job);
    job->err = err;
    job->order = answers++;
    job->answered++;
    if (job->then) {
        store_submit(job->store, &job->then->job);
    }
    sem_post(job->done);
}

static struct test_job make_job(struct store *store, uint32_t number, uint32_t puts, int fails_with,
                                sem_t *done)
{
    return (struct test_job){
        .job = {.apply = test_apply, .done = test_done},
        .number = number,
        .puts = puts,
        .fails_with = fails_with,
        .done = done,
        .store = store,
    };
}

static bool has_key(struct store *store, uint32_t number, uint32_t part)
{
    const uint32_t key[2] = {number, part};
    struct kv_txn *txn = NULL;
    struct bytes value;
    assert_ok(kv_read(store_kv(store), &txn));
    const int err = kv_get(txn, TABLE_TEST, BYTES((const uint8_t *)key, sizeof key), &value);
    kv_abort(txn);
    assert_true(err == 0 || err == -ENOENT);
    return err == 0;
}

static void open_with_table(struct scratch *scratch)
{
    scratch->options.extra_tables = extra_tables;
    scratch->options.extra_tables_count = 1;
    scratch_open(scratch);
}

static void wait_for(sem_t *done, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        while (sem_wait(done) != 0) {
        }
    }
}

/* A group of which every third job fails before it changes anything, and every fifth half-way. The
 * first job holds the writer until all others stand in the queue. */
static void who_fails_fails_alone(void **state)
{
    struct scratch *scratch = *state;
    open_with_table(scratch);
    enum { COUNT = 200 };
    sem_t done;
    sem_t gate;
    sem_t begun;
    assert_int_equal(sem_init(&done, 0, 0), 0);
    assert_int_equal(sem_init(&gate, 0, 0), 0);
    assert_int_equal(sem_init(&begun, 0, 0), 0);
    struct test_job first = make_job(scratch->store, 1000, 1, 0, &done);
    first.waits = &gate;
    first.begun = &begun;
    store_submit(scratch->store, &first.job);
    wait_for(&begun, 1);
    struct test_job *jobs = mem_alloc_array(COUNT, sizeof *jobs);
    for (uint32_t i = 0; i < COUNT; i++) {
        const bool before = i % 3 == 0;
        const bool half_way = i % 5 == 1;
        jobs[i] = make_job(scratch->store, i, before ? 0 : 3,
                           before     ? -EEXIST
                           : half_way ? -ENOENT
                                      : 0,
                           &done);
        store_submit(scratch->store, &jobs[i].job);
    }
    sem_post(&gate);
    wait_for(&done, COUNT + 1);
    assert_ok(first.err);
    for (uint32_t i = 0; i < COUNT; i++) {
        const int expected = i % 3 == 0 ? -EEXIST : i % 5 == 1 ? -ENOENT : 0;
        assert_int_equal(jobs[i].err, expected);
        assert_int_equal(jobs[i].answered, 1);
        assert_true(jobs[i].applied >= 1);
        assert_int_equal(jobs[i].order, first.order + 1 + (int)i);
        for (uint32_t part = 0; part < 3; part++) {
            assert_int_equal(has_key(scratch->store, i, part), expected == 0);
        }
    }
    /* They were one group: one that failed half-way had the others applied again. */
    assert_true(jobs[2].applied > 1);
    scratch_reopen(scratch);
    assert_true(has_key(scratch->store, 1000, 0));
    assert_true(has_key(scratch->store, COUNT - 1, 2));
    assert_false(has_key(scratch->store, 1, 0));
    free(jobs);
}

static void a_job_follows_from_an_answer(void **state)
{
    struct scratch *scratch = *state;
    open_with_table(scratch);
    sem_t done;
    assert_int_equal(sem_init(&done, 0, 0), 0);
    struct test_job third = make_job(scratch->store, 3, 1, 0, &done);
    struct test_job second = make_job(scratch->store, 2, 1, -EINVAL, &done);
    struct test_job first = make_job(scratch->store, 1, 1, 0, &done);
    first.then = &second;
    second.then = &third;
    store_submit(scratch->store, &first.job);
    wait_for(&done, 3);
    assert_ok(first.err);
    assert_int_equal(second.err, -EINVAL);
    assert_ok(third.err);
    assert_true(has_key(scratch->store, 1, 0));
    assert_false(has_key(scratch->store, 2, 0));
    assert_true(has_key(scratch->store, 3, 0));
}

/* Far more than the queue takes: store_submit() waits, and all are answered. */
static void more_than_the_queue_takes(void **state)
{
    struct scratch *scratch = *state;
    open_with_table(scratch);
    enum { COUNT = STORE_QUEUE_JOBS_MAX + STORE_GROUP_JOBS_MAX + 1000 };
    sem_t done;
    assert_int_equal(sem_init(&done, 0, 0), 0);
    struct test_job *jobs = mem_alloc_array(COUNT, sizeof *jobs);
    for (uint32_t i = 0; i < COUNT; i++) {
        jobs[i] = make_job(scratch->store, i, 1, 0, &done);
        store_submit(scratch->store, &jobs[i].job);
    }
    wait_for(&done, COUNT);
    for (uint32_t i = 0; i < COUNT; i++) {
        assert_ok(jobs[i].err);
        assert_int_equal(jobs[i].answered, 1);
        assert_true(has_key(scratch->store, i, 0));
    }
    free(jobs);
}

/* Closing waits for the jobs under way. */
static void closing_answers_all(void **state)
{
    struct scratch *scratch = *state;
    open_with_table(scratch);
    enum { COUNT = 1000 };
    sem_t done;
    assert_int_equal(sem_init(&done, 0, 0), 0);
    struct test_job *jobs = mem_alloc_array(COUNT, sizeof *jobs);
    for (uint32_t i = 0; i < COUNT; i++) {
        jobs[i] = make_job(scratch->store, i, 1, 0, &done);
        store_submit(scratch->store, &jobs[i].job);
    }
    scratch_close(scratch);
    for (uint32_t i = 0; i < COUNT; i++) {
        assert_int_equal(jobs[i].answered, 1);
        assert_ok(jobs[i].err);
    }
    scratch_open(scratch);
    assert_true(has_key(scratch->store, COUNT - 1, 0));
    free(jobs);
}

static int wait_apply(struct store_job *job, struct kv_txn *txn)
{
    (void)job;
    return put_key(txn, 7, 7);
}

static void waiting_for_a_job(void **state)
{
    struct scratch *scratch = *state;
    open_with_table(scratch);
    struct store_job job = {.apply = wait_apply};
    assert_ok(store_submit_wait(scratch->store, &job));
    assert_true(has_key(scratch->store, 7, 7));
    scratch->options.read_only = true;
    scratch_reopen(scratch);
    assert_int_equal(store_submit_wait(scratch->store, &job), -EROFS);
    assert_true(has_key(scratch->store, 7, 7));
}

/* ---- a failed sync -------------------------------------------------------------------------- */

static void after_a_failed_sync_nothing_is_written(void **state)
{
    struct scratch *scratch = *state;
    open_with_table(scratch);
    struct store *store = scratch->store;
    const struct id before = put_seed(store, STORE_ORIGIN, 1, 3 * BLOCK);
    CLEANUP_FREE uint8_t *data = make_content(2, 5000);
    struct store_put *put = NULL;
    struct store_put *late = NULL;
    struct store_put_result result = {0};
    assert_ok(store_put_begin(store, STORE_ORIGIN, &put));
    assert_ok(store_put_begin(store, STORE_ORIGIN, &late));
    assert_ok(store_put_write(put, BYTES(data, 5000)));
    sync_fails = true;
    assert_int_equal(store_put_commit(put, &result), -EIO);
    sync_fails = false;

    assert_true(status_of(store).failed);
    assert_int_equal(store_put_begin(store, STORE_ORIGIN, &put), -ENOTRECOVERABLE);
    assert_ok(store_put_write(late, BYTES(data, 5000)));
    assert_int_equal(store_put_commit(late, &result), -ENOTRECOVERABLE);
    assert_int_equal(store_release(store, &before, STORE_ORIGIN), -ENOTRECOVERABLE);
    struct store_job job = {.apply = wait_apply};
    assert_int_equal(store_submit_wait(store, &job), -ENOTRECOVERABLE);
    assert_seed(store, &before, 1, 3 * BLOCK); /* reads go on */
    struct store_file_info info;
    const struct id id = expected_id(BYTES(data, 5000));
    assert_int_equal(store_file_info(store, &id, &info), -ENOENT);

    scratch_reopen(scratch);
    store = scratch->store;
    assert_false(status_of(store).failed);
    assert_seed(store, &before, 1, 3 * BLOCK);
    put_bytes(store, STORE_ORIGIN, BYTES(data, 5000));
    assert_content(store, &id, BYTES(data, 5000));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        DIRECTORY_TEST(who_fails_fails_alone),
        DIRECTORY_TEST(a_job_follows_from_an_answer),
        DIRECTORY_TEST(more_than_the_queue_takes),
        DIRECTORY_TEST(closing_answers_all),
        DIRECTORY_TEST(waiting_for_a_job),
        DIRECTORY_TEST(after_a_failed_sync_nothing_is_written),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
