/* SPDX-License-Identifier: Apache-2.0 */
#include "snapshots.h"

#include "base/codec.h"
#include "tree/place_priv.h"
#include "tree/rows_priv.h"
#include "tree/token.h"

#define PAIR                                                                                       \
    struct fixture *a = *state;                                                                    \
    struct fixture *b = fixture_new(false, 'B')

/* Everything in the feed behind `after`: "gap ", "op ", "merged:+path=A1,-path=B2 ". */
static void list_feed(struct fixture *fixture, uint64_t after, struct buf *ret_text)
{
    buf_add_string(ret_text, "");
    for (;;) {
        CLEANUP_BUF struct buf bytes = BUF_INIT;
        struct tree_feed_item item = {0};
        const int err = tree_feed_next(fixture->tree, fixture->txn, after, &bytes, &item);
        if (err) {
            assert_int_equal(err, -ENOENT);
            return;
        }
        assert_int_equal(item.position, ++after);
        const struct tree_op *op = &item.parsed.op;
        if (item.kind != TREE_FEED_MERGED) {
            buf_add_string(ret_text, item.kind == TREE_FEED_GAP ? "gap " : "op ");
        } else {
            static const struct origin_id nobody = {0};
            assert_true(origin_id_equal(&op->origin, &nobody));
            assert_int_equal(op->seq, item.position);
            buf_add_string(ret_text, "merged:");
            for (size_t i = 0; i < op->changes_count; i++) {
                const struct tree_change *change = &op->changes[i];
                assert_int_equal(change->context_count, 1);
                buf_add_format(ret_text, "%s%c%.*s=%c%u", i ? "," : "",
                               change->kind == TREE_DELETE ? '-' : '+', (int)change->path.size,
                               (const char *)change->path.data, change->context[0].origin.bytes[0],
                               (unsigned)change->context[0].seq);
            }
            buf_add_byte(ret_text, ' ');
        }
        tree_op_parsed_done(&item.parsed);
    }
}

static void assert_feed(struct fixture *fixture, uint64_t after, const char *expected)
{
    CLEANUP_BUF struct buf text = BUF_INIT;
    list_feed(fixture, after, &text);
    assert_string_equal(text.size ? buf_string(&text) : "", expected);
}

static void test_empty_tree_becomes_the_same(void **state)
{
    PAIR;
    assert_int_equal(put_file(a, "d/e/f", '1'), 0);
    assert_int_equal(put_file(a, "d/g", '2'), 0);
    assert_int_equal(make_directory(a, "h"), 0);
    assert_int_equal(change_put(a, symlink_put("d/e/l", "t")), 0);
    assert_int_equal(put_file(a, "d.x", '3'), 0);
    assert_int_equal(delete_path(a, "d/g", false), 0);
    merge_from(a, b, TREE_MERGE_NORMAL);
    assert_tree(b, "d(/) d/e(/) d/e/f=1 d/e/l->t d.x=3 h/ ");
    assert_same(a, b);
    assert_int_equal(holds_of(&b->host, '1'), 1);
    assert_int_equal(holds_of(&b->host, '2'), 0);
    assert_int_equal(b->host.published['1'], 0);
    assert_feed(b, 0, "gap merged:+d/e/f=A1,+d/e/l=A4,+d.x=A5 merged:+h=A3 ");

    /* From here on it follows as if it had had all ops. */
    assert_int_equal(put_file(b, "d/e/f", '4'), 0);
    assert_int_equal(put_file(a, "n", '5'), 0);
    exchange(a, b);
    assert_same(a, b);
    fixture_free(b);
}

static void test_empty_snapshot_changes_nothing(void **state)
{
    PAIR;
    assert_int_equal(put_file(b, "f", '1'), 0);
    merge_from(a, b, TREE_MERGE_NORMAL);
    assert_tree(b, "f=1 ");
    exchange(a, b);
    assert_same(a, b);
    fixture_free(b);
}

/* Rule 4, all four cases, and what is in both. */
static void test_what_is_known_to_be_gone_goes(void **state)
{
    PAIR;
    assert_int_equal(put_file(a, "both", '1'), 0);
    assert_int_equal(put_file(a, "gone-there/f", '2'), 0);
    assert_int_equal(put_file(a, "gone-here", '3'), 0);
    assert_int_equal(put_file(a, "changed", '4'), 0);
    exchange(a, b);
    assert_int_equal(delete_path(a, "gone-there/f", false), 0);
    assert_int_equal(put_file(a, "changed", '5'), 0);
    assert_int_equal(put_file(a, "new-there", '6'), 0);
    assert_int_equal(delete_path(b, "gone-here", false), 0);
    assert_int_equal(put_file(b, "new-here", '7'), 0);
    const uint64_t position = summary_of(b).feed_last;
    b->host.now_ms = 2000;
    merge_from(a, b, TREE_MERGE_NORMAL);
    assert_tree(b, "both=1 changed=5 new-here=7 new-there=6 ");
    assert_feed(b, position, "gap merged:+changed=A6 merged:-gone-there/f=A2,+new-there=A7 ");
    (void)pull_all(b, a);
    assert_same(a, b);

    /* What went is a version of the past, as if it had been replaced. */
    assert_int_equal(holds_of(&b->host, '2'), 1);
    assert_int_equal(holds_of(&b->host, '4'), 1);
    bool more = false;
    assert_int_equal(tree_expire(b->tree, b->txn, 2000, 100, &more), 0);
    assert_int_equal(holds_of(&b->host, '2'), 1);
    assert_int_equal(holds_of(&b->host, '3'), 0);
    assert_int_equal(tree_expire(b->tree, b->txn, 2001, 100, &more), 0);
    assert_int_equal(holds_of(&b->host, '2'), 0);
    assert_int_equal(holds_of(&b->host, '4'), 0);
    fixture_free(b);
}

static void test_concurrent_versions_are_both_kept(void **state)
{
    PAIR;
    assert_int_equal(put_file(a, "f", '1'), 0);
    assert_int_equal(put_file(b, "f", '2'), 0);
    assert_int_equal(put_file(a, "d/x", '3'), 0); /* a directory of the name of a file */
    assert_int_equal(put_file(b, "d", '4'), 0);
    assert_int_equal(make_directory(a, "e"), 0);
    assert_int_equal(put_file(b, "e/y", '5'), 0);
    merge_from(a, b, TREE_MERGE_NORMAL);
    assert_tree(b, "d(/) d/x=3 d~file=4 e/ e/y=5 f=2*2 ");
    (void)pull_all(b, a);
    assert_same(a, b);
    fixture_free(b);
}

/* However it is cut into steps, and with a restart between them. */
static void test_any_steps_do_the_same(void **state)
{
    PAIR;
    fixture_free(b);
    for (unsigned i = 0; i < 40; i++) {
        char path[32];
        snprintf(path, sizeof path, "%c/%c/%u", 'a' + i % 3, 'a' + i % 4, i);
        assert_int_equal(put_file(a, path, (char)('a' + i % 26)), 0);
    }
    CLEANUP_BUF struct buf file = BUF_INIT;
    (void)snapshot_of(a, &file);
    for (size_t step = 1; step < 45; step++) {
        b = fixture_new(false, 'B');
        assert_int_equal(put_file(b, "a/a/0", 'x'), 0);
        assert_int_equal(put_file(b, "zz", 'y'), 0);
        const struct tree_merge_options options = options_of(&file, TREE_MERGE_NORMAL);
        struct tree_snapshot *snapshot = open_snapshot(&file);
        assert_int_equal(begin_merge(b, snapshot, &options), 0);
        uint64_t offset = 0;
        while (!merge_step(b, snapshot, step)) {
            struct tree_merge_state merging;
            assert_int_equal(tree_merge_state(b->tree, b->txn, &merging), 0);
            assert_true(merging.offset_bytes >= offset);
            offset = merging.offset_bytes;
            check_sums(b);
            next_txn(b);
            tree_snapshot_close(snapshot);
            snapshot = open_snapshot(&file);
            assert_int_equal(begin_merge(b, snapshot, &options), 0);
        }
        assert_true(offset == 0 || offset > 100);
        tree_snapshot_close(snapshot);
        check_sums(b);
        check_vector(b);
        CLEANUP_BUF struct buf text = BUF_INIT;
        list_feed(b, 0, &text);
        assert_null(strstr(buf_string(&text) + 10, "gap")); /* once, behind two ops */
        struct fixture *c = fixture_new(false, 'C');
        (void)pull_all(a, c);
        (void)pull_all(b, c);
        assert_same(b, c);
        fixture_free(c);
        fixture_free(b);
    }
}

static void test_aborted_step_is_made_again(void **state)
{
    PAIR;
    for (unsigned i = 0; i < 10; i++) {
        char path[32];
        snprintf(path, sizeof path, "d%u/f", i);
        assert_int_equal(put_file(a, path, '1'), 0);
    }
    CLEANUP_BUF struct buf file = BUF_INIT;
    (void)snapshot_of(a, &file);
    const struct tree_merge_options options = options_of(&file, TREE_MERGE_NORMAL);
    struct tree_snapshot *snapshot = open_snapshot(&file);
    next_txn(b);
    assert_int_equal(begin_merge(b, snapshot, &options), 0);
    next_txn(b);
    for (unsigned i = 0; i < 10; i++) {
        (void)merge_step(b, snapshot, 1);
        kv_abort(STEAL_PTR(b->txn));
        begin(b);
        assert_int_equal(begin_merge(b, snapshot, &options), 0);
        (void)merge_step(b, snapshot, 1);
        next_txn(b);
    }
    struct tree_merge_state merging;
    assert_int_equal(tree_merge_state(b->tree, b->txn, &merging), -ENOENT);
    tree_snapshot_close(snapshot);
    check_sums(b);
    assert_same(a, b);
    fixture_free(b);
}

/* Rules 2 and 3, and what may be done with a mark. */
static void test_mark_holds_up(void **state)
{
    PAIR;
    assert_int_equal(put_file(a, "f", '1'), 0);
    assert_int_equal(put_file(a, "g", '2'), 0);
    CLEANUP_BUF struct buf file = BUF_INIT;
    (void)snapshot_of(a, &file);
    struct tree_merge_options options = options_of(&file, TREE_MERGE_NORMAL);
    struct tree_snapshot *snapshot = open_snapshot(&file);
    struct tree_merge_state merging;
    bool is_done = false;
    assert_int_equal(tree_merge_state(b->tree, b->txn, &merging), -ENOENT);
    assert_int_equal(tree_merge_step(b->tree, b->txn, snapshot, 1, &is_done), -ESTALE);
    assert_int_equal(begin_merge(b, snapshot, &options), 0);
    assert_false(merge_step(b, snapshot, 1));
    assert_true(summary_of(b).is_merging);
    assert_int_equal(tree_merge_state(b->tree, b->txn, &merging), 0);
    assert_true(id_equal(&merging.options.snapshot, &options.snapshot));
    assert_int_equal(merging.options.mode, TREE_MERGE_NORMAL);

    CLEANUP_BUF struct buf none = BUF_INIT;
    struct tree_snapshot_info info;
    assert_int_equal(tree_snapshot_write(b->tree, b->txn, append, &none, &info), -EBUSY);
    assert_int_equal(none.size, 0);
    assert_int_equal(deliver(a, (struct dot){origin_of('A'), 1}, b), TREE_HELD_UP);

    /* Another one begins anew, and one that was not begun does not go on. */
    struct tree_snapshot *other = open_snapshot(&file);
    assert_int_equal(tree_merge_step(b->tree, b->txn, other, 1, &is_done), -ESTALE);
    tree_snapshot_close(other);
    options.snapshot.bytes[0]++;
    assert_int_equal(begin_merge(b, snapshot, &options), 0);
    assert_int_equal(tree_merge_state(b->tree, b->txn, &merging), 0);
    assert_true(merging.offset_bytes < 200);
    assert_feed(b, 0, "gap merged:+f=A1 gap ");
    while (!merge_step(b, snapshot, 1)) {
    }
    tree_snapshot_close(snapshot);
    assert_false(summary_of(b).is_merging);
    assert_same(a, b);
    assert_int_equal(deliver(a, (struct dot){origin_of('A'), 2}, b), TREE_KNOWN);
    fixture_free(b);
}

static void test_lamport_is_raised_at_once(void **state)
{
    PAIR;
    for (unsigned i = 0; i < 10; i++) {
        assert_int_equal(put_file(a, "f", '1'), 0);
    }
    CLEANUP_BUF struct buf file = BUF_INIT;
    (void)snapshot_of(a, &file);
    const struct tree_merge_options options = options_of(&file, TREE_MERGE_NORMAL);
    struct tree_snapshot *snapshot = open_snapshot(&file);
    assert_int_equal(begin_merge(b, snapshot, &options), 0);
    assert_false(merge_step(b, snapshot, 0));
    assert_int_equal(summary_of(b).lamport, 10);
    tree_snapshot_close(snapshot);

    /* A clock that can't be is a fault. */
    codec_put_le64(file.data + 12, TREE_LAMPORT_MAX + 1);
    seal(&file);
    struct fixture *c = fixture_new(false, 'C');
    snapshot = open_snapshot(&file);
    assert_int_equal(begin_merge(c, snapshot, &options), -EPROTO);
    tree_snapshot_close(snapshot);
    fixture_free(c);
    fixture_free(b);
}

/* A snapshot that has more of our log than we have made. */
static void test_nobody_knows_more_of_our_log(void **state)
{
    PAIR;
    struct fixture *twin = fixture_new(false, 'B');
    assert_int_equal(put_file(twin, "f", '1'), 0);
    assert_int_equal(put_file(twin, "g", '2'), 0);
    CLEANUP_BUF struct buf file = BUF_INIT;
    (void)snapshot_of(twin, &file);
    struct tree_merge_options options = options_of(&file, TREE_MERGE_NORMAL);
    struct tree_snapshot *snapshot = open_snapshot(&file);
    assert_int_equal(begin_merge(b, snapshot, &options), -EPROTO);
    tree_snapshot_close(snapshot);
    assert_int_equal(put_file(b, "own", '3'), 0);
    assert_tree(b, "own=3 ");

    /* Its vector says nothing of it, but its entries do. */
    const struct origin_id own = origin_of('B');
    for (size_t i = 0; i + sizeof own + 8 <= file.size; i++) {
        if (memcmp(file.data + i, own.bytes, sizeof own) == 0) {
            codec_put_le64(file.data + i + sizeof own, 1);
            break;
        }
    }
    seal(&file);
    options = options_of(&file, TREE_MERGE_NORMAL);
    snapshot = open_snapshot(&file);
    assert_int_equal(begin_merge(b, snapshot, &options), 0);
    bool is_done = false;
    assert_int_equal(tree_merge_step(b->tree, b->txn, snapshot, 100, &is_done), -EPROTO);
    tree_snapshot_close(snapshot);
    (void)a;
    fixture_free(twin);
    fixture_free(b);
}

/* Wherever the clocks of all others stand, who comes new can join them. */
static void test_who_comes_new_takes_any_clock(void **state)
{
    PAIR;
    assert_int_equal(put_file(a, "f", '1'), 0);
    CLEANUP_BUF struct buf file = BUF_INIT;
    (void)snapshot_of(a, &file);
    codec_put_le64(file.data + 12, TREE_LAMPORT_MAX - 1);
    seal(&file);
    const struct tree_merge_options options = options_of(&file, TREE_MERGE_NORMAL);
    merge_with(b, &file, &options, 3);
    assert_int_equal(summary_of(b).lamport, TREE_LAMPORT_MAX - 1);
    assert_int_equal(put_file(b, "g", '2'), 0);
    assert_int_equal(put_file(b, "h", '3'), -EOVERFLOW);
    assert_tree(b, "f=1 g=2 ");
    fixture_free(b);
}

/* A local change during a merge that is given up replaces what no vector covers: neither another
 * snapshot nor the op itself brings it back, at whoever learns of the change by a snapshot. */
static void test_early_replaced_stays_replaced(void **state)
{
    PAIR;
    struct fixture *c = fixture_new(false, 'C');
    struct fixture *d = fixture_new(false, 'D');
    assert_int_equal(put_file(a, "f", '1'), 0);
    assert_int_equal(put_file(a, "g", '2'), 0);
    CLEANUP_BUF struct buf file = BUF_INIT;
    (void)snapshot_of(a, &file);
    const struct tree_merge_options options = options_of(&file, TREE_MERGE_NORMAL);
    struct tree_snapshot *snapshot = open_snapshot(&file);
    assert_int_equal(begin_merge(b, snapshot, &options), 0);
    assert_false(merge_step(b, snapshot, 1));
    assert_int_equal(put_file(b, "f", '3'), 0);
    tree_snapshot_close(snapshot);

    /* From a tree that is behind; then it hands out its own. */
    merge_from(c, b, TREE_MERGE_NORMAL);
    assert_tree(b, "f=3 ");
    merge_from(b, d, TREE_MERGE_NORMAL);
    assert_int_equal(deliver(a, (struct dot){origin_of('A'), 1}, d), TREE_APPLIED);
    assert_tree(d, "f=3 ");
    assert_int_equal(deliver(a, (struct dot){origin_of('A'), 1}, b), TREE_APPLIED);
    assert_tree(b, "f=3 ");
    (void)pull_all(a, b);
    (void)pull_all(a, d);
    (void)pull_all(b, a);
    (void)pull_all(b, c);
    assert_tree(b, "f=3 g=2 ");
    assert_same(a, b);
    assert_same(a, c);
    assert_same(a, d);
    uint64_t rows = 1;
    assert_int_equal(kv_count(d->txn, TREE_REPLACED, &rows), 0);
    assert_int_equal(rows, 0);
    fixture_free(b);
    fixture_free(c);
    fixture_free(d);
}

/* A version that one merge brought, the next one took away, and a third brought again: when it is
 * replaced in the end, it is in the history once, and its content is held once. */
static void test_version_that_comes_again_is_held_once(void **state)
{
    PAIR;
    assert_int_equal(put_file(a, "f", '1'), 0);
    assert_int_equal(put_file(a, "g", '2'), 0);
    CLEANUP_BUF struct buf with = BUF_INIT;
    CLEANUP_BUF struct buf without = BUF_INIT;
    (void)snapshot_of(a, &with);
    assert_int_equal(delete_path(a, "f", false), 0);
    (void)snapshot_of(a, &without);
    struct buf *const files[] = {&with, &without, &with};
    for (size_t i = 0; i < ARRAY_SIZE(files); i++) {
        const struct tree_merge_options options = options_of(files[i], TREE_MERGE_NORMAL);
        struct tree_snapshot *snapshot = open_snapshot(files[i]);
        b->host.now_ms += 10;
        assert_int_equal(begin_merge(b, snapshot, &options), 0);
        assert_false(merge_step(b, snapshot, 1));
        assert_int_equal(holds_of(&b->host, '1'), 1 + (i == 2));
        while (i == 2 && !merge_step(b, snapshot, 1)) {
        }
        tree_snapshot_close(snapshot);
    }
    (void)pull_all(a, b);
    assert_same(a, b);
    assert_int_equal(holds_of(&b->host, '1'), 1);
    bool more = false;
    assert_int_equal(tree_expire(b->tree, b->txn, b->host.now_ms, 100, &more), 0);
    assert_int_equal(holds_of(&b->host, '1'), 1); /* since it went the second time */
    assert_int_equal(tree_expire(b->tree, b->txn, UINT64_MAX, 100, &more), 0);
    assert_int_equal(holds_of(&b->host, '1'), 0);
    uint64_t rows = 1;
    assert_int_equal(kv_count(b->txn, TREE_EXPIRY, &rows), 0);
    assert_int_equal(rows, 0);
    fixture_free(b);
}

static void test_unknown_content_is_kept_without(void **state)
{
    PAIR;
    const struct tree_attribute attribute = {bytes_of_string("k"), bytes_of_string("v")};
    struct tree_put put = file_put("f", '1');
    put.attributes = &attribute;
    put.attributes_count = 1;
    assert_int_equal(change_put(a, put), 0);
    CLEANUP_BUF struct buf file = BUF_INIT;
    (void)snapshot_of(a, &file);
    /* The id of the content is the only run of 31 bytes 0x5a. */
    uint8_t run[31];
    memset(run, 0x5a, sizeof run);
    uint8_t *at = memmem(file.data, file.size, run, sizeof run);
    assert_non_null(at);
    at[-1] = UNKNOWN_CONTENT;
    seal(&file);
    const struct tree_merge_options options = options_of(&file, TREE_MERGE_NORMAL);
    merge_with(b, &file, &options, 1);
    assert_tree(b, "f=? ");
    assert_int_equal(holds_of(&b->host, UNKNOWN_CONTENT), 0);
    assert_int_equal(delete_path(b, "f", false), 0);
    bool more = false;
    assert_int_equal(tree_expire(b->tree, b->txn, UINT64_MAX, 100, &more), 0);
    fixture_free(b);
}

/* Many changes in a row of the feed, and what is not to be seen in none. */
static void test_feed_of_a_merge(void **state)
{
    PAIR;
    static uint8_t value[15000];
    memset(value, 1, sizeof value);
    const struct tree_attribute attributes[] = {{bytes_of_string("k"), BYTES(value, 15000)},
                                                {bytes_of_string("l"), BYTES(value, 9)}};
    for (unsigned i = 0; i < 2500; i++) {
        char path[32];
        snprintf(path, sizeof path, "many/%04u", i);
        struct tree_put put = file_put(path, '1');
        if (i % 20 == 0) {
            put.attributes = attributes;
            put.attributes_count = 2;
        }
        assert_int_equal(change_put(a, put), 0);
    }
    assert_int_equal(put_file(a, "hidden", '2'), 0);
    assert_int_equal(put_file(a, "many/0000", '2'), 0);
    assert_int_equal(put_file(b, "many/0001", '2'), 0);
    for (unsigned i = 0; i < 3000; i++) {
        assert_int_equal(put_file(b, "hidden", '3'), 0); /* the later one: the other is not shown */
    }
    const uint64_t begin_position = summary_of(b).feed_last;
    CLEANUP_BUF struct buf file = BUF_INIT;
    (void)snapshot_of(a, &file);
    const struct tree_merge_options options = options_of(&file, TREE_MERGE_NORMAL);
    merge_with(b, &file, &options, 100000);
    size_t rows = 0;
    size_t changes = 0;
    size_t with_attributes = 0;
    for (uint64_t after = begin_position + 1; after < summary_of(b).feed_last; after++) {
        CLEANUP_BUF struct buf bytes = BUF_INIT;
        struct tree_feed_item item = {0};
        assert_int_equal(tree_feed_next(b->tree, b->txn, after, &bytes, &item), 0);
        assert_int_equal(item.kind, TREE_FEED_MERGED);
        assert_true(item.parsed.op.changes_count <= 1000);
        assert_true(bytes.size < 400000);
        for (size_t i = 0; i < item.parsed.op.changes_count; i++) {
            const struct tree_change *change = &item.parsed.op.changes[i];
            with_attributes += change->attributes_count == 2;
            assert_false(bytes_equal(change->path, bytes_of_string("hidden")));
        }
        rows++;
        changes += item.parsed.op.changes_count;
        tree_op_parsed_done(&item.parsed);
    }
    assert_int_equal(changes, 2500);
    assert_int_equal(with_attributes, 124);
    assert_true(rows >= 8 && rows <= 12);
    fixture_free(b);
}

/* What must not be: a row goes without an op. */
static void lose_row(struct fixture *fixture, const char *path)
{
    struct tree_state values;
    assert_int_equal(state_get(fixture->tree, fixture->txn, &values), 0);
    CLEANUP_PLACE struct place place = {
        .tree = fixture->tree, .txn = fixture->txn, .state = &values};
    uint64_t directory = 0;
    struct bytes name;
    assert_int_equal(place_find(&place, bytes_of_string(path), false, &directory, &name), 0);
    CLEANUP_BUF struct buf copy = BUF_INIT;
    CLEANUP_ENTRY_ROW struct entry_row row = {0};
    assert_int_equal(entry_copy(fixture->tree, fixture->txn, directory, name, &copy, &row), 0);
    struct head *shown[2];
    assert_int_equal(entry_shown(fixture->tree, fixture->txn, &row, &shown[0], &shown[1]), 0);
    uint64_t part[4];
    fingerprint_of(bytes_of_string(path), &row.heads[0].version, part);
    fingerprint_subtract(values.fingerprint, part);
    row.heads_count = 0;
    const struct place_before before = {.existed = true, .had_heads = true};
    assert_int_equal(place_settle(&place, directory, name, &row, before), 0);
    assert_int_equal(place_end(&place), 0);
    assert_int_equal(state_put(fixture->tree, fixture->txn, &values), 0);
    check_sums(fixture);
}

/* Equal vectors, and trees that differ: what either has stays. */
static void test_union(void **state)
{
    PAIR;
    struct fixture *c = fixture_new(false, 'C');
    assert_int_equal(put_file(a, "lost", '1'), 0);
    assert_int_equal(put_file(a, "d/kept", '2'), 0);
    assert_int_equal(put_file(a, "replaced", '3'), 0);
    exchange(a, b);
    /* What must not be: a row that is gone without an op, on either side. */
    for (int i = 0; i < 2; i++) {
        struct fixture *at = i ? a : b;
        const char *path = i ? "d/kept" : "lost";
        lose_row(at, path);
    }
    assert_int_equal(put_file(c, "early", '4'), 0);
    CLEANUP_BUF struct buf of_a = BUF_INIT;
    CLEANUP_BUF struct buf of_b = BUF_INIT;
    (void)snapshot_of(b, &of_b);
    assert_int_equal(put_file(a, "replaced", '5'), 0); /* later than the snapshot of b */
    const struct tree_merge_options options_b = options_of(&of_b, TREE_MERGE_UNION);
    merge_with(a, &of_b, &options_b, 1);
    assert_tree(a, "d(/) d/kept=2 lost=1 replaced=5 ");
    check_sums(a);
    (void)pull_all(c, a);
    (void)snapshot_of(a, &of_a);
    const struct tree_merge_options options_a = options_of(&of_a, TREE_MERGE_UNION);
    merge_with(b, &of_a, &options_a, 1);
    assert_tree(b, "d(/) d/kept=2 lost=1 replaced=3 "); /* what comes with ops is left to them */
    (void)pull_all(a, b);
    assert_same(a, b);
    check_vector(b);
    fixture_free(b);
    fixture_free(c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST_BOTH(test_empty_tree_becomes_the_same),
        TEST_BOTH(test_empty_snapshot_changes_nothing),
        TEST_BOTH(test_what_is_known_to_be_gone_goes),
        TEST_BOTH(test_concurrent_versions_are_both_kept),
        TEST_BOTH(test_any_steps_do_the_same),
        TEST_BOTH(test_aborted_step_is_made_again),
        TEST_BOTH(test_mark_holds_up),
        TEST_BOTH(test_lamport_is_raised_at_once),
        TEST_BOTH(test_who_comes_new_takes_any_clock),
        TEST_BOTH(test_nobody_knows_more_of_our_log),
        TEST_BOTH(test_early_replaced_stays_replaced),
        TEST_BOTH(test_version_that_comes_again_is_held_once),
        TEST_BOTH(test_unknown_content_is_kept_without),
        TEST_BOTH(test_feed_of_a_merge),
        TEST_BOTH(test_union),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
