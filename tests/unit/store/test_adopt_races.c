/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Files that are adopted while others are busy with them, and processes that are killed meanwhile.
 */
#include "adopt_helpers.h"

#include <sys/syscall.h>
#include <sys/wait.h>

/* ---- killed in between ---------------------------------------------------------------------- */

/* A process that is to die ends itself before so many syncs. */
static _Atomic int syncs_left = -1;

static void count_sync(void)
{
    if (syncs_left >= 0 && syncs_left-- == 0) {
        _exit(77);
    }
}

/* Instead of those of libc, for the store as well as for LMDB. */
int fsync(int fd)
{
    count_sync();
    return (int)syscall(SYS_fsync, fd);
}

int fdatasync(int fd)
{
    count_sync();
    return (int)syscall(SYS_fdatasync, fd);
}

/* Threads of a process that was forked from one with threads are more than its sanitizer takes. */
#if defined(__SANITIZE_THREAD__)
#define SKIP_IF_NO_FORK() skip()
#else
#define SKIP_IF_NO_FORK() (void)0
#endif

/* Has `run` done in a process that is killed before its n-th sync. False: it came to its end. */
static bool kill_before(struct scratch *scratch, const struct outside *outside, int n,
                        int (*run)(struct store *store, const struct outside *outside))
{
    scratch_close(scratch);
    const pid_t child = fork();
    if (child == 0) {
        MUST(store_open(&scratch->options, &scratch->store) == 0);
        syncs_left = n;
        MUST(run(scratch->store, outside) == 0);
        _exit(0);
    }
    int status = 0;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFEXITED(status) && (WEXITSTATUS(status) == 77 || WEXITSTATUS(status) == 0));
    scratch_open(scratch);
    return WEXITSTATUS(status) == 77;
}

static int run_adopt(struct store *store, const struct outside *outside)
{
    struct store_adopted adopted;
    return store_adopt(store, &outside->id, outside->path, &adopted);
}

static int run_end(struct store *store, const struct outside *outside)
{
    return store_adopt_end(store, &outside->id, outside->path);
}

static void killed_while_it_is_adopted(void **state)
{
    SKIP_IF_NO_FORK();
    struct scratch *scratch = *state;
    bool is_killed = true;
    int kills = 0;
    for (int n = 0; is_killed; n++) {
        struct outside outside = make_outside(scratch, "file", 1 + (uint64_t)n, SIZE);
        put_bytes(scratch->store, STORE_CACHE, outside.content);
        is_killed = kill_before(scratch, &outside, n, run_adopt);
        kills += is_killed;
        assert_content(scratch->store, &outside.id, outside.content);
        assert_int_equal(adopt(scratch->store, &outside).file_bytes, SIZE);
        tidy_now(scratch);
        assert_int_equal(disk_bytes(scratch), 0);
        assert_content(scratch->store, &outside.id, outside.content);
        assert_int_equal(info_of(scratch->store, &outside.id).holders[STORE_FOLLOW], 1);
        assert_int_equal(status_of(scratch->store).externals_count, 1);
        free(outside.data);
    }
    assert_true(kills >= 3);
}

static void killed_while_it_is_released(void **state)
{
    SKIP_IF_NO_FORK();
    struct scratch *scratch = *state;
    bool is_killed = true;
    int kills = 0;
    for (int n = 0; is_killed; n++) {
        struct outside outside = make_followed(scratch, "file", 1);
        assert_content(scratch->store, &outside.id, outside.content);
        is_killed = kill_before(scratch, &outside, n, run_end);
        kills += is_killed;
        if (n % 2 == 0) {
            assert_ok(store_adopt_end(scratch->store, &outside.id, outside.path));
        } else {
            CLEANUP_FREE uint8_t *data = mem_alloc(BLOCK);
            const struct id block = block_id(BYTES(outside.data, BLOCK));
            assert_int_equal(unlink(outside.path), 0);
            assert_int_equal(store_read_block(scratch->store, &block, 0, data, BLOCK), -ENOENT);
        }
        assert_gone(scratch->store, outside.content);
        assert_int_equal(info_of(scratch->store, &outside.id).holders[STORE_FOLLOW], 0);
        assert_int_equal(status_of(scratch->store).externals_count, 0);
        assert_int_equal(status_of(scratch->store).lost_count, 0);
        free(outside.data);
    }
    assert_true(kills >= 2);
}

/* ---- all at once ---------------------------------------------------------------------------- */

#define STRESS_FILES 4
#define STRESS_ROUNDS (IS_SANITIZED ? 30 : 100)

struct stress {
    struct scratch *scratch;
    struct outside files[STRESS_FILES];
    pthread_mutex_t locks[STRESS_FILES]; /* over each file on the disk */
    _Atomic bool is_over;
};

/* Adopts, changes and releases; two of these share each file. */
static void *follow_all(void *context)
{
    struct stress *stress = context;
    struct store *store = stress->scratch->store;
    for (int i = 0; i < STRESS_ROUNDS; i++) {
        const int at = i % STRESS_FILES;
        const struct outside *outside = &stress->files[at];
        struct store_adopted adopted;
        int err = store_adopt(store, &outside->id, outside->path, &adopted);
        MUST(err == 0 || err == -ESTALE || err == -ENOENT);
        pthread_mutex_lock(&stress->locks[at]);
        if (i % 3 == 0) {
            overwrite_some(outside->path);
            (void)!store_adopt(store, &outside->id, outside->path, &adopted);
            write_path(outside->path, outside->content);
        } else if (i % 3 == 1) {
            err = store_adopt_end(store, &outside->id, outside->path);
            MUST(err == 0);
        }
        pthread_mutex_unlock(&stress->locks[at]);
    }
    return NULL;
}

/* What was put is here from then on, whatever becomes of the files. */
static void *put_all(void *context)
{
    struct stress *stress = context;
    struct store *store = stress->scratch->store;
    CLEANUP_FREE uint8_t *data = mem_alloc(BLOCK);
    for (int i = 0; i < STRESS_ROUNDS; i++) {
        const struct outside *outside = &stress->files[i % STRESS_FILES];
        struct store_put *put = NULL;
        struct store_put_result result;
        MUST(store_put_begin(store, STORE_COPY, &put) == 0);
        int err = store_put_write(put, outside->content);
        if (!err) {
            err = store_put_commit(put, &result);
        } else {
            store_put_abort(put);
        }
        MUST(err == 0 || err == -EAGAIN);
        if (!err) {
            for (size_t block = 0; block < BLOCKS - 1; block++) {
                const struct id id = block_id(BYTES(outside->data + block * BLOCK, BLOCK));
                MUST(store_read_block(store, &id, 0, data, BLOCK) == 0);
                MUST(memcmp(data, outside->data + block * BLOCK, BLOCK) == 0);
            }
            MUST(store_release(store, &outside->id, STORE_COPY) == 0);
        }
    }
    return NULL;
}

static void *read_all(void *context)
{
    struct stress *stress = context;
    CLEANUP_FREE uint8_t *data = mem_alloc(BLOCK);
    for (size_t i = 0; !stress->is_over; i++) {
        const struct outside *outside = &stress->files[i % STRESS_FILES];
        const uint8_t *block = outside->data + i % (BLOCKS - 1) * BLOCK;
        const struct id id = block_id(BYTES(block, BLOCK));
        const int err = store_read_block(stress->scratch->store, &id, 0, data, BLOCK);
        MUST(err == 0 || err == -ENOENT || err == -EBADMSG);
        MUST(err != 0 || memcmp(data, block, BLOCK) == 0);
    }
    return NULL;
}

static void *tidy_all(void *context)
{
    struct stress *stress = context;
    const struct store_grace none = {0};
    while (!stress->is_over) {
        MUST(store_tidy(stress->scratch->store, &none) == 0);
    }
    return NULL;
}

static void all_at_once(void **state)
{
    struct scratch *scratch = *state;
    struct stress stress = {.scratch = scratch};
    for (int i = 0; i < STRESS_FILES; i++) {
        char name[32];
        snprintf(name, sizeof name, "file-%d", i);
        stress.files[i] = make_outside(scratch, name, 1 + (uint64_t)i, SIZE);
        put_bytes(scratch->store, STORE_CACHE, stress.files[i].content);
        pthread_mutex_init(&stress.locks[i], NULL);
    }
    void *(*const busy[])(void *) = {follow_all, follow_all, put_all, read_all, tidy_all};
    pthread_t threads[ARRAY_SIZE(busy)];
    for (size_t i = 0; i < ARRAY_SIZE(busy); i++) {
        assert_int_equal(pthread_create(&threads[i], NULL, busy[i], &stress), 0);
    }
    for (size_t i = 0; i < ARRAY_SIZE(busy); i++) {
        stress.is_over = i >= 3;
        pthread_join(threads[i], NULL);
    }
    for (int i = 0; i < STRESS_FILES; i++) {
        const struct outside *outside = &stress.files[i];
        put_bytes(scratch->store, STORE_ORIGIN, outside->content);
        assert_int_equal(unlink(outside->path), 0);
        assert_ok(store_adopt_end(scratch->store, &outside->id, outside->path));
        assert_content(scratch->store, &outside->id, outside->content);
        assert_int_equal(info_of(scratch->store, &outside->id).holders[STORE_FOLLOW], 0);
        pthread_mutex_destroy(&stress.locks[i]);
        free(stress.files[i].data);
    }
    tidy_now(scratch);
    const struct store_status status = status_of(scratch->store);
    assert_int_equal(status.externals_count, 0);
    assert_int_equal(status.lost_count, 0);
    assert_int_equal(status.corrupt_count, 0);
}

int main(void)
{
    alarm(240); /* what hangs must not hang the run */
    const struct CMUnitTest tests[] = {
        STORE_TEST(killed_while_it_is_adopted),
        STORE_TEST(killed_while_it_is_released),
        STORE_TEST(all_at_once),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
