/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The same content has the same id whichever way it comes in, costs its bytes once, and leaves
 * nothing when it is given up.
 */
#include "helpers.h"

#include <sys/wait.h>

#include "store/held.h"

/* On both sides of every edge: of pages, spans (64 KiB) and blocks (256 KiB). */
static const size_t edges[] = {
    0,
    1,
    2,
    4095,
    4096,
    4097,
    64 * KIB - 1,
    64 * KIB,
    64 * KIB + 1,
    BLOCK - 1,
    BLOCK,
    BLOCK + 1,
    2 * BLOCK - 1,
    2 * BLOCK,
    2 * BLOCK + 1,
    7 * BLOCK,
    7 * BLOCK + 4096,
    MIB + 77,
};

static struct store_put *begin(struct store *store)
{
    struct store_put *put = NULL;
    assert_ok(store_put_begin(store, STORE_ORIGIN, &put));
    return put;
}

/* Pieces of 1 to `piece_max` bytes. */
static void write_pieces(struct store_put *put, struct random *random, struct bytes content,
                         size_t piece_max)
{
    for (size_t at = 0; at < content.size;) {
        const size_t left = content.size - at;
        size_t piece = 1 + random_below(random, piece_max);
        piece = piece < left ? piece : left;
        assert_ok(store_put_write(put, BYTES(content.data + at, piece)));
        at += piece;
    }
}

/* Through the pipe of a child: it gives as much at a time as it likes. */
static void write_pipe(struct store_put *put, struct bytes content)
{
    int fds[2];
    assert_int_equal(pipe(fds), 0);
    const pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        close(fds[0]);
        _exit(file_write_all(fds[1], content) == 0 ? 0 : 1);
    }
    close(fds[1]);
    assert_ok(store_put_fd(put, fds[0]));
    close(fds[0]);
    int status = 1;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);
}

static void write_file(const struct scratch *scratch, struct store_put *put, struct bytes content,
                       size_t skip)
{
    char path[128];
    snprintf(path, sizeof path, "%s/source", scratch->root);
    write_path(path, content);
    CLEANUP_FD int fd = open(path, O_RDONLY | O_CLOEXEC);
    assert_int_equal(lseek(fd, (off_t)skip, SEEK_SET), (off_t)skip);
    assert_ok(store_put_fd(put, fd));
}

static void commit_as(struct scratch *scratch, struct store_put *put, struct bytes content)
{
    const struct id expected = expected_id(content);
    struct store_put_result result = {0};
    assert_ok(store_put_commit(put, &result));
    assert_true(id_equal(&result.id, &expected));
    assert_int_equal(result.length_bytes, content.size);
    assert_content(scratch->store, &result.id, content);
}

static void every_way_gives_the_same(void **state)
{
    struct scratch *scratch = *state;
    struct random random;
    random_init(&random, test_seed("put"));
    for (size_t i = 0; i < ARRAY_SIZE(edges); i++) {
        const size_t size = edges[i];
        CLEANUP_FREE uint8_t *data = make_content(i, size);
        const struct bytes content = BYTES(data, size);
        const uint64_t live_before = status_of(scratch->store).live_bytes;

        struct store_put *put = begin(scratch->store);
        if (size > 0) {
            assert_ok(store_put_write(put, content));
        }
        commit_as(scratch, put, content);
        put = begin(scratch->store);
        write_pieces(put, &random, content, size < 5000 ? 7 : 100000);
        commit_as(scratch, put, content);
        put = begin(scratch->store);
        write_pieces(put, &random, content, 3 * BLOCK);
        commit_as(scratch, put, content);
        put = begin(scratch->store);
        write_pipe(put, content);
        commit_as(scratch, put, content);
        put = begin(scratch->store);
        write_file(scratch, put, content, 0);
        commit_as(scratch, put, content);
        assert_int_equal(status_of(scratch->store).live_bytes, live_before + size);
    }
}

/* A descriptor is read from its position on. */
static void from_the_middle_of_a_file(void **state)
{
    struct scratch *scratch = *state;
    CLEANUP_FREE uint8_t *data = make_content(1, 3 * BLOCK);
    const size_t skips[] = {1, 4096, BLOCK, BLOCK + 7, 3 * BLOCK - 1, 3 * BLOCK};
    for (size_t i = 0; i < ARRAY_SIZE(skips); i++) {
        struct store_put *put = begin(scratch->store);
        write_file(scratch, put, BYTES(data, 3 * BLOCK), skips[i]);
        commit_as(scratch, put, BYTES(data + skips[i], 3 * BLOCK - skips[i]));
    }
}

/* What comes behind a descriptor is cut as if all had come in one stream. */
static void one_after_the_other(void **state)
{
    struct scratch *scratch = *state;
    const size_t firsts[] = {1, BLOCK - 1, BLOCK, BLOCK + 1, 2 * BLOCK + 5000, 3 * BLOCK};
    CLEANUP_FREE uint8_t *data = make_content(1, 6 * BLOCK);
    for (size_t i = 0; i < ARRAY_SIZE(firsts); i++) {
        const size_t first = firsts[i];
        struct store_put *put = begin(scratch->store);
        write_file(scratch, put, BYTES(data, first), 0);
        assert_ok(store_put_write(put, BYTES(data + first, BLOCK)));
        write_file(scratch, put, BYTES(data + first + BLOCK, BLOCK + 3), 0);
        commit_as(scratch, put, BYTES(data, first + 2 * BLOCK + 3));
        put = begin(scratch->store);
        assert_ok(store_put_write(put, BYTES(data, 100)));
        write_file(scratch, put, BYTES(data + 100, first), 0);
        commit_as(scratch, put, BYTES(data, 100 + first));
    }
}

/* Blocks that were cut elsewhere, by another rule. */
static void whole_blocks_as_they_were_cut(void **state)
{
    struct scratch *scratch = *state;
    const uint32_t sizes[] = {5000, 1, 3 * BLOCK, 64 * KIB, 5000};
    CLEANUP_FREE uint8_t *data = make_content(9, 5 * BLOCK);
    for (unsigned round = 0; round < 2; round++) {
        CLEANUP_FILE_METADATA struct file_metadata metadata = FILE_METADATA_INIT;
        struct store_put *put = begin(scratch->store);
        size_t at = 0;
        for (size_t i = 0; i < ARRAY_SIZE(sizes); i++) {
            /* The last one is the first one again. */
            const struct bytes block = BYTES(data + (i == 4 ? 0 : at), sizes[i]);
            const struct id id = block_id(block);
            assert_ok(store_put_block(put, &id, block));
            assert_ok(file_metadata_add(&metadata, &id, sizes[i]));
            at += sizes[i];
        }
        struct store_put_result result = {0};
        assert_ok(store_put_commit(put, &result));
        struct id expected;
        file_metadata_id(&metadata, &expected);
        assert_true(id_equal(&result.id, &expected));
        assert_int_equal(result.length_bytes, at);
        assert_true(round == 0 || result.new_bytes == 0);
        memcpy(data + at - 5000, data, 5000);
        CLEANUP_FREE uint8_t *read = mem_alloc(3 * BLOCK);
        at = 0;
        for (size_t i = 0; i < ARRAY_SIZE(sizes); i++) {
            assert_ok(store_read_block(scratch->store, &metadata.blocks[i].id, 0, read, sizes[i]));
            assert_memory_equal(read, data + at, sizes[i]);
            at += sizes[i];
        }
        assert_int_equal(status_of(scratch->store).live_bytes, at - 5000);
    }
}

static void the_empty_file(void **state)
{
    struct scratch *scratch = *state;
    const struct store_put_result result = put_bytes(scratch->store, STORE_ORIGIN, BYTES(NULL, 0));
    struct id expected;
    sha256_id(bytes_of_string("{\"length\":0,\"blocks\":[]}"), &expected);
    assert_true(id_equal(&result.id, &expected));
    struct store_file_info info;
    assert_ok(store_file_info(scratch->store, &expected, &info));
    assert_int_equal(info.length_bytes, 0);
    assert_int_equal(info.blocks_count, 0);
    assert_int_equal(status_of(scratch->store).blocks_count, 0);
    assert_int_equal(disk_bytes(scratch), 0);
    assert_ok(store_release(scratch->store, &expected, STORE_ORIGIN));
    tidy_now(scratch);
    assert_int_equal(status_of(scratch->store).files_count, 0);
}

static void what_is_here_costs_nothing(void **state)
{
    struct scratch *scratch = *state;
    CLEANUP_FREE uint8_t *data = make_content(1, 4 * BLOCK);
    const struct store_put_result first =
        put_bytes(scratch->store, STORE_ORIGIN, BYTES(data, 3 * BLOCK));
    assert_int_equal(first.new_bytes, 3 * BLOCK);
    const uint64_t disk = disk_bytes(scratch);
    const struct store_put_result again =
        put_bytes(scratch->store, STORE_ORIGIN, BYTES(data, 3 * BLOCK));
    assert_int_equal(again.new_bytes, 0);
    assert_true(id_equal(&again.id, &first.id));
    struct store_file_info info;
    assert_ok(store_file_info(scratch->store, &first.id, &info));
    assert_int_equal(info.holders[STORE_ORIGIN], 1); /* once, however often */
    assert_int_equal(disk_bytes(scratch), disk);

    /* Nor for another reason; and of a file that shares blocks only the others are new. */
    const struct store_put_result copy =
        put_bytes(scratch->store, STORE_COPY, BYTES(data, 3 * BLOCK));
    assert_int_equal(copy.new_bytes, 0);
    const struct store_put_result longer =
        put_bytes(scratch->store, STORE_ORIGIN, BYTES(data, 4 * BLOCK));
    assert_int_equal(longer.new_bytes, BLOCK);
    assert_int_equal(status_of(scratch->store).live_bytes, 4 * BLOCK);
}

/* A file in which the same block stands many times. */
static void the_same_block_many_times(void **state)
{
    struct scratch *scratch = *state;
    CLEANUP_FREE uint8_t *data = mem_alloc(9 * BLOCK + 10);
    const struct bytes content = BYTES(data, 9 * BLOCK + 10);
    struct store_put *put = begin(scratch->store);
    write_file(scratch, put, content, 0);
    commit_as(scratch, put, content);
    tidy_now(scratch);
    struct store_status status = status_of(scratch->store);
    assert_int_equal(status.blocks_count, 2);
    assert_int_equal(status.live_bytes, BLOCK + 10);
    assert_in_range(disk_bytes(scratch), BLOCK, BLOCK + 2 * PAGE);
    const struct id id = expected_id(content);
    assert_ok(store_release(scratch->store, &id, STORE_ORIGIN));
    tidy_now(scratch);
    status = status_of(scratch->store);
    assert_int_equal(status.blocks_count, 0);
    assert_int_equal(disk_bytes(scratch), 0);
}

/* Behind 256 MiB blocks are of 1 MiB; all of it is zeros, so two blocks are stored. */
static void beyond_the_first_band(void **state)
{
    struct scratch *scratch = *state;
    const uint64_t size = 300 * MIB + 12345;
    char path[128];
    snprintf(path, sizeof path, "%s/sparse", scratch->root);
    CLEANUP_FD int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    assert_int_equal(ftruncate(fd, (off_t)size), 0);
    struct store_put *put = begin(scratch->store);
    assert_ok(store_put_fd(put, fd));
    struct store_put_result result = {0};
    assert_ok(store_put_commit(put, &result));
    assert_int_equal(result.length_bytes, size);

    CLEANUP_FREE uint8_t *zeros = mem_alloc(MIB);
    const struct id small = block_id(BYTES(zeros, BLOCK));
    const struct id large = block_id(BYTES(zeros, MIB));
    const struct id last = block_id(BYTES(zeros, 12345));
    CLEANUP_FILE_METADATA struct file_metadata expected = FILE_METADATA_INIT;
    for (int i = 0; i < 1024; i++) {
        assert_ok(file_metadata_add(&expected, &small, BLOCK));
    }
    for (int i = 0; i < 44; i++) {
        assert_ok(file_metadata_add(&expected, &large, MIB));
    }
    assert_ok(file_metadata_add(&expected, &last, 12345));
    struct id id;
    file_metadata_id(&expected, &id);
    assert_true(id_equal(&result.id, &id));
    CLEANUP_FILE_METADATA struct file_metadata metadata = FILE_METADATA_INIT;
    assert_ok(store_file_metadata(scratch->store, &result.id, &metadata));
    assert_int_equal(metadata.blocks_count, 1024 + 44 + 1);

    CLEANUP_FREE uint8_t *data = mem_alloc(MIB);
    memset(data, 1, MIB);
    assert_ok(store_read_block(scratch->store, &large, 0, data, MIB));
    assert_memory_equal(data, zeros, MIB);
    assert_int_equal(status_of(scratch->store).live_bytes, BLOCK + MIB + 12345);
    tidy_now(scratch);
    assert_in_range(disk_bytes(scratch), BLOCK + MIB, BLOCK + MIB + 12345 + 4 * PAGE);
}

/* ---- given up ------------------------------------------------------------------------------- */

static void assert_nothing(struct scratch *scratch)
{
    tidy_now(scratch);
    const struct store_status status = status_of(scratch->store);
    assert_int_equal(status.blocks_count, 0);
    assert_int_equal(status.files_count, 0);
    assert_int_equal(status.live_bytes, 0);
    assert_int_equal(status.unreferenced_count, 0);
    assert_int_equal(status.dead_ranges_count, 0);
    assert_int_equal(disk_bytes(scratch), 0);
}

static void an_abort_leaves_nothing(void **state)
{
    struct scratch *scratch = *state;
    const size_t sizes[] = {0, 1, 5000, BLOCK, 3 * BLOCK + 9};
    for (size_t i = 0; i < ARRAY_SIZE(sizes); i++) {
        CLEANUP_FREE uint8_t *data = make_content(i, sizes[i]);
        struct store_put *put = begin(scratch->store);
        assert_ok(store_put_write(put, BYTES(data, sizes[i])));
        store_put_abort(put);
        struct store_file_info info;
        const struct id id = expected_id(BYTES(data, sizes[i]));
        assert_int_equal(store_file_info(scratch->store, &id, &info), -ENOENT);
        assert_nothing(scratch);
    }
    store_put_abort(NULL);
}

/* So much that parts of it were named before it was given up. */
static void an_abort_of_a_large_file(void **state)
{
    struct scratch *scratch = *state;
    scratch->options.segment_bytes = 16 * MIB;
    scratch_reopen(scratch);
    CLEANUP_FREE uint8_t *data = make_content(1, MIB);
    struct store_put *put = begin(scratch->store);
    for (uint32_t i = 0; i < 150; i++) {
        memcpy(data, &i, sizeof i);
        memcpy(data + BLOCK, &i, sizeof i);
        memcpy(data + 2 * BLOCK, &i, sizeof i);
        memcpy(data + 3 * BLOCK, &i, sizeof i);
        assert_ok(store_put_write(put, BYTES(data, MIB)));
    }
    store_put_abort(put);
    assert_int_equal(status_of(scratch->store).files_count, 0);
    assert_nothing(scratch);
}

/* The blocks of one that was given up serve one that comes soon after. */
static void after_an_abort_it_can_be_put(void **state)
{
    struct scratch *scratch = *state;
    CLEANUP_FREE uint8_t *data = make_content(1, 3 * BLOCK);
    struct store_put *put = begin(scratch->store);
    assert_ok(store_put_write(put, BYTES(data, 3 * BLOCK)));
    store_put_abort(put);
    const struct id id = put_bytes(scratch->store, STORE_ORIGIN, BYTES(data, 3 * BLOCK)).id;
    assert_content(scratch->store, &id, BYTES(data, 3 * BLOCK));
    tidy_now(scratch);
    assert_content(scratch->store, &id, BYTES(data, 3 * BLOCK));
    assert_in_range(disk_bytes(scratch), 3 * BLOCK, 3 * BLOCK + PAGE);
}

static void the_same_in_two_puts_at_once(void **state)
{
    struct scratch *scratch = *state;
    CLEANUP_FREE uint8_t *data = make_content(1, 3 * BLOCK + 5);
    const struct bytes content = BYTES(data, 3 * BLOCK + 5);
    struct store_put *one = begin(scratch->store);
    struct store_put *two = begin(scratch->store);
    assert_ok(store_put_write(one, content));
    assert_ok(store_put_write(two, content));
    commit_as(scratch, one, content);
    commit_as(scratch, two, content);
    tidy_now(scratch);
    const struct store_status status = status_of(scratch->store);
    assert_int_equal(status.live_bytes, content.size);
    const struct id id = expected_id(content);
    assert_content(scratch->store, &id, content);
    assert_in_range(disk_bytes(scratch), content.size, content.size + 3 * PAGE);
}

/* ---- refused -------------------------------------------------------------------------------- */

static void no_space(void **state)
{
    struct scratch *scratch = *state;
    put_seed(scratch->store, STORE_ORIGIN, 1, 5000);
    const uint64_t disk = disk_bytes(scratch);
    scratch->options.reserve_bytes = (uint64_t)1 << 60;
    scratch_reopen(scratch);
    CLEANUP_FREE uint8_t *data = make_content(2, 2 * BLOCK);
    struct store_put *put = begin(scratch->store);
    assert_int_equal(store_put_write(put, BYTES(data, 2 * BLOCK)), -ENOSPC);
    store_put_abort(put);

    /* Found out at the end only. */
    put = begin(scratch->store);
    assert_ok(store_put_write(put, BYTES(data, 100)));
    struct store_put_result result = {0};
    assert_int_equal(store_put_commit(put, &result), -ENOSPC);
    assert_int_equal(result.length_bytes, 0);

    char path[128];
    snprintf(path, sizeof path, "%s/source", scratch->root);
    write_path(path, BYTES(data, 2 * BLOCK));
    CLEANUP_FD int fd = open(path, O_RDONLY | O_CLOEXEC);
    put = begin(scratch->store);
    assert_int_equal(store_put_fd(put, fd), -ENOSPC);
    store_put_abort(put);

    /* What is here is read, put, and removed as before. */
    CLEANUP_FREE uint8_t *old = make_content(1, 5000);
    const struct id id = put_bytes(scratch->store, STORE_ORIGIN, BYTES(old, 5000)).id;
    assert_content(scratch->store, &id, BYTES(old, 5000));
    assert_int_equal(disk_bytes(scratch), disk);
    assert_ok(store_release(scratch->store, &id, STORE_ORIGIN));
    assert_nothing(scratch);
}

static enum store_held_state held_state(struct store *store, const struct id *id)
{
    enum store_held_state state = STORE_HELD_NONE;
    assert_ok(store_held_state(store, id, &state));
    return state;
}

/* A new file of one new block has a way of its own into the index: it leads to the same. */
static void held_for_each_reason(void **state)
{
    struct scratch *scratch = *state;
    const size_t sizes[] = {5000, BLOCK + 5000};
    CLEANUP_FREE uint8_t *data = make_content(31, 2 * BLOCK);
    for (size_t i = 0; i < ARRAY_SIZE(sizes); i++) {
        for (enum store_reason reason = 0; reason < STORE_REASONS; reason++) {
            const struct bytes content = BYTES(data, sizes[i]);
            const struct store_put_result result = put_bytes(scratch->store, reason, content);
            /* Once more is held once. */
            const struct store_put_result again = put_bytes(scratch->store, reason, content);
            assert_true(id_equal(&again.id, &result.id));
            const struct id last =
                block_id(sizes[i] > BLOCK ? BYTES(data + BLOCK, sizes[i] - BLOCK) : content);
            struct store_file_info info;
            assert_ok(store_file_info(scratch->store, &result.id, &info));
            for (enum store_reason other = 0; other < STORE_REASONS; other++) {
                assert_int_equal(info.holders[other], other == reason);
            }
            assert_int_equal(held_state(scratch->store, &result.id), STORE_HELD_COMPLETE);
            assert_int_equal(held_state(scratch->store, &last), STORE_HELD_COMPLETE);
            struct store_status status = status_of(scratch->store);
            assert_int_equal(status.cache_bytes, reason == STORE_CACHE ? sizes[i] : 0);
            assert_int_equal(status.live_bytes, sizes[i]);
            assert_int_equal(status.unreferenced_count, 0);
            assert_ok(store_release(scratch->store, &result.id, reason));
            tidy_now(scratch);
            status = status_of(scratch->store);
            assert_int_equal(status.blocks_count + status.files_count + status.cache_bytes, 0);
            assert_int_equal(held_state(scratch->store, &last), STORE_HELD_NONE);
        }
    }
}

static void read_only(void **state)
{
    struct scratch *scratch = *state;
    const struct id id = put_seed(scratch->store, STORE_ORIGIN, 1, 5000);
    scratch->options.read_only = true;
    scratch_reopen(scratch);
    struct store_put *put = NULL;
    assert_int_equal(store_put_begin(scratch->store, STORE_ORIGIN, &put), -EROFS);
    assert_null(put);
    assert_int_equal(store_hold(scratch->store, &id, STORE_ORIGIN), -EROFS);
    assert_int_equal(store_release(scratch->store, &id, STORE_ORIGIN), -EROFS);
    assert_seed(scratch->store, &id, 1, 5000);
}

/* ---- several at once ------------------------------------------------------------------------ */

struct answer {
    pthread_mutex_t lock;
    pthread_cond_t answered;
    int err;
    int count;
    struct store_put_result results[3];
};

static void take_answer(void *context, int err, const struct store_put_result *results)
{
    struct answer *answer = context;
    pthread_mutex_lock(&answer->lock);
    answer->err = err;
    answer->count++;
    MUST((err == 0) == (results != NULL));
    if (results) {
        memcpy(answer->results, results, sizeof answer->results);
    }
    pthread_cond_signal(&answer->answered);
    pthread_mutex_unlock(&answer->lock);
}

static struct answer commit_three(struct store *store, struct store_put *const puts[3], bool hold,
                                  int (*also)(void *, struct kv_txn *,
                                              const struct store_put_result *))
{
    struct answer answer = {
        .lock = PTHREAD_MUTEX_INITIALIZER,
        .answered = PTHREAD_COND_INITIALIZER,
    };
    const struct store_commit commit = {
        .puts = puts,
        .puts_count = 3,
        .hold = hold,
        .also = also,
        .done = take_answer,
        .context = &answer,
    };
    store_commit_async(store, &commit);
    pthread_mutex_lock(&answer.lock);
    while (answer.count == 0) {
        pthread_cond_wait(&answer.answered, &answer.lock);
    }
    pthread_mutex_unlock(&answer.lock);
    assert_int_equal(answer.count, 1);
    return answer;
}

static const size_t three_sizes[3] = {3000, 2 * BLOCK + 1, 100000};

static void begin_three(struct store *store, struct store_put *ret_puts[3])
{
    for (size_t i = 0; i < 3; i++) {
        CLEANUP_FREE uint8_t *data = make_content(i, three_sizes[i]);
        ret_puts[i] = begin(store);
        assert_ok(store_put_write(ret_puts[i], BYTES(data, three_sizes[i])));
    }
}

static void several_become_known_together(void **state)
{
    struct scratch *scratch = *state;
    struct store_put *puts[3];
    begin_three(scratch->store, puts);
    const struct answer answer = commit_three(scratch->store, puts, true, NULL);
    assert_ok(answer.err);
    tidy_now(scratch);
    for (size_t i = 0; i < 3; i++) {
        assert_int_equal(answer.results[i].length_bytes, three_sizes[i]);
        assert_seed(scratch->store, &answer.results[i].id, i, three_sizes[i]);
    }
}

static int refuse(void *context, struct kv_txn *txn, const struct store_put_result *results)
{
    (void)context;
    (void)txn;
    (void)results;
    return -EEXIST;
}

static void all_of_them_or_none(void **state)
{
    struct scratch *scratch = *state;
    struct store_put *puts[3];
    begin_three(scratch->store, puts);
    const struct answer answer = commit_three(scratch->store, puts, true, refuse);
    assert_int_equal(answer.err, -EEXIST);
    assert_int_equal(status_of(scratch->store).files_count, 0);
    assert_nothing(scratch);
}

static void what_nobody_holds_is_collected(void **state)
{
    struct scratch *scratch = *state;
    struct store_put *puts[3];
    begin_three(scratch->store, puts);
    const struct answer answer = commit_three(scratch->store, puts, false, NULL);
    assert_ok(answer.err);
    assert_seed(scratch->store, &answer.results[1].id, 1, three_sizes[1]);
    assert_nothing(scratch);
}

/* One of the three is held by the job itself. */
static struct store *holding_store;
static int hold_second(void *context, struct kv_txn *txn, const struct store_put_result *results)
{
    (void)context;
    return store_hold_in(holding_store, txn, &results[1].id, STORE_FOLLOW);
}

static void also_holds_one(void **state)
{
    struct scratch *scratch = *state;
    struct store_put *puts[3];
    begin_three(scratch->store, puts);
    holding_store = scratch->store;
    const struct answer answer = commit_three(scratch->store, puts, false, hold_second);
    assert_ok(answer.err);
    tidy_now(scratch);
    assert_seed(scratch->store, &answer.results[1].id, 1, three_sizes[1]);
    assert_int_equal(status_of(scratch->store).files_count, 1);
    assert_int_equal(status_of(scratch->store).live_bytes, three_sizes[1]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        STORE_TEST(every_way_gives_the_same),
        STORE_TEST(from_the_middle_of_a_file),
        STORE_TEST(one_after_the_other),
        STORE_TEST(whole_blocks_as_they_were_cut),
        STORE_TEST(the_empty_file),
        STORE_TEST(what_is_here_costs_nothing),
        STORE_TEST(the_same_block_many_times),
        STORE_TEST(beyond_the_first_band),
        STORE_TEST(an_abort_leaves_nothing),
        STORE_TEST(an_abort_of_a_large_file),
        STORE_TEST(after_an_abort_it_can_be_put),
        STORE_TEST(the_same_in_two_puts_at_once),
        STORE_TEST(held_for_each_reason),
        STORE_TEST(no_space),
        STORE_TEST(read_only),
        STORE_TEST(several_become_known_together),
        STORE_TEST(all_of_them_or_none),
        STORE_TEST(what_nobody_holds_is_collected),
        STORE_TEST(also_holds_one),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
