/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One suite for both implementations, and what only a file can do: last, be damaged, fill up.
 */
#include <fcntl.h>
#include <ftw.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include <cmocka.h>

#include "base/err.h"
#include "base/mem.h"
#include "kv/kv.h"

enum { TABLE_A, TABLE_B };
static const char *const table_names[] = {"a", "b", "c"};

static bool on_disk = true;
static bool in_memory = false;

/* Small enough for a sanitizer's address space many times over. */
#define TEST_MAP_BYTES ((uint64_t)256 << 20)

/* ---- faults: liblmdb finds this function before libc's ---- */

static atomic_bool sync_fails;

int fdatasync(int fd)
{
    if (atomic_load(&sync_fails)) {
        errno = EIO;
        return -1;
    }
    return fsync(fd);
}

/* ---- fixture ---- */

struct fixture {
    struct kv *kv;
    bool on_disk;
    char dir[64];
};

static struct kv_options options_of(const struct fixture *fixture)
{
    return (struct kv_options){
        .tables = table_names,
        .tables_count = 2,
        .path = fixture->dir,
        .map_bytes = TEST_MAP_BYTES,
    };
}

static void open_kv(struct fixture *fixture, const struct kv_options *options)
{
    assert_null(fixture->kv);
    assert_int_equal(fixture->on_disk ? kv_open(options, &fixture->kv)
                                      : kv_open_memory(options, &fixture->kv),
                     0);
}

static void close_kv(struct fixture *fixture)
{
    kv_close(STEAL_PTR(fixture->kv));
}

static int setup(void **state)
{
    struct fixture *fixture = mem_alloc(sizeof(*fixture));
    fixture->on_disk = *(const bool *)*state;
    strcpy(fixture->dir, "/tmp/artel-kv-XXXXXX");
    assert_non_null(mkdtemp(fixture->dir));
    const struct kv_options options = options_of(fixture);
    open_kv(fixture, &options);
    *state = fixture;
    return 0;
}

static int remove_one(const char *path, const struct stat *info, int kind, struct FTW *ftw)
{
    (void)info;
    (void)kind;
    (void)ftw;
    return remove(path);
}

static int teardown(void **state)
{
    struct fixture *fixture = *state;
    kv_close(fixture->kv);
    nftw(fixture->dir, remove_one, 8, FTW_DEPTH | FTW_PHYS);
    free(fixture);
    return 0;
}

/* ---- words ---- */

static struct bytes text(const char *string)
{
    return bytes_of_string(string);
}

#define NOTHING BYTES(NULL, 0)

#define assert_bytes(actual, string)                                                               \
    do {                                                                                           \
        const struct bytes is_ = (actual);                                                         \
        assert_int_equal(is_.size, strlen(string));                                                \
        assert_memory_equal(is_.data, string, is_.size);                                           \
    } while (0)

static struct kv_txn *begin_write(struct fixture *fixture)
{
    struct kv_txn *txn;
    assert_int_equal(kv_write(fixture->kv, &txn), 0);
    return txn;
}

static struct kv_txn *begin_read(struct fixture *fixture)
{
    struct kv_txn *txn;
    assert_int_equal(kv_read(fixture->kv, &txn), 0);
    return txn;
}

static void put(struct kv_txn *txn, kv_table table, const char *key, const char *value)
{
    assert_int_equal(kv_put(txn, table, text(key), text(value)), 0);
}

static void commit_one(struct fixture *fixture, const char *key, const char *value)
{
    struct kv_txn *txn = begin_write(fixture);
    put(txn, TABLE_A, key, value);
    assert_int_equal(kv_commit(txn), 0);
}

static void assert_has(struct kv_txn *txn, kv_table table, const char *key, const char *value)
{
    struct bytes found;
    assert_int_equal(kv_get(txn, table, text(key), &found), 0);
    assert_bytes(found, value);
}

static void assert_lacks(struct kv_txn *txn, kv_table table, const char *key)
{
    struct bytes found = text("untouched");
    assert_int_equal(kv_get(txn, table, text(key), &found), -ENOENT);
    assert_bytes(found, "untouched");
}

static void assert_count(struct kv_txn *txn, kv_table table, uint64_t expected)
{
    uint64_t count;
    assert_int_equal(kv_count(txn, table, &count), 0);
    assert_int_equal(count, expected);
}

/* What the next snapshot has. */
static void assert_committed(struct fixture *fixture, const char *key, const char *value)
{
    struct kv_txn *txn = begin_read(fixture);
    if (value) {
        assert_has(txn, TABLE_A, key, value);
    } else {
        assert_lacks(txn, TABLE_A, key);
    }
    kv_abort(txn);
}

typedef int seek_fn(struct kv_cursor *cursor, struct bytes key, struct bytes *ret_key,
                    struct bytes *ret_value);

/* `expected` NULL: there is none. */
static void assert_seek(struct kv_cursor *cursor, seek_fn *seek, const char *from,
                        const char *expected)
{
    struct bytes key = text("untouched");
    struct bytes value = text("untouched");
    assert_int_equal(seek(cursor, text(from), &key, &value), expected ? 0 : -ENOENT);
    assert_bytes(key, expected ? expected : "untouched");
    assert_bytes(value, expected ? expected : "untouched");
}

static void assert_next(struct kv_cursor *cursor, const char *expected)
{
    struct bytes key = text("untouched");
    struct bytes value = text("untouched");
    assert_int_equal(kv_next(cursor, &key, &value), expected ? 0 : -ENOENT);
    assert_bytes(key, expected ? expected : "untouched");
    assert_bytes(value, expected ? expected : "untouched");
}

static struct kv_cursor *open_cursor(struct kv_txn *txn, kv_table table)
{
    struct kv_cursor *cursor;
    assert_int_equal(kv_cursor_open(txn, table, &cursor), 0);
    return cursor;
}

/* ---- both: keys and values ---- */

static void put_is_got_back(void **state)
{
    struct fixture *fixture = *state;
    struct kv_txn *txn = begin_write(fixture);
    put(txn, TABLE_A, "one", "1");
    assert_has(txn, TABLE_A, "one", "1");
    assert_lacks(txn, TABLE_A, "two");
    assert_lacks(txn, TABLE_A, "on");
    assert_lacks(txn, TABLE_A, "onex");
    assert_int_equal(kv_commit(txn), 0);
    assert_committed(fixture, "one", "1");
    assert_committed(fixture, "two", NULL);
}

static void put_replaces(void **state)
{
    struct fixture *fixture = *state;
    struct kv_txn *txn = begin_write(fixture);
    put(txn, TABLE_A, "key", "short");
    put(txn, TABLE_A, "key", "a longer one");
    assert_has(txn, TABLE_A, "key", "a longer one");
    put(txn, TABLE_A, "key", "s");
    put(txn, TABLE_A, "key", "s"); /* the same again */
    assert_has(txn, TABLE_A, "key", "s");
    assert_count(txn, TABLE_A, 1);
    assert_int_equal(kv_commit(txn), 0);
    commit_one(fixture, "key", "s");
    assert_committed(fixture, "key", "s");
}

static void put_copies(void **state)
{
    struct fixture *fixture = *state;
    char key[] = "key";
    char value[] = "value";
    struct kv_txn *txn = begin_write(fixture);
    put(txn, TABLE_A, key, value);
    key[0] = 'x';
    value[0] = 'x';
    assert_has(txn, TABLE_A, "key", "value");
    assert_lacks(txn, TABLE_A, "xey");
    kv_abort(txn);
}

static void values_of_any_size(void **state)
{
    struct fixture *fixture = *state;
    static const size_t sizes[] = {0, 1, 2000, 2030, 4096, 4097, 65536, 1 << 20};
    uint8_t *data = mem_alloc(1 << 20);
    for (size_t i = 0; i < 1 << 20; i++) {
        data[i] = (uint8_t)(i * 7 + i / 256);
    }
    struct kv_txn *txn = begin_write(fixture);
    for (size_t i = 0; i < ARRAY_SIZE(sizes); i++) {
        const uint8_t key = (uint8_t)i;
        assert_int_equal(kv_put(txn, TABLE_A, BYTES(&key, 1), BYTES(data, sizes[i])), 0);
    }
    const uint8_t key_of_null = 255;
    assert_int_equal(kv_put(txn, TABLE_A, BYTES(&key_of_null, 1), NOTHING), 0);
    assert_int_equal(kv_commit(txn), 0);

    txn = begin_read(fixture);
    struct bytes value = text("x");
    assert_int_equal(kv_get(txn, TABLE_A, BYTES(&key_of_null, 1), &value), 0);
    assert_int_equal(value.size, 0);
    for (size_t i = 0; i < ARRAY_SIZE(sizes); i++) {
        const uint8_t key = (uint8_t)i;
        assert_int_equal(kv_get(txn, TABLE_A, BYTES(&key, 1), &value), 0);
        assert_true(bytes_equal(value, BYTES(data, sizes[i])));
    }
    kv_abort(txn);
    free(data);
}

static void keys_have_limits(void **state)
{
    struct fixture *fixture = *state;
    const uint8_t long_key[KV_KEY_BYTES_MAX + 1] = {1};
    const struct bytes most = BYTES(long_key, KV_KEY_BYTES_MAX);
    const struct bytes too_long = BYTES(long_key, KV_KEY_BYTES_MAX + 1);
    const struct bytes refused[] = {NOTHING, too_long};
    struct bytes value = text("untouched");
    struct bytes key = text("untouched");

    struct kv_txn *txn = begin_write(fixture);
    assert_int_equal(kv_put(txn, TABLE_A, most, text("longest")), 0);
    for (size_t i = 0; i < ARRAY_SIZE(refused); i++) {
        assert_int_equal(kv_put(txn, TABLE_A, refused[i], text("x")), -EINVAL);
        assert_int_equal(kv_append(txn, TABLE_A, refused[i], text("x")), -EINVAL);
        assert_int_equal(kv_delete(txn, TABLE_A, refused[i]), -EINVAL);
        assert_int_equal(kv_get(txn, TABLE_A, refused[i], &value), -EINVAL);
    }
    struct kv_cursor *cursor = open_cursor(txn, TABLE_A);
    assert_int_equal(kv_seek(cursor, too_long, &key, &value), -EINVAL);
    assert_int_equal(kv_seek_before(cursor, too_long, &key, &value), -EINVAL);
    assert_bytes(value, "untouched");
    assert_int_equal(kv_seek(cursor, most, &key, &value), 0);
    assert_true(bytes_equal(key, most));
    kv_cursor_close(cursor);
    /* A refusal is not a failure of the transaction. */
    assert_int_equal(kv_changes(txn), 1);
    assert_int_equal(kv_commit(txn), 0);

    txn = begin_read(fixture);
    assert_count(txn, TABLE_A, 1);
    assert_int_equal(kv_get(txn, TABLE_A, most, &value), 0);
    assert_bytes(value, "longest");
    kv_abort(txn);
}

static void delete_removes(void **state)
{
    struct fixture *fixture = *state;
    struct kv_txn *txn = begin_write(fixture);
    assert_int_equal(kv_delete(txn, TABLE_A, text("none")), -ENOENT);
    put(txn, TABLE_A, "a", "1");
    put(txn, TABLE_A, "b", "2");
    assert_int_equal(kv_delete(txn, TABLE_A, text("a")), 0);
    assert_int_equal(kv_delete(txn, TABLE_A, text("a")), -ENOENT);
    assert_lacks(txn, TABLE_A, "a");
    assert_int_equal(kv_commit(txn), 0);
    assert_committed(fixture, "a", NULL);
    assert_committed(fixture, "b", "2");

    txn = begin_write(fixture);
    assert_int_equal(kv_delete(txn, TABLE_A, text("b")), 0);
    assert_int_equal(kv_commit(txn), 0);
    txn = begin_read(fixture);
    assert_count(txn, TABLE_A, 0);
    kv_abort(txn);
}

static void append_wants_the_end(void **state)
{
    struct fixture *fixture = *state;
    struct kv_txn *txn = begin_write(fixture);
    assert_int_equal(kv_append(txn, TABLE_A, text("b"), text("1")), 0);
    assert_int_equal(kv_append(txn, TABLE_A, text("b"), text("2")), -EEXIST);
    assert_int_equal(kv_append(txn, TABLE_A, text("a"), text("2")), -EEXIST);
    assert_int_equal(kv_append(txn, TABLE_A, text("ba"), text("2")), 0);
    assert_int_equal(kv_append(txn, TABLE_B, text("a"), NOTHING), 0);
    put(txn, TABLE_A, "a", "0");
    assert_int_equal(kv_delete(txn, TABLE_A, text("ba")), 0);
    assert_int_equal(kv_append(txn, TABLE_A, text("b1"), text("3")), 0);
    assert_int_equal(kv_changes(txn), 6);
    assert_int_equal(kv_commit(txn), 0);
    txn = begin_read(fixture);
    assert_count(txn, TABLE_A, 3);
    assert_has(txn, TABLE_A, "b", "1");
    assert_has(txn, TABLE_A, "b1", "3");
    assert_has(txn, TABLE_B, "a", "");
    kv_abort(txn);
}

static void append_many(void **state)
{
    struct fixture *fixture = *state;
    struct kv_txn *txn = begin_write(fixture);
    char key[16];
    for (int i = 0; i < 20000; i++) {
        snprintf(key, sizeof(key), "%08d", i);
        assert_int_equal(kv_append(txn, TABLE_A, text(key), text(key)), 0);
    }
    assert_int_equal(kv_commit(txn), 0);
    txn = begin_read(fixture);
    struct kv_cursor *cursor = open_cursor(txn, TABLE_A);
    for (int i = 0; i < 20000; i++) {
        snprintf(key, sizeof(key), "%08d", i);
        assert_next(cursor, key);
    }
    assert_next(cursor, NULL);
    kv_cursor_close(cursor);
    kv_abort(txn);
}

static void tables_are_separate(void **state)
{
    struct fixture *fixture = *state;
    struct kv_txn *txn = begin_write(fixture);
    put(txn, TABLE_A, "key", "in a");
    assert_lacks(txn, TABLE_B, "key");
    put(txn, TABLE_B, "key", "in b");
    assert_has(txn, TABLE_A, "key", "in a");
    assert_int_equal(kv_delete(txn, TABLE_A, text("key")), 0);
    assert_has(txn, TABLE_B, "key", "in b");
    assert_count(txn, TABLE_A, 0);
    assert_count(txn, TABLE_B, 1);
    kv_abort(txn);
}

static void counts_and_changes(void **state)
{
    struct fixture *fixture = *state;
    struct kv_txn *txn = begin_write(fixture);
    assert_count(txn, TABLE_A, 0);
    assert_int_equal(kv_changes(txn), 0);
    put(txn, TABLE_A, "a", "1");
    put(txn, TABLE_A, "a", "1");
    put(txn, TABLE_B, "b", "1");
    assert_int_equal(kv_append(txn, TABLE_A, text("b"), NOTHING), 0);
    assert_int_equal(kv_delete(txn, TABLE_A, text("a")), 0);
    assert_int_equal(kv_delete(txn, TABLE_A, text("a")), -ENOENT);
    assert_lacks(txn, TABLE_A, "a");
    assert_int_equal(kv_changes(txn), 5);
    assert_count(txn, TABLE_A, 1);
    assert_count(txn, TABLE_B, 1);
    assert_int_equal(kv_commit(txn), 0);
    txn = begin_write(fixture);
    assert_int_equal(kv_changes(txn), 0);
    assert_int_equal(kv_commit(txn), 0);
}

/* ---- both: cursors ---- */

static void cursors_of_an_empty_table(void **state)
{
    struct fixture *fixture = *state;
    for (int writes = 0; writes < 2; writes++) {
        struct kv_txn *txn = writes ? begin_write(fixture) : begin_read(fixture);
        struct kv_cursor *cursor = open_cursor(txn, TABLE_A);
        assert_next(cursor, NULL);
        assert_seek(cursor, kv_seek, "", NULL);
        assert_seek(cursor, kv_seek, "a", NULL);
        assert_seek(cursor, kv_seek_before, "", NULL);
        assert_seek(cursor, kv_seek_before, "a", NULL);
        assert_next(cursor, NULL);
        kv_cursor_close(cursor);
        kv_abort(txn);
    }
}

static void fill_bdf(struct kv_txn *txn)
{
    put(txn, TABLE_A, "d", "d");
    put(txn, TABLE_A, "b", "b");
    put(txn, TABLE_A, "f", "f");
}

static void seek_finds_the_first_from(void **state)
{
    struct fixture *fixture = *state;
    struct kv_txn *txn = begin_write(fixture);
    fill_bdf(txn);
    struct kv_cursor *cursor = open_cursor(txn, TABLE_A);
    assert_seek(cursor, kv_seek, "", "b");
    assert_seek(cursor, kv_seek, "a", "b");
    assert_seek(cursor, kv_seek, "b", "b");
    assert_seek(cursor, kv_seek, "ba", "d");
    assert_seek(cursor, kv_seek, "d", "d");
    assert_seek(cursor, kv_seek, "f", "f");
    assert_seek(cursor, kv_seek, "f ", NULL);
    assert_seek(cursor, kv_seek, "c", "d"); /* goes on after a miss */
    kv_cursor_close(cursor);
    kv_abort(txn);
}

static void seek_before_finds_the_last_below(void **state)
{
    struct fixture *fixture = *state;
    struct kv_txn *txn = begin_write(fixture);
    fill_bdf(txn);
    struct kv_cursor *cursor = open_cursor(txn, TABLE_A);
    assert_seek(cursor, kv_seek_before, "", "f");
    assert_seek(cursor, kv_seek_before, "z", "f");
    assert_seek(cursor, kv_seek_before, "f", "d");
    assert_seek(cursor, kv_seek_before, "f ", "f");
    assert_seek(cursor, kv_seek_before, "d", "b");
    assert_seek(cursor, kv_seek_before, "ba", "b");
    assert_seek(cursor, kv_seek_before, "b", NULL);
    assert_seek(cursor, kv_seek_before, "a", NULL);
    assert_seek(cursor, kv_seek_before, "e", "d");
    kv_cursor_close(cursor);
    kv_abort(txn);
}

static void next_goes_on_from_where_it_is(void **state)
{
    struct fixture *fixture = *state;
    struct kv_txn *txn = begin_write(fixture);
    fill_bdf(txn);
    assert_int_equal(kv_commit(txn), 0);
    txn = begin_read(fixture);
    struct kv_cursor *cursor = open_cursor(txn, TABLE_A);
    assert_next(cursor, "b"); /* begins before the first */
    assert_next(cursor, "d");
    assert_next(cursor, "f");
    assert_next(cursor, NULL);
    assert_next(cursor, NULL); /* stays after the last */
    assert_seek(cursor, kv_seek, "c", "d");
    assert_next(cursor, "f");
    assert_next(cursor, NULL);
    assert_seek(cursor, kv_seek, "g", NULL);
    assert_next(cursor, NULL);
    assert_seek(cursor, kv_seek_before, "d", "b");
    assert_next(cursor, "d");
    assert_seek(cursor, kv_seek_before, "", "f");
    assert_next(cursor, NULL);
    assert_seek(cursor, kv_seek_before, "a", NULL);
    assert_next(cursor, "b");
    kv_cursor_close(cursor);
    kv_abort(txn);
}

static void keys_are_ordered_as_memcmp(void **state)
{
    struct fixture *fixture = *state;
    static const struct {
        uint8_t data[4];
        size_t size;
    } keys[] = {
        {{0}, 1},          {{0, 0}, 2},       {{0, 1}, 2},       {{1}, 1},    {{'a'}, 1},
        {{'a', 0}, 2},     {{'a', 'a'}, 2},   {{'b'}, 1},        {{0x7f}, 1}, {{0x80}, 1},
        {{0x80, 0xff}, 2}, {{0xff, 0x7f}, 2}, {{0xff, 0xff}, 2},
    };
    struct kv_txn *txn = begin_write(fixture);
    for (size_t i = 0; i < ARRAY_SIZE(keys); i++) {
        const size_t at = i * 5 % ARRAY_SIZE(keys); /* in some other order */
        assert_int_equal(kv_put(txn, TABLE_A, BYTES(keys[at].data, keys[at].size), NOTHING), 0);
    }
    struct kv_cursor *cursor = open_cursor(txn, TABLE_A);
    struct bytes key;
    struct bytes value;
    for (size_t i = 0; i < ARRAY_SIZE(keys); i++) {
        assert_int_equal(kv_next(cursor, &key, &value), 0);
        assert_true(bytes_equal(key, BYTES(keys[i].data, keys[i].size)));
    }
    assert_int_equal(kv_next(cursor, &key, &value), -ENOENT);
    kv_cursor_close(cursor);
    kv_abort(txn);
}

static void seeks_see_changes_of_their_transaction(void **state)
{
    struct fixture *fixture = *state;
    struct kv_txn *txn = begin_write(fixture);
    struct kv_cursor *cursor = open_cursor(txn, TABLE_A);
    assert_seek(cursor, kv_seek, "", NULL);
    fill_bdf(txn);
    assert_seek(cursor, kv_seek, "", "b");
    put(txn, TABLE_A, "a", "a");
    assert_seek(cursor, kv_seek, "", "a");
    assert_next(cursor, "b");
    put(txn, TABLE_B, "x", "x"); /* of another table: goes on */
    assert_next(cursor, "d");
    assert_int_equal(kv_delete(txn, TABLE_A, text("d")), 0);
    assert_seek(cursor, kv_seek_before, "f", "b");
    assert_next(cursor, "f");
    kv_cursor_close(cursor);
    kv_abort(txn);
}

/* The way to clear a range: seek, delete, seek again. */
static void delete_while_walking(void **state)
{
    struct fixture *fixture = *state;
    char name[16];
    struct kv_txn *txn = begin_write(fixture);
    for (int i = 0; i < 3000; i++) {
        snprintf(name, sizeof(name), "%05d", i * 7919 % 3000);
        put(txn, TABLE_A, name, name);
    }
    assert_int_equal(kv_commit(txn), 0);

    txn = begin_write(fixture);
    struct kv_cursor *cursor = open_cursor(txn, TABLE_A);
    for (int i = 1000; i < 2000; i++) {
        snprintf(name, sizeof(name), "%05d", i);
        assert_seek(cursor, kv_seek, "01000", name);
        assert_int_equal(kv_delete(txn, TABLE_A, text(name)), 0);
    }
    assert_seek(cursor, kv_seek, "01000", "02000");
    assert_seek(cursor, kv_seek_before, "02000", "00999");
    assert_next(cursor, "02000");
    kv_cursor_close(cursor);
    assert_count(txn, TABLE_A, 2000);
    assert_int_equal(kv_commit(txn), 0);
}

/* ---- both: transactions ---- */

static void abort_forgets(void **state)
{
    struct fixture *fixture = *state;
    commit_one(fixture, "kept", "1");
    struct kv_txn *txn = begin_write(fixture);
    put(txn, TABLE_A, "new", "1");
    put(txn, TABLE_A, "kept", "2");
    put(txn, TABLE_B, "new", "1");
    kv_abort(txn);
    kv_abort(NULL);
    txn = begin_read(fixture);
    assert_has(txn, TABLE_A, "kept", "1");
    assert_lacks(txn, TABLE_A, "new");
    assert_count(txn, TABLE_B, 0);
    kv_abort(txn);
}

static void snapshots_stay_as_they_were(void **state)
{
    struct fixture *fixture = *state;
    struct kv_txn *empty = begin_read(fixture);
    struct kv_txn *txn = begin_write(fixture);
    fill_bdf(txn);
    assert_int_equal(kv_commit(txn), 0);
    struct kv_txn *snapshot = begin_read(fixture);
    struct kv_cursor *cursor = open_cursor(snapshot, TABLE_A);
    assert_next(cursor, "b");
    struct bytes borrowed;
    assert_int_equal(kv_get(snapshot, TABLE_A, text("f"), &borrowed), 0);

    txn = begin_write(fixture);
    assert_int_equal(kv_delete(txn, TABLE_A, text("d")), 0);
    put(txn, TABLE_A, "f", "changed");
    put(txn, TABLE_A, "c", "c");
    assert_has(snapshot, TABLE_A, "f", "f"); /* before the commit */
    assert_int_equal(kv_commit(txn), 0);
    for (int i = 0; i < 50; i++) { /* whatever was freed is used again by now */
        commit_one(fixture, "g", "overwritten");
    }

    assert_bytes(borrowed, "f");
    assert_next(cursor, "d");
    assert_next(cursor, "f");
    assert_next(cursor, NULL);
    assert_has(snapshot, TABLE_A, "d", "d");
    assert_lacks(snapshot, TABLE_A, "c");
    assert_count(snapshot, TABLE_A, 3);
    assert_count(empty, TABLE_A, 0);
    kv_cursor_close(cursor);
    kv_abort(snapshot);
    assert_lacks(empty, TABLE_A, "b");
    kv_abort(empty);
    txn = begin_read(fixture);
    assert_has(txn, TABLE_A, "f", "changed");
    assert_lacks(txn, TABLE_A, "d");
    assert_count(txn, TABLE_A, 4);
    kv_abort(txn);
}

/* More than a pool would keep; ended ones are used again. */
static void many_snapshots(void **state)
{
    struct fixture *fixture = *state;
    struct kv_txn *txns[200];
    char value[16];
    for (int round = 0; round < 3; round++) {
        for (size_t i = 0; i < ARRAY_SIZE(txns); i++) {
            snprintf(value, sizeof(value), "%d.%zu", round, i);
            commit_one(fixture, "key", value);
            txns[i] = begin_read(fixture);
        }
        for (size_t i = 0; i < ARRAY_SIZE(txns); i++) {
            snprintf(value, sizeof(value), "%d.%zu", round, i);
            assert_has(txns[i], TABLE_A, "key", value);
            kv_abort(txns[i]);
        }
    }
}

static void full_is_an_error_and_still_readable(void **state)
{
    struct fixture *fixture = *state;
    close_kv(fixture);
    struct kv_options options = options_of(fixture);
    options.map_bytes = 2 << 20;
    open_kv(fixture, &options);
    commit_one(fixture, "first", "1");

    static const uint8_t data[3000];
    struct kv_txn *txn = begin_write(fixture);
    int err = 0;
    uint32_t i = 0;
    for (; i < 2000 && !err; i++) {
        err = kv_put(txn, TABLE_B, BYTES((const uint8_t *)&i, sizeof(i)), BYTES(data, 3000));
    }
    assert_int_equal(err, -ENOSPC);
    assert_in_range(i, 100, 1000);
    struct bytes value = text("untouched");
    uint64_t count = 7;
    struct kv_cursor *cursor = NULL;
    assert_int_equal(kv_get(txn, TABLE_A, text("first"), &value), -ENOSPC);
    assert_int_equal(kv_delete(txn, TABLE_A, text("first")), -ENOSPC);
    assert_int_equal(kv_count(txn, TABLE_A, &count), -ENOSPC);
    assert_int_equal(kv_cursor_open(txn, TABLE_A, &cursor), -ENOSPC);
    assert_bytes(value, "untouched");
    assert_int_equal(count, 7);
    assert_int_equal(kv_commit(txn), -ENOSPC);

    assert_committed(fixture, "first", "1");
    txn = begin_read(fixture);
    assert_count(txn, TABLE_B, 0);
    kv_abort(txn);
    commit_one(fixture, "second", "2"); /* what fits is taken */
    assert_committed(fixture, "second", "2");
}

static void too_many_tables(void **state)
{
    struct fixture *fixture = *state;
    close_kv(fixture);
    char names[KV_TABLES_MAX + 1][8];
    const char *tables[KV_TABLES_MAX + 1];
    for (size_t i = 0; i < ARRAY_SIZE(tables); i++) {
        snprintf(names[i], sizeof(names[i]), "t%zu", i);
        tables[i] = names[i];
    }
    struct kv_options options = options_of(fixture);
    options.tables = tables;
    options.tables_count = KV_TABLES_MAX + 1;
    struct kv *kv = NULL;
    assert_int_equal(fixture->on_disk ? kv_open(&options, &kv) : kv_open_memory(&options, &kv),
                     -EINVAL);
    assert_null(kv);
    options.tables_count = KV_TABLES_MAX;
    open_kv(fixture, &options);
    struct kv_txn *txn = begin_write(fixture);
    put(txn, KV_TABLES_MAX - 1, "key", "last table");
    assert_int_equal(kv_commit(txn), 0);
    txn = begin_read(fixture);
    assert_has(txn, KV_TABLES_MAX - 1, "key", "last table");
    kv_abort(txn);
}

/* ---- both: threads ---- */

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
        put(txn, TABLE_B, key, key);
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

static void a_second_writer_waits(void **state)
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

/* ---- memory only ---- */

static void memory_is_never_read_only(void **state)
{
    struct fixture *fixture = *state;
    struct kv_options options = options_of(fixture);
    options.read_only = true;
    struct kv *kv = NULL;
    assert_int_equal(kv_open_memory(&options, &kv), -EINVAL);
    assert_null(kv);
}

/* What is replaced or deleted makes room. */
static void memory_counts_what_it_holds(void **state)
{
    struct fixture *fixture = *state;
    close_kv(fixture);
    struct kv_options options = options_of(fixture);
    options.map_bytes = 1000;
    open_kv(fixture, &options);
    static const uint8_t data[800];
    for (int i = 0; i < 10; i++) {
        struct kv_txn *txn = begin_write(fixture);
        assert_int_equal(kv_put(txn, TABLE_A, text("a"), BYTES(data, 800)), 0);
        assert_int_equal(kv_put(txn, TABLE_A, text("a"), BYTES(data, 800)), 0);
        assert_int_equal(kv_delete(txn, TABLE_A, text("a")), 0);
        assert_int_equal(kv_put(txn, TABLE_B, text("b"), BYTES(data, 800)), 0);
        assert_int_equal(kv_commit(txn), 0);
        txn = begin_write(fixture);
        assert_int_equal(kv_put(txn, TABLE_A, text("a"), BYTES(data, 800)), -ENOSPC);
        assert_int_equal(kv_commit(txn), -ENOSPC);
        txn = begin_write(fixture);
        assert_int_equal(kv_delete(txn, TABLE_B, text("b")), 0);
        assert_int_equal(kv_commit(txn), 0);
    }
}

/* ---- disk only ---- */

static void reopen_keeps_data(void **state)
{
    struct fixture *fixture = *state;
    commit_one(fixture, "key", "value");
    struct kv_txn *txn = begin_write(fixture);
    put(txn, TABLE_A, "aborted", "x");
    kv_abort(txn);
    close_kv(fixture);

    struct kv_options options = options_of(fixture);
    options.tables_count = 3; /* one more */
    open_kv(fixture, &options);
    txn = begin_write(fixture);
    assert_has(txn, TABLE_A, "key", "value");
    assert_lacks(txn, TABLE_A, "aborted");
    put(txn, 2, "key", "new table");
    assert_int_equal(kv_commit(txn), 0);
    close_kv(fixture);

    options.read_only = true;
    open_kv(fixture, &options);
    txn = begin_read(fixture);
    assert_has(txn, TABLE_A, "key", "value");
    assert_has(txn, 2, "key", "new table");
    kv_abort(txn);
}

static void the_default_map_opens(void **state)
{
    struct fixture *fixture = *state;
    close_kv(fixture);
    struct kv_options options = options_of(fixture);
    options.map_bytes = 0;
    open_kv(fixture, &options);
    commit_one(fixture, "key", "value");
    assert_committed(fixture, "key", "value");
}

/* A sanitizer maps terabytes itself and does not live under `ulimit -v`. */
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define HAS_SANITIZER 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define HAS_SANITIZER 1
#endif
#endif

static void the_default_map_fits_the_address_space(void **state)
{
#ifdef HAS_SANITIZER
    (void)state;
    skip();
#else
    struct fixture *fixture = *state;
    close_kv(fixture);
    struct kv_options options = options_of(fixture);
    options.map_bytes = 0;
    struct rlimit old;
    assert_int_equal(getrlimit(RLIMIT_AS, &old), 0);
    struct rlimit limit = old;

    limit.rlim_cur = (rlim_t)200 << 30; /* room for 128 GiB */
    assert_int_equal(setrlimit(RLIMIT_AS, &limit), 0);
    const int err = kv_open(&options, &fixture->kv);
    limit.rlim_cur = (rlim_t)60 << 30; /* less than the floor */
    assert_int_equal(setrlimit(RLIMIT_AS, &limit), 0);
    close_kv(fixture);
    struct kv *kv = NULL;
    const int err_of_less = kv_open(&options, &kv);
    assert_int_equal(setrlimit(RLIMIT_AS, &old), 0);
    assert_int_equal(err, 0);
    assert_int_equal(err_of_less, -EIO);
#endif
}

static int open_error(struct fixture *fixture, const struct kv_options *options)
{
    assert_null(fixture->kv);
    return kv_open(options, &fixture->kv);
}

static void what_is_not_there(void **state)
{
    struct fixture *fixture = *state;
    close_kv(fixture);
    struct kv_options options = options_of(fixture);
    options.read_only = true;
    options.tables_count = 3;
    assert_int_equal(open_error(fixture, &options), -ENOENT); /* the third table */

    char path[128];
    snprintf(path, sizeof(path), "%s/none", fixture->dir);
    options.path = path;
    assert_int_equal(open_error(fixture, &options), -ENOENT);
    options.read_only = false;
    assert_int_equal(open_error(fixture, &options), -ENOENT);
    assert_int_equal(mkdir(path, 0700), 0);
    options.read_only = true;
    assert_int_equal(open_error(fixture, &options), -ENOENT); /* no database in it */
    snprintf(path, sizeof(path), "%s/data.mdb", fixture->dir);
    assert_int_equal(open_error(fixture, &options), -ENOTDIR);
}

static void read_only_refuses_writes(void **state)
{
    struct fixture *fixture = *state;
    commit_one(fixture, "key", "value");
    close_kv(fixture);
    struct kv_options options = options_of(fixture);
    options.read_only = true;
    open_kv(fixture, &options);
    struct kv_txn *txn = NULL;
    assert_int_equal(kv_write(fixture->kv, &txn), -EROFS);
    assert_null(txn);
    assert_committed(fixture, "key", "value");
}

/* In the child; its exit status says which step failed. */
static int read_beside(const struct fixture *fixture, int from_parent, int to_parent)
{
    struct kv_options options = options_of(fixture);
    options.read_only = true;
    struct kv *kv;
    struct kv_txn *txn;
    struct bytes value;
    char byte;
    if (read(from_parent, &byte, 1) != 1 || kv_open(&options, &kv) != 0) {
        return 1;
    }
    if (kv_read(kv, &txn) != 0 || kv_get(txn, TABLE_A, text("key"), &value) != 0 ||
        !bytes_equal(value, text("old"))) {
        return 2;
    }
    if (write(to_parent, "x", 1) != 1 || read(from_parent, &byte, 1) != 1) {
        return 3;
    }
    if (!bytes_equal(value, text("old"))) { /* the snapshot holds over processes */
        return 4;
    }
    kv_abort(txn);
    if (kv_read(kv, &txn) != 0 || kv_get(txn, TABLE_A, text("key"), &value) != 0 ||
        !bytes_equal(value, text("new"))) {
        return 5;
    }
    kv_abort(txn);
    kv_close(kv);
    return 0;
}

static void read_only_beside_a_writer(void **state)
{
    struct fixture *fixture = *state;
    close_kv(fixture);
    int down[2];
    int up[2];
    assert_int_equal(pipe(down), 0);
    assert_int_equal(pipe(up), 0);
    const pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        close(down[1]);
        close(up[0]);
        _exit(read_beside(fixture, down[0], up[1]));
    }
    close(down[0]);
    close(up[1]);
    const struct kv_options options = options_of(fixture);
    open_kv(fixture, &options);
    commit_one(fixture, "key", "old");
    char byte;
    assert_int_equal(write(down[1], "x", 1), 1);
    assert_int_equal(read(up[0], &byte, 1), 1);
    for (int i = 0; i < 20; i++) {
        commit_one(fixture, "key", "newer");
    }
    commit_one(fixture, "key", "new");
    assert_int_equal(write(down[1], "x", 1), 1);
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);
    close(down[1]);
    close(up[0]);
}

/* ---- disk only: damage ---- */

static int data_open(const struct fixture *fixture, struct stat *ret_info)
{
    char path[128];
    snprintf(path, sizeof(path), "%s/data.mdb", fixture->dir);
    const int fd = open(path, O_RDWR | O_CLOEXEC);
    assert_true(fd >= 0);
    assert_int_equal(fstat(fd, ret_info), 0);
    return fd;
}

static void data_overwrite(const struct fixture *fixture, off_t from, off_t to, int byte)
{
    struct stat info;
    const int fd = data_open(fixture, &info);
    for (off_t at = from; at < (to < info.st_size ? to : info.st_size); at++) {
        assert_int_equal(pwrite(fd, &byte, 1, at), 1);
    }
    close(fd);
}

static off_t data_cut(const struct fixture *fixture, off_t less_bytes)
{
    struct stat info;
    const int fd = data_open(fixture, &info);
    assert_int_equal(ftruncate(fd, info.st_size - less_bytes), 0);
    close(fd);
    return info.st_size;
}

/* Values of 10,000 bytes in table A, of which none is all zeros. */
static void fill_large(struct fixture *fixture, unsigned count)
{
    uint8_t data[10000];
    memset(data, 0x55, sizeof(data));
    struct kv_txn *txn = begin_write(fixture);
    for (uint32_t i = 0; i < count; i++) {
        const struct bytes key = BYTES((const uint8_t *)&i, sizeof(i));
        assert_int_equal(kv_put(txn, TABLE_A, key, BYTES(data, sizeof(data))), 0);
    }
    assert_int_equal(kv_commit(txn), 0);
}

static void another_version_is_refused(void **state)
{
    struct fixture *fixture = *state;
    commit_one(fixture, "key", "value");
    close_kv(fixture);
    /* Page header 16 bytes, magic 4, version 4; the same in both meta pages. */
    data_overwrite(fixture, 20, 21, 77);
    data_overwrite(fixture, 4096 + 20, 4096 + 21, 77);
    const struct kv_options options = options_of(fixture);
    assert_int_equal(open_error(fixture, &options), -EPROTONOSUPPORT);
}

static void garbage_is_refused(void **state)
{
    struct fixture *fixture = *state;
    commit_one(fixture, "key", "value");
    close_kv(fixture);
    data_overwrite(fixture, 0, 8192, 0x5a);
    struct kv_options options = options_of(fixture);
    assert_int_equal(open_error(fixture, &options), -EIO);
    options.read_only = true;
    assert_int_equal(open_error(fixture, &options), -EIO);
}

static void part_of_the_header_is_refused(void **state)
{
    struct fixture *fixture = *state;
    close_kv(fixture);
    struct stat info;
    const int fd = data_open(fixture, &info);
    assert_int_equal(ftruncate(fd, 100), 0);
    close(fd);
    const struct kv_options options = options_of(fixture);
    assert_int_equal(open_error(fixture, &options), -EIO);
}

static void a_lost_end_is_found_at_open(void **state)
{
    struct fixture *fixture = *state;
    fill_large(fixture, 100);
    close_kv(fixture);
    const struct kv_options options = options_of(fixture);
    /* Half; and but one byte of what is used, which is a value's or a tree page's. */
    const off_t size_bytes = data_cut(fixture, 500000);
    assert_int_equal(open_error(fixture, &options), -EIO);
    assert_int_equal(open_error(fixture, &options), -EIO); /* and not forgotten */
    struct stat info;
    close(data_open(fixture, &info));
    assert_int_equal(info.st_size, size_bytes - 500000);
}

static void a_lost_end_of_free_pages_is_no_damage(void **state)
{
    struct fixture *fixture = *state;
    commit_one(fixture, "small", "kept");
    fill_large(fixture, 100);
    struct kv_txn *txn = begin_write(fixture);
    for (uint32_t i = 0; i < 100; i++) {
        assert_int_equal(kv_delete(txn, TABLE_A, BYTES((const uint8_t *)&i, sizeof(i))), 0);
    }
    assert_int_equal(kv_commit(txn), 0);
    commit_one(fixture, "small", "kept"); /* twice: now the trees lie at the front again */
    commit_one(fixture, "small", "kept");
    close_kv(fixture);
    const off_t size_bytes = data_cut(fixture, 200000);
    const struct kv_options options = options_of(fixture);
    open_kv(fixture, &options);
    assert_committed(fixture, "small", "kept");
    struct stat info;
    close(data_open(fixture, &info));
    assert_int_equal(info.st_size, size_bytes);
    fill_large(fixture, 100);
    txn = begin_read(fixture);
    assert_count(txn, TABLE_A, 101);
    kv_abort(txn);
}

static void lost_pages_are_an_error(void **state)
{
    struct fixture *fixture = *state;
    char key[16];
    struct kv_txn *txn = begin_write(fixture);
    for (int i = 0; i < 5000; i++) {
        snprintf(key, sizeof(key), "%08d", i);
        put(txn, TABLE_A, key, key);
    }
    assert_int_equal(kv_commit(txn), 0);
    close_kv(fixture);
    /* Any page but the two of the header, and the last ones: roots and the tables' names. */
    data_overwrite(fixture, (off_t)5 * 4096, (off_t)20 * 4096, 0);
    const struct kv_options options = options_of(fixture);
    open_kv(fixture, &options);
    txn = begin_read(fixture);
    struct kv_cursor *cursor = open_cursor(txn, TABLE_A);
    struct bytes found;
    struct bytes value;
    int err;
    while ((err = kv_next(cursor, &found, &value)) == 0) {
    }
    assert_int_equal(err, -EIO);
    assert_int_equal(kv_get(txn, TABLE_A, text("00000000"), &value), -EIO);
    assert_int_equal(kv_seek(cursor, text("00000000"), &found, &value), -EIO);
    kv_cursor_close(cursor);
    kv_abort(txn);
    txn = begin_read(fixture); /* another snapshot is not tainted by it */
    assert_count(txn, TABLE_A, 5000);
    kv_abort(txn);
}

/* ---- disk only: faults ---- */

static void a_full_disk_is_an_error_and_passes(void **state)
{
    struct fixture *fixture = *state;
    commit_one(fixture, "key", "value");
    struct stat info;
    close(data_open(fixture, &info));
    struct rlimit old;
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &old), 0);
    struct rlimit limit = old;
    uint8_t *data = mem_alloc(1 << 20);
    void (*handler)(int) = signal(SIGXFSZ, SIG_IGN);

    /* In the first case nothing can be written, in the second a part. */
    for (rlim_t room_bytes = 0; room_bytes <= 100000; room_bytes += 100000) {
        struct kv_txn *txn = begin_write(fixture);
        assert_int_equal(kv_put(txn, TABLE_A, text("large"), BYTES(data, 1 << 20)), 0);
        limit.rlim_cur = (rlim_t)info.st_size + room_bytes;
        assert_int_equal(setrlimit(RLIMIT_FSIZE, &limit), 0);
        const int err = kv_commit(txn);
        assert_int_equal(setrlimit(RLIMIT_FSIZE, &old), 0);
        assert_int_equal(err, -ENOSPC);
        assert_committed(fixture, "key", "value");
        assert_committed(fixture, "large", NULL);
        commit_one(fixture, "key", "value");
    }
    signal(SIGXFSZ, handler);
    free(data);
}

static void a_failed_sync_stops_writes(void **state)
{
    struct fixture *fixture = *state;
    commit_one(fixture, "key", "old");
    struct kv_txn *txn = begin_write(fixture);
    put(txn, TABLE_A, "key", "new");
    atomic_store(&sync_fails, true);
    const int err = kv_commit(txn);
    atomic_store(&sync_fails, false);
    assert_int_equal(err, -EIO);
    txn = NULL;
    assert_int_equal(kv_write(fixture->kv, &txn), -ENOTRECOVERABLE);
    assert_null(txn);
    assert_committed(fixture, "key", "old");
    close_kv(fixture);
    const struct kv_options options = options_of(fixture);
    open_kv(fixture, &options);
    assert_committed(fixture, "key", "old");
    commit_one(fixture, "key", "new");
    assert_committed(fixture, "key", "new");
}

static void no_sync_does_not_sync(void **state)
{
    struct fixture *fixture = *state;
    close_kv(fixture);
    struct kv_options options = options_of(fixture);
    options.no_sync = true;
    open_kv(fixture, &options);
    atomic_store(&sync_fails, true);
    commit_one(fixture, "key", "value");
    atomic_store(&sync_fails, false);
    assert_committed(fixture, "key", "value");
}

#define ON_DISK(test)                                                                              \
    {                                                                                              \
#test ".lmdb", test, setup, teardown, &on_disk                                             \
    }
#define IN_MEMORY(test)                                                                            \
    {                                                                                              \
#test ".memory", test, setup, teardown, &in_memory                                         \
    }
#define ON_BOTH(test) ON_DISK(test), IN_MEMORY(test)

int main(void)
{
    const struct CMUnitTest tests[] = {
        ON_BOTH(put_is_got_back),
        ON_BOTH(put_replaces),
        ON_BOTH(put_copies),
        ON_BOTH(values_of_any_size),
        ON_BOTH(keys_have_limits),
        ON_BOTH(delete_removes),
        ON_BOTH(append_wants_the_end),
        ON_BOTH(append_many),
        ON_BOTH(tables_are_separate),
        ON_BOTH(counts_and_changes),
        ON_BOTH(cursors_of_an_empty_table),
        ON_BOTH(seek_finds_the_first_from),
        ON_BOTH(seek_before_finds_the_last_below),
        ON_BOTH(next_goes_on_from_where_it_is),
        ON_BOTH(keys_are_ordered_as_memcmp),
        ON_BOTH(seeks_see_changes_of_their_transaction),
        ON_BOTH(delete_while_walking),
        ON_BOTH(abort_forgets),
        ON_BOTH(snapshots_stay_as_they_were),
        ON_BOTH(many_snapshots),
        ON_BOTH(full_is_an_error_and_still_readable),
        ON_BOTH(too_many_tables),
        ON_BOTH(readers_beside_a_writer),
        ON_BOTH(a_second_writer_waits),
        IN_MEMORY(memory_is_never_read_only),
        IN_MEMORY(memory_counts_what_it_holds),
        ON_DISK(reopen_keeps_data),
        ON_DISK(the_default_map_opens),
        ON_DISK(the_default_map_fits_the_address_space),
        ON_DISK(what_is_not_there),
        ON_DISK(read_only_refuses_writes),
        ON_DISK(read_only_beside_a_writer),
        ON_DISK(another_version_is_refused),
        ON_DISK(garbage_is_refused),
        ON_DISK(part_of_the_header_is_refused),
        ON_DISK(a_lost_end_is_found_at_open),
        ON_DISK(a_lost_end_of_free_pages_is_no_damage),
        ON_DISK(lost_pages_are_an_error),
        ON_DISK(a_full_disk_is_an_error_and_passes),
        ON_DISK(a_failed_sync_stops_writes),
        ON_DISK(no_sync_does_not_sync),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
