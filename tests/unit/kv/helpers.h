/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TESTS_UNIT_KV_HELPERS_H
#define TESTS_UNIT_KV_HELPERS_H

/*
 * What the tests of kv share: an environment of either kind in a directory of its own, and short
 * words for text keys.
 */

#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/err.h"
#include "base/mem.h"
#include "kv/kv.h"

enum { TABLE_A, TABLE_B };
static const char *const table_names[] = {"a", "b", "c"};

/* Small enough for a sanitizer's address space many times over. */
#define TEST_MAP_BYTES ((uint64_t)256 << 20)

/* ---- fixture ---- */

struct fixture {
    struct kv *kv;
    bool on_disk;
    char dir[64];
};

static inline struct kv_options options_of(const struct fixture *fixture)
{
    return (struct kv_options){
        .tables = table_names,
        .tables_count = 2,
        .path = fixture->dir,
        .map_bytes = TEST_MAP_BYTES,
    };
}

static inline void open_kv(struct fixture *fixture, const struct kv_options *options)
{
    assert_null(fixture->kv);
    assert_int_equal(fixture->on_disk ? kv_open(options, &fixture->kv)
                                      : kv_open_memory(options, &fixture->kv),
                     0);
}

static inline void close_kv(struct fixture *fixture)
{
    kv_close(STEAL_PTR(fixture->kv));
}

static inline int setup(void **state, bool on_disk)
{
    struct fixture *fixture = mem_alloc(sizeof(*fixture));
    fixture->on_disk = on_disk;
    strcpy(fixture->dir, "/tmp/artel-kv-XXXXXX");
    assert_non_null(mkdtemp(fixture->dir));
    const struct kv_options options = options_of(fixture);
    open_kv(fixture, &options);
    *state = fixture;
    return 0;
}

static inline int setup_lmdb(void **state)
{
    return setup(state, true);
}

static inline int setup_memory(void **state)
{
    return setup(state, false);
}

static inline int remove_one(const char *path, const struct stat *info, int kind, struct FTW *ftw)
{
    (void)info;
    (void)kind;
    (void)ftw;
    return remove(path);
}

static inline int teardown(void **state)
{
    struct fixture *fixture = *state;
    kv_close(fixture->kv);
    nftw(fixture->dir, remove_one, 8, FTW_DEPTH | FTW_PHYS);
    free(fixture);
    return 0;
}

/* ---- words ---- */

static inline struct bytes text(const char *string)
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

static inline struct kv_txn *begin_write(struct fixture *fixture)
{
    struct kv_txn *txn;
    assert_int_equal(kv_write(fixture->kv, &txn), 0);
    return txn;
}

static inline struct kv_txn *begin_read(struct fixture *fixture)
{
    struct kv_txn *txn;
    assert_int_equal(kv_read(fixture->kv, &txn), 0);
    return txn;
}

static inline void put_text(struct kv_txn *txn, kv_table table, const char *key, const char *value)
{
    assert_int_equal(kv_put(txn, table, text(key), text(value)), 0);
}

static inline void commit_one(struct fixture *fixture, const char *key, const char *value)
{
    struct kv_txn *txn = begin_write(fixture);
    put_text(txn, TABLE_A, key, value);
    assert_int_equal(kv_commit(txn), 0);
}

static inline void assert_has(struct kv_txn *txn, kv_table table, const char *key,
                              const char *value)
{
    struct bytes found;
    assert_int_equal(kv_get(txn, table, text(key), &found), 0);
    assert_bytes(found, value);
}

static inline void assert_lacks(struct kv_txn *txn, kv_table table, const char *key)
{
    struct bytes found = text("untouched");
    assert_int_equal(kv_get(txn, table, text(key), &found), -ENOENT);
    assert_bytes(found, "untouched");
}

static inline void assert_count(struct kv_txn *txn, kv_table table, uint64_t expected)
{
    uint64_t count;
    assert_int_equal(kv_count(txn, table, &count), 0);
    assert_int_equal(count, expected);
}

/* What the next snapshot has. */
static inline void assert_committed(struct fixture *fixture, const char *key, const char *value)
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
static inline void assert_seek(struct kv_cursor *cursor, seek_fn *seek, const char *from,
                               const char *expected)
{
    struct bytes key = text("untouched");
    struct bytes value = text("untouched");
    assert_int_equal(seek(cursor, text(from), &key, &value), expected ? 0 : -ENOENT);
    assert_bytes(key, expected ? expected : "untouched");
    assert_bytes(value, expected ? expected : "untouched");
}

static inline void assert_next(struct kv_cursor *cursor, const char *expected)
{
    struct bytes key = text("untouched");
    struct bytes value = text("untouched");
    assert_int_equal(kv_next(cursor, &key, &value), expected ? 0 : -ENOENT);
    assert_bytes(key, expected ? expected : "untouched");
    assert_bytes(value, expected ? expected : "untouched");
}

static inline struct kv_cursor *open_cursor(struct kv_txn *txn, kv_table table)
{
    struct kv_cursor *cursor;
    assert_int_equal(kv_cursor_open(txn, table, &cursor), 0);
    return cursor;
}

/* ---- lists of tests ---- */

/* clang-format off */
#define ON_DISK(test) {#test ".lmdb", test, setup_lmdb, teardown, NULL}
#define IN_MEMORY(test) {#test ".memory", test, setup_memory, teardown, NULL}
#define ON_BOTH(test) ON_DISK(test), IN_MEMORY(test)
/* clang-format on */

#endif
