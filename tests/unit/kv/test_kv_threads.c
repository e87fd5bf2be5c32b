/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Readers beside a writer, and writers beside each other, on both implementations.
 */
#include "helpers.h"

#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/wait.h>
#include <unistd.h>

struct race {
    struct fixture *fixture;
    atomic_bool done;
    atomic_int failures;
    atomic_int snapshots;
};

static uint64_t number_at(struct kv_txn *txn, kv_table table, const char *key)
{
    struct bytes value;
    uint64_t number = 0;
    if (kv_get(txn, table, text(key), &value) == 0 && value.size == sizeof(number)) {
        memcpy(&number, value.data, sizeof(number));
    }
    return number;
}

/* No assertions in here: cmocka's jump belongs to its own thread. */
static void *race_read(void *context)
{
    struct race *race = context;
    uint64_t last = 0;
    while (!atomic_load(&race->done)) {
        struct kv_txn *txn;
        if (kv_read(race->fixture->kv, &txn) != 0) {
            atomic_fetch_add(&race->failures, 1);
            break;
        }
        const uint64_t a = number_at(txn, TABLE_A, "number");
        uint64_t count = 0;
        uint64_t walked = 0;
        struct kv_cursor *cursor;
        bool right = kv_count(txn, TABLE_B, &count) == 0;
        if (kv_cursor_open(txn, TABLE_B, &cursor) == 0) {
            struct bytes key;
            struct bytes value;
            while (kv_next(cursor, &key, &value) == 0) {
                right = right && bytes_equal(key, value);
                walked++;
            }
            kv_cursor_close(cursor);
        }
        right = right && count == a % 64 && walked == count && a >= last;
        kv_abort(txn);
        atomic_fetch_add(&race->failures, right ? 0 : 1);
        atomic_fetch_add(&race->snapshots, 1);
        last = a;
    }
    return NULL;
}

/* Writer: number n, and n % 64 keys in the other table. */
static void race_write(struct fixture *fixture, uint64_t number)
{
    struct kv_txn *txn = begin_write(fixture);
    assert_int_equal(
        kv_put(txn, TABLE_A, text("number"), BYTES((const uint8_t *)&number, sizeof(number))), 0);
    char key[16];
    if (number % 64 == 0) {
        for (int i = 1; i < 64; i++) {
            snprintf(key, sizeof(key), "%d", i);
            assert_int_equal(kv_delete(txn, TABLE_B, text(key)), 0);
        }
    } else {
        snprintf(key, sizeof(key), "%d", (int)(number % 64));
        put_text(txn, TABLE_B, key, key);
    }
    assert_int_equal(kv_commit(txn), 0);
}

static void readers_beside_a_writer(void **state)
{
    struct fixture *fixture = *state;
    close_kv(fixture);
    struct kv_options options = options_of(fixture);
    options.no_sync = true;
    open_kv(fixture, &options);

    struct race race = {.fixture = fixture};
    pthread_t threads[4];
    for (size_t i = 0; i < ARRAY_SIZE(threads); i++) {
        assert_int_equal(pthread_create(&threads[i], NULL, race_read, &race), 0);
    }
    for (uint64_t number = 1; number <= 2000 || atomic_load(&race.snapshots) < 100; number++) {
        race_write(fixture, number);
    }
    atomic_store(&race.done, true);
    for (size_t i = 0; i < ARRAY_SIZE(threads); i++) {
        pthread_join(threads[i], NULL);
    }
    assert_int_equal(race.failures, 0);
}

static void *count_up(void *context)
{
    struct race *race = context;
    for (int i = 0; i < 100; i++) {
        struct kv_txn *txn;
        if (kv_write(race->fixture->kv, &txn) != 0) {
            atomic_fetch_add(&race->failures, 1);
            break;
        }
        const uint64_t number = number_at(txn, TABLE_A, "number") + 1;
        const struct bytes value = BYTES((const uint8_t *)&number, sizeof(number));
        if (kv_put(txn, TABLE_A, text("number"), value) != 0 || kv_commit(txn) != 0) {
            atomic_fetch_add(&race->failures, 1);
            break;
        }
    }
    return NULL;
}

static void writers_take_turns(void **state)
{
    struct race race = {.fixture = *state};
    pthread_t threads[3];
    for (size_t i = 0; i < ARRAY_SIZE(threads); i++) {
        assert_int_equal(pthread_create(&threads[i], NULL, count_up, &race), 0);
    }
    for (size_t i = 0; i < ARRAY_SIZE(threads); i++) {
        pthread_join(threads[i], NULL);
    }
    assert_int_equal(race.failures, 0);
    struct kv_txn *txn = begin_read(race.fixture);
    assert_int_equal(number_at(txn, TABLE_A, "number"), 300);
    kv_abort(txn);
}

static void *write_once(void *context)
{
    struct race *race = context;
    struct kv_txn *txn;
    if (kv_write(race->fixture->kv, &txn) != 0) {
        atomic_fetch_add(&race->failures, 1);
        return NULL;
    }
    atomic_store(&race->done, true);
    if (number_at(txn, TABLE_A, "number") != 1) {
        atomic_fetch_add(&race->failures, 1);
    }
    kv_abort(txn);
    return NULL;
}

static void a_second_writer_waits_for_the_first(void **state)
{
    struct race race = {.fixture = *state};
    struct kv_txn *txn = begin_write(race.fixture);
    pthread_t thread;
    assert_int_equal(pthread_create(&thread, NULL, write_once, &race), 0);
    usleep(50000); /* it would be in long before this */
    assert_false(race.done);
    const uint64_t number = 1;
    const struct bytes value = BYTES((const uint8_t *)&number, sizeof(number));
    assert_int_equal(kv_put(txn, TABLE_A, text("number"), value), 0);
    assert_int_equal(kv_commit(txn), 0);
    pthread_join(thread, NULL);
    assert_true(race.done);
    assert_int_equal(race.failures, 0);
}

/* Both would hang or leave readers with freed memory. */
static void closing_under_a_writer_is_caught(void **state)
{
    struct fixture *fixture = *state;
    close_kv(fixture);
    const pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        const struct kv_options options = options_of(fixture);
        struct kv_txn *txn;
        alarm(20);
        if (!freopen("/dev/null", "w", stderr) ||
            (fixture->on_disk ? kv_open(&options, &fixture->kv)
                              : kv_open_memory(&options, &fixture->kv)) != 0 ||
            kv_write(fixture->kv, &txn) != 0) {
            _exit(1);
        }
        kv_close(fixture->kv);
        _exit(2);
    }
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFSIGNALED(status));
    assert_int_equal(WTERMSIG(status), SIGABRT);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        ON_BOTH(readers_beside_a_writer),
        ON_BOTH(writers_take_turns),
        ON_BOTH(a_second_writer_waits_for_the_first),
        ON_BOTH(closing_under_a_writer_is_caught),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
