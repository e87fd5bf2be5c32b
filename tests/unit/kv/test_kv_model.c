/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The same random operations on LMDB, on memory and on a plain sorted array: all three answer
 * alike, in snapshots of the past too. ARTEL_TEST_SEED=<number> repeats a run.
 */
#include "helpers.h"

#include "base/random.h"

#define TABLES 2
#define TRANSACTIONS 1000
#define OPERATIONS_MAX 60 /* of a transaction */
#define SNAPSHOTS 6
#define VALUE_BYTES_MAX 65536
#define KEY_NUMBERS 3000 /* different keys */

/* ---- the plain one ---- */

struct plain_entry {
    unsigned key_number; /* what key_make() makes a key of */
    size_t value_size;
    uint8_t value_offset; /* in model.noise */
};

struct plain_table {
    struct plain_entry *entries; /* by key */
    size_t count;
};

struct plain {
    struct plain_table tables[TABLES];
};

static void plain_done(struct plain *plain)
{
    for (size_t i = 0; i < TABLES; i++) {
        free(plain->tables[i].entries);
    }
}

static struct plain plain_copy(const struct plain *plain)
{
    struct plain copy = *plain;
    for (size_t i = 0; i < TABLES; i++) {
        const size_t count = copy.tables[i].count;
        copy.tables[i].entries = mem_alloc_array(count + 1, sizeof(struct plain_entry));
        if (count) {
            memcpy(copy.tables[i].entries, plain->tables[i].entries,
                   count * sizeof(struct plain_entry));
        }
    }
    return copy;
}

/* ---- keys and values ---- */

/* Some keys begin alike for longer than a word, some are prefixes of others, some are as long as
 * can be; all bytes occur. Different numbers make different keys. */
static struct bytes key_make(unsigned number, uint8_t data[static KV_KEY_BYTES_MAX])
{
    const uint8_t low = (uint8_t)number;
    const uint8_t high = (uint8_t)(number >> 8);
    switch (number % 5) {
    case 0:
        data[0] = low;
        data[1] = high;
        return BYTES(data, 2);
    case 1: /* a run of zeros, each the prefix of the next longer one */
        if (number / 5 < KV_KEY_BYTES_MAX - 1) {
            memset(data, 0, number / 5 + 1);
            data[0] = 0xfe;
            return BYTES(data, number / 5 + 1);
        }
        [[fallthrough]];
    case 2:
        memset(data, 0x80, 20);
        data[20] = high;
        data[21] = low;
        data[22] = 1;
        return BYTES(data, 23);
    case 3:
        memset(data, 0xff, KV_KEY_BYTES_MAX);
        data[300] = low;
        data[301] = high;
        return BYTES(data, KV_KEY_BYTES_MAX);
    default:
        data[0] = high;
        data[1] = low;
        data[2] = low;
        return BYTES(data, 3);
    }
}

/* Where `key` is or would be. */
static size_t plain_find(const struct plain_table *table, struct bytes key, bool *ret_there)
{
    size_t from = 0;
    size_t to = table->count;
    uint8_t data[KV_KEY_BYTES_MAX];
    *ret_there = false;
    while (from < to) {
        const size_t middle = from + (to - from) / 2;
        const int order = bytes_compare(key_make(table->entries[middle].key_number, data), key);
        if (order == 0) {
            *ret_there = true;
            return middle;
        }
        if (order < 0) {
            from = middle + 1;
        } else {
            to = middle;
        }
    }
    return from;
}

static void plain_put(struct plain_table *table, size_t at, bool there, struct plain_entry entry)
{
    if (!there) {
        table->entries = mem_resize_array(table->entries, table->count + 1, sizeof(entry));
        memmove(table->entries + at + 1, table->entries + at, (table->count - at) * sizeof(entry));
        table->count++;
    }
    table->entries[at] = entry;
}

static void plain_remove(struct plain_table *table, size_t at)
{
    table->count--;
    memmove(table->entries + at, table->entries + at + 1,
            (table->count - at) * sizeof(*table->entries));
}

/* ---- all three together ---- */

enum { LMDB, MEMORY, KINDS };

struct snapshot {
    bool open;
    struct plain plain;
    struct kv_txn *txns[KINDS];
};

struct model {
    struct random random;
    char dir[64];
    struct kv *kvs[KINDS];
    struct plain committed;
    struct snapshot snapshots[SNAPSHOTS];
    uint8_t noise[VALUE_BYTES_MAX + UINT8_MAX]; /* values are parts of it */
};

static void model_open(struct model *model, int kind)
{
    const struct kv_options options = {
        .tables = table_names,
        .tables_count = TABLES,
        .path = model->dir,
        .map_bytes = (uint64_t)1 << 30,
        .no_sync = true,
    };
    assert_int_equal(kind == LMDB ? kv_open(&options, &model->kvs[kind])
                                  : kv_open_memory(&options, &model->kvs[kind]),
                     0);
}

static struct plain_entry random_entry(struct model *model)
{
    static const size_t limits[] = {1, 40, 40, 40, 300, 300, 5000, VALUE_BYTES_MAX + 1};
    const size_t limit = limits[random_below(&model->random, ARRAY_SIZE(limits))];
    return (struct plain_entry){
        /* Squared: some keys come often. */
        .key_number = (unsigned)(random_below(&model->random, KEY_NUMBERS) *
                                 (random_below(&model->random, KEY_NUMBERS) + 1) / KEY_NUMBERS),
        .value_size = (size_t)random_below(&model->random, limit),
        .value_offset = (uint8_t)random_u64(&model->random),
    };
}

static struct bytes value_make(const struct model *model, const struct plain_entry *entry)
{
    return BYTES(model->noise + entry->value_offset, entry->value_size);
}

static void check_entry(const struct model *model, const struct plain_entry *entry,
                        struct bytes key, struct bytes value)
{
    uint8_t data[KV_KEY_BYTES_MAX];
    assert_true(bytes_equal(key, key_make(entry->key_number, data)));
    assert_true(bytes_equal(value, value_make(model, entry)));
}

static void check_change(struct model *model, struct plain *plain, struct kv_txn *const txns[])
{
    const kv_table number = (kv_table)random_below(&model->random, TABLES);
    struct plain_table *table = &plain->tables[number];
    const struct plain_entry entry = random_entry(model);
    uint8_t data[KV_KEY_BYTES_MAX];
    const struct bytes key = key_make(entry.key_number, data);
    bool there;
    const size_t at = plain_find(table, key, &there);
    const uint64_t what = random_below(&model->random, 10);
    int expected = 0;
    int (*put)(struct kv_txn *, kv_table, struct bytes, struct bytes) = NULL;

    if (what < 4) {
        expected = there ? 0 : -ENOENT;
    } else if (what < 5) {
        put = kv_append;
        expected = at == table->count ? 0 : -EEXIST;
    } else {
        put = kv_put;
    }
    const struct bytes value = value_make(model, &entry);
    for (int i = 0; i < KINDS; i++) {
        assert_int_equal(put ? put(txns[i], number, key, value) : kv_delete(txns[i], number, key),
                         expected);
    }
    if (!expected && put) {
        plain_put(table, at, there, entry);
    } else if (!expected) {
        plain_remove(table, at);
    }
}

static void check_get(struct model *model, const struct plain *plain, struct kv_txn *const txns[])
{
    const kv_table number = (kv_table)random_below(&model->random, TABLES);
    const struct plain_table *table = &plain->tables[number];
    uint8_t data[KV_KEY_BYTES_MAX];
    const struct bytes key = key_make(random_entry(model).key_number, data);
    bool there;
    const size_t at = plain_find(table, key, &there);
    for (int i = 0; i < KINDS; i++) {
        struct bytes value;
        uint64_t count;
        assert_int_equal(kv_get(txns[i], number, key, &value), there ? 0 : -ENOENT);
        if (there) {
            check_entry(model, &table->entries[at], key, value);
        }
        assert_int_equal(kv_count(txns[i], number, &count), 0);
        assert_int_equal(count, table->count);
    }
}

/* A few seeks and steps of one cursor. */
static void check_walk(struct model *model, const struct plain *plain, struct kv_txn *const txns[])
{
    const kv_table number = (kv_table)random_below(&model->random, TABLES);
    const struct plain_table *table = &plain->tables[number];
    struct kv_cursor *cursors[KINDS];
    for (int i = 0; i < KINDS; i++) {
        assert_int_equal(kv_cursor_open(txns[i], number, &cursors[i]), 0);
    }
    size_t next = 0; /* where kv_next() goes; from there on it is -ENOENT if that is the count */
    const uint64_t moves = random_below(&model->random, 12);
    for (uint64_t move = 0; move < moves; move++) {
        const uint64_t what = random_below(&model->random, 8);
        uint8_t data[KV_KEY_BYTES_MAX];
        struct bytes key = key_make(random_entry(model).key_number, data);
        bool there;
        size_t at = plain_find(table, key, &there);
        if (random_below(&model->random, 10) == 0) {
            key.size = 0;
            at = what == 0 ? 0 : table->count;
        }
        if (what == 0) {
            next = at;
        } else if (what == 1) {
            next = at - 1; /* SIZE_MAX if there is none */
        }
        const bool found = next < table->count;
        for (int i = 0; i < KINDS; i++) {
            struct bytes found_key;
            struct bytes value;
            const int err = what == 0   ? kv_seek(cursors[i], key, &found_key, &value)
                            : what == 1 ? kv_seek_before(cursors[i], key, &found_key, &value)
                                        : kv_next(cursors[i], &found_key, &value);
            assert_int_equal(err, found ? 0 : -ENOENT);
            if (found) {
                check_entry(model, &table->entries[next], found_key, value);
            }
        }
        next += found || next == SIZE_MAX ? 1 : 0;
    }
    for (int i = 0; i < KINDS; i++) {
        kv_cursor_close(cursors[i]);
    }
}

/* Every entry of every table. */
static void check_all(const struct model *model, const struct plain *plain,
                      struct kv_txn *const txns[])
{
    for (kv_table number = 0; number < TABLES; number++) {
        const struct plain_table *table = &plain->tables[number];
        for (int i = 0; i < KINDS; i++) {
            struct kv_cursor *cursor;
            struct bytes key;
            struct bytes value;
            assert_int_equal(kv_cursor_open(txns[i], number, &cursor), 0);
            for (size_t at = 0; at < table->count; at++) {
                assert_int_equal(kv_next(cursor, &key, &value), 0);
                check_entry(model, &table->entries[at], key, value);
            }
            assert_int_equal(kv_next(cursor, &key, &value), -ENOENT);
            kv_cursor_close(cursor);
        }
    }
}

static void check_transaction(struct model *model)
{
    struct kv_txn *txns[KINDS];
    for (int i = 0; i < KINDS; i++) {
        assert_int_equal(kv_write(model->kvs[i], &txns[i]), 0);
    }
    struct plain plain = plain_copy(&model->committed);
    const uint64_t operations = random_below(&model->random, OPERATIONS_MAX);
    for (uint64_t i = 0; i < operations; i++) {
        const uint64_t what = random_below(&model->random, 8);
        if (what < 6) {
            check_change(model, &plain, txns);
        } else if (what < 7) {
            check_get(model, &plain, txns);
        } else {
            check_walk(model, &plain, txns);
        }
    }
    assert_int_equal(kv_changes(txns[LMDB]), kv_changes(txns[MEMORY]));
    if (random_below(&model->random, 5) == 0) {
        for (int i = 0; i < KINDS; i++) {
            kv_abort(txns[i]);
        }
        plain_done(&plain);
    } else {
        for (int i = 0; i < KINDS; i++) {
            assert_int_equal(kv_commit(txns[i]), 0);
        }
        plain_done(&model->committed);
        model->committed = plain;
    }
}

static void snapshot_begin(struct model *model, struct snapshot *snapshot)
{
    for (int i = 0; i < KINDS; i++) {
        assert_int_equal(kv_read(model->kvs[i], &snapshot->txns[i]), 0);
    }
    snapshot->plain = plain_copy(&model->committed);
    snapshot->open = true;
}

static void snapshot_end(struct model *model, struct snapshot *snapshot)
{
    if (snapshot->open) {
        check_all(model, &snapshot->plain, snapshot->txns);
        for (int i = 0; i < KINDS; i++) {
            kv_abort(snapshot->txns[i]);
        }
        plain_done(&snapshot->plain);
        snapshot->open = false;
    }
}

static void check_snapshot(struct model *model)
{
    struct snapshot *snapshot = &model->snapshots[random_below(&model->random, SNAPSHOTS)];
    if (!snapshot->open) {
        snapshot_begin(model, snapshot);
    } else if (random_below(&model->random, 40) == 0) {
        snapshot_end(model, snapshot);
    } else if (random_below(&model->random, 2) == 0) {
        check_get(model, &snapshot->plain, snapshot->txns);
    } else {
        check_walk(model, &snapshot->plain, snapshot->txns);
    }
}

static void all_answer_alike(void **state)
{
    (void)state;
    struct model *model = mem_alloc(sizeof(*model));
    uint64_t seed;
    const char *text = getenv("ARTEL_TEST_SEED");
    if (text) {
        seed = strtoull(text, NULL, 0);
    } else {
        random_system(&seed, sizeof(seed));
    }
    print_message("ARTEL_TEST_SEED=%llu\n", (unsigned long long)seed);
    random_init(&model->random, seed);
    random_fill(&model->random, model->noise, sizeof(model->noise));
    strcpy(model->dir, "/tmp/artel-kv-model-XXXXXX");
    assert_non_null(mkdtemp(model->dir));
    model_open(model, LMDB);
    model_open(model, MEMORY);

    for (int i = 0; i < TRANSACTIONS; i++) {
        check_transaction(model);
        check_snapshot(model);
        if (i % 200 == 199) {
            for (size_t at = 0; at < SNAPSHOTS; at++) {
                snapshot_end(model, &model->snapshots[at]);
            }
            kv_close(model->kvs[LMDB]);
            model_open(model, LMDB);
            snapshot_begin(model, &model->snapshots[0]);
            check_all(model, &model->committed, model->snapshots[0].txns);
        }
    }

    for (size_t at = 0; at < SNAPSHOTS; at++) {
        snapshot_end(model, &model->snapshots[at]);
    }
    for (int i = 0; i < KINDS; i++) {
        kv_close(model->kvs[i]);
    }
    nftw(model->dir, remove_one, 8, FTW_DEPTH | FTW_PHYS);
    plain_done(&model->committed);
    free(model);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(all_answer_alike),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
