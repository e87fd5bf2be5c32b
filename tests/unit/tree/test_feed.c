/* SPDX-License-Identifier: Apache-2.0 */
#include "helpers.h"

#include "hash/sha256.h"
#include "tree/rows_priv.h"

static int expire(struct fixture *fixture, uint64_t before_ms, size_t limit, bool *ret_more)
{
    return tree_expire(fixture->tree, fixture->txn, before_ms, limit, ret_more);
}

/* The op behind `after` as "seq event path:kind,kind". */
static int feed_next(struct fixture *fixture, uint64_t *after, struct buf *ret_text)
{
    CLEANUP_BUF struct buf bytes = BUF_INIT;
    struct tree_feed_item item = {0};
    const int err = tree_feed_next(fixture->tree, fixture->txn, *after, &bytes, &item);
    if (err) {
        return err;
    }
    struct tree_op_parsed parsed = item.parsed;
    *after = item.position;
    buf_clear(ret_text);
    if (item.kind != TREE_FEED_OP) {
        buf_add_string(ret_text, item.kind == TREE_FEED_GAP ? "gap " : "merged ");
    }
    buf_add_format(ret_text, "%u %d %.*s<%.*s", (unsigned)parsed.op.seq, (int)parsed.op.event,
                   (int)parsed.op.event_path.size, (const char *)parsed.op.event_path.data,
                   (int)parsed.op.event_source.size, (const char *)parsed.op.event_source.data);
    for (size_t i = 0; i < parsed.op.changes_count && i < 9; i++) {
        const struct tree_change *change = &parsed.op.changes[i];
        buf_add_format(ret_text, " %d:%.*s", (int)change->kind, (int)change->path.size,
                       (const char *)change->path.data);
    }
    tree_op_parsed_done(&parsed);
    return 0;
}

static void assert_next(struct fixture *fixture, uint64_t *after, const char *expected)
{
    CLEANUP_BUF struct buf text = BUF_INIT;
    assert_int_equal(feed_next(fixture, after, &text), 0);
    assert_string_equal(buf_string(&text), expected);
}

static void test_feed_tells_in_order(void **state)
{
    struct fixture *fixture = *state;
    CLEANUP_BUF struct buf text = BUF_INIT;
    uint64_t after = 0;
    assert_int_equal(feed_next(fixture, &after, &text), -ENOENT);
    assert_int_equal(put_file(fixture, "d/f", 'x'), 0);
    assert_int_equal(put_file(fixture, "d/f", 'y'), 0);
    assert_int_equal(rename_path(fixture, "d", "e"), 0);
    const struct tree_put top = directory_put_of("e");
    const struct tree_put puts[] = {file_put("e/g", 'z')};
    assert_int_equal(
        tree_change_replace_directory(fixture->tree, fixture->txn, &top, puts, 1, &fixture->dot),
        0);
    assert_int_equal(delete_path(fixture, "e", true), 0);
    assert_next(fixture, &after, "1 1 < 1:d/f");
    assert_int_equal(after, 1);
    assert_next(fixture, &after, "2 1 < 1:d/f");
    assert_next(fixture, &after, "3 3 e<d 4:d/f 1:e/f");
    assert_next(fixture, &after, "4 2 e< 2:e 4:e/f 1:e/g");
    assert_next(fixture, &after, "5 1 < 4:e/g 4:e");
    assert_int_equal(after, 5);
    assert_int_equal(feed_next(fixture, &after, &text), -ENOENT);
    after = UINT64_MAX;
    assert_int_equal(feed_next(fixture, &after, &text), -ENOENT);
}

/* Each op names the hash of the one before, and the versions that it replaces. */
static void test_feed_is_a_chain(void **state)
{
    struct fixture *fixture = *state;
    for (int i = 0; i < 10; i++) {
        assert_int_equal(put_file(fixture, "f", (char)('a' + i)), 0);
    }
    struct id previous = {0};
    for (uint64_t after = 0; after < 10; after++) {
        CLEANUP_BUF struct buf bytes = BUF_INIT;
        struct tree_feed_item item = {0};
        assert_int_equal(tree_feed_next(fixture->tree, fixture->txn, after, &bytes, &item), 0);
        struct tree_op_parsed parsed = item.parsed;
        assert_int_equal(item.position, after + 1);
        assert_int_equal(item.kind, TREE_FEED_OP);
        assert_int_equal(parsed.op.seq, after + 1);
        assert_int_equal(parsed.op.lamport, after + 1);
        assert_true(id_equal(&parsed.op.previous, &previous));
        assert_int_equal(parsed.op.changes[0].context_count, after > 0);
        if (after > 0) {
            assert_int_equal(parsed.op.changes[0].context[0].seq, after);
        }
        sha256_id(buf_bytes(&bytes), &previous);
        tree_op_parsed_done(&parsed);
    }
}

/* Ops are kept in parts: of all sizes around the size of a part, and of many parts. */
static void test_feed_gives_back_large_ops(void **state)
{
    struct fixture *fixture = *state;
    static uint8_t value[8000];
    for (size_t i = 0; i < sizeof value; i++) {
        value[i] = (uint8_t)(i * 7);
    }
    size_t count = 0;
    for (size_t size = 1700; size < 1950; size++) {
        const struct tree_attribute attribute = {bytes_of_string("k"), BYTES(value, size)};
        struct tree_put put = file_put("f", 'x');
        put.attributes = &attribute;
        put.attributes_count = 1;
        assert_int_equal(change_put(fixture, put), 0);
        count++;
    }
    for (uint64_t after = 0; after < count; after++) {
        CLEANUP_BUF struct buf bytes = BUF_INIT;
        struct tree_feed_item item = {0};
        assert_int_equal(tree_feed_next(fixture->tree, fixture->txn, after, &bytes, &item), 0);
        struct tree_op_parsed parsed = item.parsed;
        const struct tree_attribute *attribute = &parsed.op.changes[0].attributes[0];
        assert_true(bytes_equal(attribute->value, BYTES(value, 1700 + after)));
        tree_op_parsed_done(&parsed);
    }
    bool more = false;
    assert_int_equal(expire(fixture, UINT64_MAX, 1000, &more), 0);
    uint64_t ops = 1;
    assert_int_equal(kv_count(fixture->txn, 5, &ops), 0);
    assert_int_equal(ops, 0);
}

static void test_feed_forgets(void **state)
{
    struct fixture *fixture = *state;
    CLEANUP_BUF struct buf text = BUF_INIT;
    for (int i = 0; i < 10; i++) {
        fixture->host.now_ms = 1000 + (uint64_t)i * 10;
        char path[16];
        snprintf(path, sizeof path, "f%d", i);
        assert_int_equal(put_file(fixture, path, 'x'), 0);
    }
    bool more = true;
    assert_int_equal(expire(fixture, 1000, 100, &more), 0);
    assert_false(more);
    uint64_t after = 0;
    assert_next(fixture, &after, "1 1 < 1:f0");
    assert_int_equal(expire(fixture, 1040, 3, &more), 0);
    assert_true(more);
    assert_int_equal(expire(fixture, 1040, 3, &more), 0);
    assert_false(more);
    struct tree_summary summary;
    assert_int_equal(tree_summary(fixture->tree, fixture->txn, &summary), 0);
    assert_int_equal(summary.feed_first, 5);
    assert_int_equal(summary.feed_last, 10);
    for (after = 0; after < 4; after++) {
        assert_int_equal(feed_next(fixture, &after, &text), -ESTALE);
    }
    assert_next(fixture, &after, "5 1 < 1:f4");

    assert_int_equal(expire(fixture, UINT64_MAX, 6, &more), 0);
    assert_false(more);
    assert_int_equal(tree_summary(fixture->tree, fixture->txn, &summary), 0);
    assert_int_equal(summary.feed_first, 11);
    after = 10;
    assert_int_equal(feed_next(fixture, &after, &text), -ENOENT);
    after = 9;
    assert_int_equal(feed_next(fixture, &after, &text), -ESTALE);
    assert_int_equal(put_file(fixture, "g", 'x'), 0);
    after = 10;
    assert_next(fixture, &after, "11 1 < 1:g");
    check_sums(fixture);
}

/* A row as a merge writes it. */
static void add_row(struct fixture *fixture, enum tree_feed_kind kind, struct bytes op)
{
    struct tree_state state;
    assert_int_equal(state_get(fixture->tree, fixture->txn, &state), 0);
    const uint64_t position = ++state.feed_last;
    const struct feed_row row = {kind, 0, position, fixture->host.now_ms};
    assert_int_equal(feed_put(fixture->tree, fixture->txn, position, &row), 0);
    assert_int_equal(op_put(fixture->tree, fixture->txn, 0, position, op), 0);
    assert_int_equal(state_put(fixture->tree, fixture->txn, &state), 0);
}

static void test_feed_tells_gaps_and_what_was_merged(void **state)
{
    struct fixture *fixture = *state;
    assert_int_equal(put_file(fixture, "f", 'x'), 0);
    add_row(fixture, TREE_FEED_GAP, BYTES(NULL, 0));
    const struct dot dots[] = {{origin_of('B'), 7}, {origin_of('C'), 8}};
    const struct tree_change changes[] = {
        {.kind = TREE_DIRECTORY, .path = bytes_of_string("d"), .context = dots, .context_count = 1},
        {.kind = TREE_DELETE,
         .path = bytes_of_string("e"),
         .context = dots + 1,
         .context_count = 1},
    };
    const struct tree_op op = {
        .seq = 3,
        .event = TREE_EVENT_CHANGES,
        .changes = changes,
        .changes_count = 2,
    };
    CLEANUP_BUF struct buf bytes = BUF_INIT;
    assert_int_equal(tree_op_format(&op, &bytes), 0);
    add_row(fixture, TREE_FEED_MERGED, buf_bytes(&bytes));
    assert_int_equal(put_file(fixture, "g", 'x'), 0);

    uint64_t after = 0;
    assert_next(fixture, &after, "1 1 < 1:f");
    assert_next(fixture, &after, "gap 0 0 <");
    assert_int_equal(after, 2);
    CLEANUP_BUF struct buf read = BUF_INIT;
    struct tree_feed_item item = {0};
    assert_int_equal(tree_feed_next(fixture->tree, fixture->txn, after, &read, &item), 0);
    assert_int_equal(item.parsed.op.changes[1].context[0].seq, 8);
    tree_op_parsed_done(&item.parsed);
    assert_next(fixture, &after, "merged 3 1 < 2:d 4:e");
    assert_next(fixture, &after, "2 1 < 1:g");

    bool more = true;
    uint64_t ops = 1;
    assert_int_equal(expire(fixture, UINT64_MAX, 100, &more), 0);
    assert_int_equal(kv_count(fixture->txn, TREE_OPS, &ops), 0);
    assert_int_equal(ops, 0);
    assert_int_equal(kv_count(fixture->txn, TREE_FEED, &ops), 0);
    assert_int_equal(ops, 0);
}

/* A kind that nobody writes is damage. */
static void test_feed_refuses_what_is_damaged(void **state)
{
    struct fixture *fixture = *state;
    CLEANUP_BUF struct buf text = BUF_INIT;
    assert_int_equal(put_file(fixture, "f", 'x'), 0);
    uint64_t after = 0;
    for (unsigned kind = 0; kind < 6; kind++) {
        const uint8_t key[8] = {0, 0, 0, 0, 0, 0, 0, 1};
        struct bytes value;
        assert_int_equal(kv_get(fixture->txn, TREE_FEED, BYTES(key, 8), &value), 0);
        CLEANUP_BUF struct buf changed = BUF_INIT;
        buf_add(&changed, value);
        changed.data[0] = (uint8_t)kind;
        assert_int_equal(kv_put(fixture->txn, TREE_FEED, BYTES(key, 8), buf_bytes(&changed)), 0);
        after = 0;
        const bool is_known = kind >= 1 && kind <= 3;
        assert_int_equal(feed_next(fixture, &after, &text), is_known ? 0 : -EIO);
    }
}

static bool knows(struct fixture *fixture, uint64_t epoch, uint64_t position)
{
    bool is_known = false;
    assert_int_equal(tree_feed_knows(fixture->tree, fixture->txn, epoch, position, &is_known), 0);
    return is_known;
}

static void test_feed_knows_what_it_gave_out(void **state)
{
    struct fixture *fixture = *state;
    struct tree_summary summary;
    assert_int_equal(put_file(fixture, "f", 'x'), 0);
    assert_int_equal(put_file(fixture, "f", 'y'), 0);
    assert_int_equal(tree_summary(fixture->tree, fixture->txn, &summary), 0);
    const uint64_t first = summary.epoch;
    assert_int_equal(tree_feed_renew(fixture->tree, fixture->txn, first), 0);
    assert_true(knows(fixture, first, 2));
    assert_false(knows(fixture, first, 3));
    /* What is to come in the second epoch, was never given out in the first. */
    assert_int_equal(tree_feed_renew(fixture->tree, fixture->txn, 1002), 0);
    assert_int_equal(tree_summary(fixture->tree, fixture->txn, &summary), 0);
    assert_int_equal(summary.epoch, 1002);
    assert_int_equal(put_file(fixture, "f", 'z'), 0);
    assert_true(knows(fixture, 1002, 3));
    assert_true(knows(fixture, first, 2));
    assert_false(knows(fixture, first, 3));
    assert_false(knows(fixture, 1003, 1));
    /* The oldest are forgotten. */
    for (unsigned i = 0; i < TREE_FEED_EPOCHS_MAX; i++) {
        assert_int_equal(tree_feed_renew(fixture->tree, fixture->txn, 2000 + i), 0);
    }
    assert_false(knows(fixture, first, 2));
    assert_true(knows(fixture, 1002, 3));
    assert_true(knows(fixture, 2000, 3));
    assert_int_equal(tree_feed_renew(fixture->tree, fixture->txn, 5000), 0);
    assert_false(knows(fixture, 1002, 3));
    assert_true(knows(fixture, 2000, 3));
    /* Damaged. */
    const struct bytes key = bytes_of_string("epochs");
    assert_int_equal(kv_put(fixture->txn, TREE_META, key, bytes_of_string("short")), 0);
    bool is_known = false;
    assert_int_equal(tree_feed_knows(fixture->tree, fixture->txn, 5000, 3, &is_known), -EIO);
    assert_int_equal(tree_feed_renew(fixture->tree, fixture->txn, 6000), -EIO);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST_BOTH(test_feed_tells_in_order),
        TEST_BOTH(test_feed_is_a_chain),
        TEST_BOTH(test_feed_gives_back_large_ops),
        TEST_BOTH(test_feed_forgets),
        TEST_BOTH(test_feed_tells_gaps_and_what_was_merged),
        TEST_BOTH(test_feed_refuses_what_is_damaged),
        TEST_BOTH(test_feed_knows_what_it_gave_out),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
