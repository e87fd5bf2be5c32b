/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The interface: one suite, run on both implementations.
 */
#include "helpers.h"

/* ---- keys and values ---- */

static void put_is_got_back(void **state)
{
    struct fixture *fixture = *state;
    struct kv_txn *txn = begin_write(fixture);
    put_text(txn, TABLE_A, "one", "1");
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
    put_text(txn, TABLE_A, "key", "short");
    put_text(txn, TABLE_A, "key", "a longer one");
    assert_has(txn, TABLE_A, "key", "a longer one");
    put_text(txn, TABLE_A, "key", "s");
    put_text(txn, TABLE_A, "key", "s"); /* the same again */
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
    put_text(txn, TABLE_A, key, value);
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
    put_text(txn, TABLE_A, "a", "1");
    put_text(txn, TABLE_A, "b", "2");
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
    put_text(txn, TABLE_A, "a", "0");
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
    put_text(txn, TABLE_A, "key", "in a");
    assert_lacks(txn, TABLE_B, "key");
    put_text(txn, TABLE_B, "key", "in b");
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
    put_text(txn, TABLE_A, "a", "1");
    put_text(txn, TABLE_A, "a", "1");
    put_text(txn, TABLE_B, "b", "1");
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

static void versions_tell_of_commits(void **state)
{
    struct fixture *fixture = *state;
    const uint64_t first = kv_version(fixture->kv);
    struct kv_txn *txn = begin_write(fixture);
    put_text(txn, TABLE_A, "a", "1");
    assert_int_equal(kv_version(fixture->kv), first);
    assert_int_equal(kv_commit(txn), 0);
    const uint64_t second = kv_version(fixture->kv);
    assert_int_not_equal(second, first);
    txn = begin_write(fixture);
    put_text(txn, TABLE_A, "a", "2");
    kv_abort(txn);
    txn = begin_read(fixture);
    kv_abort(txn);
    assert_int_equal(kv_version(fixture->kv), second);
}

/* ---- cursors ---- */

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
    put_text(txn, TABLE_A, "d", "d");
    put_text(txn, TABLE_A, "b", "b");
    put_text(txn, TABLE_A, "f", "f");
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
    put_text(txn, TABLE_A, "a", "a");
    assert_seek(cursor, kv_seek, "", "a");
    assert_next(cursor, "b");
    put_text(txn, TABLE_B, "x", "x"); /* of another table: goes on */
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
        put_text(txn, TABLE_A, name, name);
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

/* ---- transactions ---- */

static void abort_forgets(void **state)
{
    struct fixture *fixture = *state;
    commit_one(fixture, "kept", "1");
    struct kv_txn *txn = begin_write(fixture);
    put_text(txn, TABLE_A, "new", "1");
    put_text(txn, TABLE_A, "kept", "2");
    put_text(txn, TABLE_B, "new", "1");
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
    put_text(txn, TABLE_A, "f", "changed");
    put_text(txn, TABLE_A, "c", "c");
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
static uint64_t snapshot_number(struct fixture *fixture)
{
    struct kv_txn *txn = begin_read(fixture);
    const uint64_t number = kv_snapshot(txn);
    kv_abort(txn);
    return number;
}

static void snapshots_are_numbered(void **state)
{
    struct fixture *fixture = *state;
    struct kv_txn *old = begin_read(fixture);
    const uint64_t first = kv_snapshot(old);
    assert_true(first > 0);
    assert_int_equal(snapshot_number(fixture), first);
    struct kv_txn *txn = begin_write(fixture);
    put_text(txn, TABLE_A, "key", "given up");
    assert_int_equal(snapshot_number(fixture), first);
    kv_abort(txn);
    assert_int_equal(snapshot_number(fixture), first);
    for (int i = 0; i < 10; i++) {
        const uint64_t before = snapshot_number(fixture);
        commit_one(fixture, "key", "value");
        assert_true(snapshot_number(fixture) > before);
    }
    assert_int_equal(kv_snapshot(old), first);
    kv_abort(old);
}

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
    put_text(txn, KV_TABLES_MAX - 1, "key", "last table");
    assert_int_equal(kv_commit(txn), 0);
    txn = begin_read(fixture);
    assert_has(txn, KV_TABLES_MAX - 1, "key", "last table");
    kv_abort(txn);
}

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
        ON_BOTH(versions_tell_of_commits),
        ON_BOTH(cursors_of_an_empty_table),
        ON_BOTH(seek_finds_the_first_from),
        ON_BOTH(seek_before_finds_the_last_below),
        ON_BOTH(next_goes_on_from_where_it_is),
        ON_BOTH(keys_are_ordered_as_memcmp),
        ON_BOTH(seeks_see_changes_of_their_transaction),
        ON_BOTH(delete_while_walking),
        ON_BOTH(abort_forgets),
        ON_BOTH(snapshots_stay_as_they_were),
        ON_BOTH(snapshots_are_numbered),
        ON_BOTH(many_snapshots),
        ON_BOTH(full_is_an_error_and_still_readable),
        ON_BOTH(too_many_tables),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
