/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Ops of several writers: what concurrent changes leave, and that the same set of ops in any order
 * that puts causes before effects gives the same tree. ARTEL_TEST_SEED=<number> repeats a run.
 */
#include "helpers.h"

#include "base/random.h"

#define NODES 4

static struct fixture *nodes_new(struct fixture *nodes[NODES])
{
    for (int i = 0; i < NODES; i++) {
        nodes[i] = fixture_new(false, (char)('A' + i));
    }
    return nodes[0];
}

static void nodes_free(struct fixture *nodes[NODES])
{
    for (int i = 0; i < NODES; i++) {
        fixture_free(nodes[i]);
    }
}

static uint64_t applied_seq(struct fixture *node, const struct origin_id *origin)
{
    uint32_t number = 0;
    struct origin_row row = {0};
    if (origin_number(node->tree, node->txn, origin, &number) == 0) {
        assert_int_equal(origin_get(node->tree, node->txn, number, &row), 0);
    }
    return row.seq;
}

static bool may_apply(struct fixture *node, const struct tree_op *op)
{
    if (applied_seq(node, &op->origin) + 1 != op->seq) {
        return false;
    }
    for (size_t i = 0; i < op->changes_count; i++) {
        for (size_t j = 0; j < op->changes[i].context_count; j++) {
            const struct dot *dot = &op->changes[i].context[j];
            if (applied_seq(node, &dot->origin) < dot->seq) {
                return false;
            }
        }
    }
    return true;
}

/* The op at `position` of the feed of `from`, applied at `to` if that may be. */
static bool deliver(struct fixture *from, uint64_t position, struct fixture *to)
{
    CLEANUP_BUF struct buf bytes = BUF_INIT;
    struct tree_feed_item item = {0};
    assert_int_equal(tree_feed_next(from->tree, from->txn, position - 1, &bytes, &item), 0);
    struct tree_op_parsed parsed = item.parsed;
    const bool applies = may_apply(to, &parsed.op);
    if (applies) {
        assert_int_equal(apply_whole(to, &parsed.op, buf_bytes(&bytes)), 0);
    }
    tree_op_parsed_done(&parsed);
    return applies;
}

static uint64_t feed_last(struct fixture *node)
{
    struct tree_summary summary;
    assert_int_equal(tree_summary(node->tree, node->txn, &summary), 0);
    return summary.feed_last;
}

static void deliver_all(struct fixture *from, struct fixture *to)
{
    const uint64_t last = feed_last(from);
    for (uint64_t position = 1; position <= last; position++) {
        (void)deliver(from, position, to);
    }
}

static void exchange(struct fixture *a, struct fixture *b)
{
    deliver_all(a, b);
    deliver_all(b, a);
}

static void assert_same(struct fixture *a, struct fixture *b)
{
    struct tree_summary summary_a;
    struct tree_summary summary_b;
    assert_int_equal(tree_summary(a->tree, a->txn, &summary_a), 0);
    assert_int_equal(tree_summary(b->tree, b->txn, &summary_b), 0);
    CLEANUP_BUF struct buf text_a = BUF_INIT;
    CLEANUP_BUF struct buf text_b = BUF_INIT;
    list_below(a, "", "", &text_a);
    list_below(b, "", "", &text_b);
    assert_string_equal(buf_string(&text_a), buf_string(&text_b));
    assert_memory_equal(summary_a.fingerprint, summary_b.fingerprint, TREE_FINGERPRINT_BYTES);
    assert_int_equal(summary_a.entries_count, summary_b.entries_count);
    assert_int_equal(summary_a.lamport, summary_b.lamport);
}

static void assert_both(struct fixture *a, struct fixture *b, const char *expected)
{
    assert_tree(a, expected);
    assert_tree(b, expected);
    assert_same(a, b);
    check_sums(a);
    check_sums(b);
}

static void test_later_change_replaces(void **state)
{
    (void)state;
    struct fixture *nodes[NODES];
    struct fixture *a = nodes_new(nodes);
    struct fixture *b = nodes[1];
    assert_int_equal(put_file(a, "d/f", '1'), 0);
    exchange(a, b);
    assert_int_equal(put_file(b, "d/f", '2'), 0);
    exchange(a, b);
    assert_both(a, b, "d(/) d/f=2 ");
    assert_int_equal(delete_path(a, "d/f", false), 0);
    exchange(a, b);
    assert_both(a, b, "");
    nodes_free(nodes);
}

static void test_concurrent_changes_are_both_kept(void **state)
{
    (void)state;
    struct fixture *nodes[NODES];
    struct fixture *a = nodes_new(nodes);
    struct fixture *b = nodes[1];
    assert_int_equal(put_file(a, "f", '1'), 0);
    assert_int_equal(put_file(b, "f", '2'), 0);
    assert_int_equal(put_file(nodes[2], "f", '3'), 0);
    exchange(a, b);
    assert_both(a, b, "f=2*2 "); /* equal lamports: the greater origin */
    exchange(a, nodes[2]);
    exchange(a, b);
    assert_both(a, b, "f=3*3 ");
    assert_int_equal(holds_of(&a->host, '1'), 1);
    assert_int_equal(holds_of(&a->host, '3'), 1);
    assert_int_equal(a->host.published['1'], 1);
    assert_int_equal(a->host.published['3'], 0); /* elsewhere */
    /* A change takes all heads' places; three of them leave room for one that is kept. */
    assert_int_equal(put_file(nodes[3], "f", '4'), 0);
    assert_int_equal(put_file(a, "f", '5'), 0);
    exchange(a, nodes[3]);
    assert_both(a, nodes[3], "f=5*2 ");
    /* A change beats a concurrent deletion. */
    assert_int_equal(delete_path(a, "f", false), 0);
    assert_int_equal(put_file(nodes[3], "f", '6'), 0);
    exchange(a, nodes[3]);
    assert_both(a, nodes[3], "f=6 ");
    nodes_free(nodes);
}

/* Three heads, of which one change replaces two: what is kept and what is added both stay. */
static void test_some_of_many_heads_are_replaced(void **state)
{
    (void)state;
    struct fixture *nodes[NODES];
    struct fixture *a = nodes_new(nodes);
    const char *const long_target = "a target that would show if memory was mixed up";
    assert_int_equal(change_put(nodes[0], symlink_put("f", long_target)), 0);
    assert_int_equal(put_file(nodes[1], "f", '2'), 0);
    assert_int_equal(put_file(nodes[2], "f", '3'), 0);
    exchange(nodes[1], nodes[2]);
    assert_int_equal(put_file(nodes[2], "f", '4'), 0);
    deliver_all(nodes[1], a);
    assert_int_equal(put_file(nodes[3], "f", '0'), 0);
    deliver_all(nodes[3], a);
    /* The heads of `a`: its own, 2, 0; then 3; then 4 takes the places of 2 and 3. */
    deliver_all(nodes[2], a);
    assert_tree(a, "f=4*3 ");
    check_sums(a);
    deliver_all(a, nodes[1]);
    assert_same(a, nodes[1]);
    nodes_free(nodes);
}

static void test_hidden_files(void **state)
{
    (void)state;
    struct fixture *nodes[NODES];
    struct fixture *a = nodes_new(nodes);
    struct fixture *b = nodes[1];
    assert_int_equal(put_file(a, "n", '1'), 0);
    assert_int_equal(put_file(a, "n.txt", '9'), 0);
    assert_int_equal(put_file(b, "n/x", '2'), 0);
    assert_int_equal(put_file(b, "o", '3'), 0);
    exchange(a, b);
    assert_both(a, b, "n(/) n/x=2 n~file=1 n.txt=9 o=3 ");

    /* Behind each name of a walk comes the next. */
    static const char *const order[] = {"n", "n/x", "n~file", "n.txt", "o"};
    for (size_t i = 0; i + 1 < ARRAY_SIZE(order); i++) {
        struct tree_walk *walk = NULL;
        struct bytes path;
        struct tree_entry entry;
        assert_int_equal(
            tree_walk_open(a->tree, a->txn, BYTES(NULL, 0), bytes_of_string(order[i]), &walk), 0);
        assert_int_equal(tree_walk_next(walk, &path, &entry), 0);
        assert_true(bytes_equal(path, bytes_of_string(order[i + 1])));
        tree_walk_close(walk);
    }
    struct tree_entry entry;
    assert_int_equal(find(a, "n~file", &entry), 0);
    assert_int_equal(entry.version.kind, TREE_FILE);
    assert_int_equal(find(a, "n~file/x", &entry), -ENOTDIR);
    assert_int_equal(put_file(a, "n~file/x", '8'), -ENOTDIR);
    assert_int_equal(make_directory(a, "n~file"), -EEXIST);
    assert_int_equal(find(a, "o~file", &entry), -ENOENT);

    /* The two faces change apart. */
    assert_int_equal(put_file(a, "n~file", '4'), 0);
    assert_int_equal(make_directory(a, "n"), 0);
    exchange(a, b);
    assert_both(a, b, "n/*2 n/x=2 n~file=4*2 n.txt=9 o=3 ");
    const struct tree_put twice[] = {directory_put_of("n"), file_put("n~file", '5')};
    assert_int_equal(tree_change_put_many(a->tree, a->txn, twice, 2, &a->dot), -EEXIST);
    /* The directory goes: the file has its name again. */
    assert_int_equal(delete_path(b, "n", true), 0);
    exchange(a, b);
    assert_both(a, b, "n=4 n.txt=9 o=3 ");
    nodes_free(nodes);
}

static void test_hidden_files_move(void **state)
{
    (void)state;
    struct fixture *nodes[NODES];
    struct fixture *a = nodes_new(nodes);
    struct fixture *b = nodes[1];
    assert_int_equal(put_file(a, "d/n", '1'), 0);
    assert_int_equal(put_file(b, "d/n/x", '2'), 0);
    exchange(a, b);
    assert_both(a, b, "d(/) d/n(/) d/n/x=2 d/n~file=1 ");
    assert_int_equal(rename_path(a, "d", "e"), 0);
    exchange(a, b);
    assert_both(a, b, "e(/) e/n(/) e/n/x=2 e/n~file=1 ");
    assert_int_equal(holds_of(&a->host, '1'), 2);

    assert_int_equal(put_file(a, "m", '1'), 0);
    assert_int_equal(make_directory(b, "m"), 0);
    exchange(a, b);
    assert_both(a, b, "e(/) e/n(/) e/n/x=2 e/n~file=1 m/*2 m~file=1*2 ");
    assert_int_equal(rename_path(b, "m~file", "p"), 0);
    exchange(a, b);
    assert_both(a, b, "e(/) e/n(/) e/n/x=2 e/n~file=1 m/ p=1 ");
    /* What is put over a conflict as a whole takes both faces' places. */
    assert_int_equal(put_file(a, "q/r", '1'), 0);
    assert_int_equal(put_file(b, "q/r/s", '2'), 0);
    exchange(a, b);
    const struct tree_put top = directory_put_of("q");
    const struct tree_put puts[] = {file_put("q/r~file", '7')};
    assert_int_equal(tree_change_replace_directory(a->tree, a->txn, &top, puts, 1, &a->dot), 0);
    exchange(a, b);
    assert_both(a, b, "e(/) e/n(/) e/n/x=2 e/n~file=1 m/ p=1 q/ q/r~file=7 ");
    nodes_free(nodes);
}

/* Content of others need not be known here; then it is not let go of either. */
static void test_unknown_content_of_others(void **state)
{
    (void)state;
    struct fixture *nodes[NODES];
    struct fixture *a = nodes_new(nodes);
    const struct tree_change change = {
        .kind = TREE_FILE,
        .path = bytes_of_string("f"),
        .file_id = content_id(UNKNOWN_CONTENT),
    };
    const struct tree_op op = {
        .origin = origin_of('X'),
        .seq = 1,
        .lamport = 9,
        .event = TREE_EVENT_CHANGES,
        .changes = &change,
        .changes_count = 1,
    };
    CLEANUP_BUF struct buf bytes = BUF_INIT;
    assert_int_equal(tree_op_format(&op, &bytes), 0);
    assert_int_equal(apply_whole(a, &op, buf_bytes(&bytes)), 0);
    assert_tree(a, "f=? ");
    assert_int_equal(delete_path(a, "f", false), 0);
    bool more = true;
    assert_int_equal(tree_expire(a->tree, a->txn, UINT64_MAX, 100, &more), 0);
    assert_int_equal(holds_of(&a->host, UNKNOWN_CONTENT), 0);
    struct tree_summary summary;
    assert_int_equal(tree_summary(a->tree, a->txn, &summary), 0);
    assert_int_equal(summary.lamport, 10);
    nodes_free(nodes);
}

/* A file of each of `count` writers, in one directory. */
static void put_as_many(struct fixture *node, unsigned count)
{
    for (unsigned i = 0; i < count; i++) {
        char path[32];
        snprintf(path, sizeof path, "d/%05u", i);
        const struct tree_change change = {
            .kind = TREE_FILE,
            .path = bytes_of_string(path),
            .file_id = content_id('1'),
        };
        struct tree_op op = {
            .origin = origin_of('X'),
            .seq = 1,
            .lamport = 1,
            .event = TREE_EVENT_CHANGES,
            .changes = &change,
            .changes_count = 1,
        };
        memcpy(op.origin.bytes, &i, sizeof i);
        CLEANUP_BUF struct buf bytes = BUF_INIT;
        assert_int_equal(tree_op_format(&op, &bytes), 0);
        assert_int_equal(apply_whole(node, &op, buf_bytes(&bytes)), 0);
    }
}

/* One step replaces, moves or deletes what thousands have written. */
static void test_directory_of_many_writers(void **state)
{
    (void)state;
    enum { WRITERS = 5000 };
    struct fixture *nodes[NODES];
    struct fixture *a = nodes_new(nodes);
    struct fixture *b = nodes[1];
    put_as_many(a, WRITERS);
    assert_int_equal(rename_path(a, "d", "e"), 0);
    deliver_all(a, b);
    assert_same(a, b);
    assert_int_equal(holds_of(&b->host, '1'), 2 * WRITERS);
    put_as_many(nodes[2], WRITERS);
    const struct tree_put top = directory_put_of("d");
    const struct tree_put put = file_put("d/00000", '2');
    assert_int_equal(
        tree_change_replace_directory(nodes[2]->tree, nodes[2]->txn, &top, &put, 1, &nodes[2]->dot),
        0);
    assert_tree(nodes[2], "d/ d/00000=2 ");
    put_as_many(nodes[3], WRITERS);
    assert_int_equal(delete_path(nodes[3], "d", true), 0);
    assert_both(nodes[3], nodes[3], "");
    nodes_free(nodes);
}

/* ---- any order ---- */

static void random_path(struct random *random, char ret_path[32])
{
    static const char *const names[] = {"a", "b", "a~file", "c"};
    size_t size = 0;
    const uint64_t depth = 1 + random_below(random, 3);
    for (uint64_t i = 0; i < depth; i++) {
        size += (size_t)snprintf(ret_path + size, 32 - size, "%s%s", i ? "/" : "",
                                 names[random_below(random, ARRAY_SIZE(names))]);
    }
}

static void random_change(struct random *random, struct fixture *node)
{
    char path[32];
    char other[32];
    random_path(random, path);
    random_path(random, other);
    switch (random_below(random, 8)) {
    case 0:
    case 1:
    case 2:
        (void)!put_file(node, path, (char)('a' + random_below(random, 26)));
        break;
    case 3:
        (void)!make_directory(node, path);
        break;
    case 4:
        (void)!delete_path(node, path, random_below(random, 2));
        break;
    case 5:
        (void)!rename_path(node, path, other);
        break;
    case 6: {
        char inner[40];
        snprintf(inner, sizeof inner, "%s/a", path);
        const struct tree_put top = directory_put_of(path);
        const struct tree_put puts[] = {file_put(inner, 'r')};
        (void)!tree_change_replace_directory(node->tree, node->txn, &top, puts, 1, &node->dot);
        break;
    }
    default:
        (void)!change_put(node, symlink_put(path, other));
    }
}

static void run_any_order(uint64_t seed)
{
    struct random random;
    random_init(&random, seed);
    struct fixture *nodes[NODES];
    (void)nodes_new(nodes);
    for (int step = 0; step < 60; step++) {
        struct fixture *node = nodes[random_below(&random, NODES)];
        random_change(&random, node);
        if (random_below(&random, 4) == 0) {
            deliver_all(node, nodes[random_below(&random, NODES)]);
        }
        check_sums(node);
    }
    /* All at one node, then from there to the others and to a new one, in any order. */
    for (int round = 0; round < NODES; round++) {
        for (int i = 1; i < NODES; i++) {
            exchange(nodes[0], nodes[i]);
        }
    }
    const uint64_t last = feed_last(nodes[0]);
    struct fixture *fresh = fixture_new(false, 'Z');
    while (feed_last(fresh) < last) {
        (void)deliver(nodes[0], 1 + random_below(&random, last), fresh);
    }
    check_sums(fresh);
    for (int i = 1; i < NODES; i++) {
        assert_int_equal(feed_last(nodes[i]), last);
        assert_same(nodes[0], nodes[i]);
    }
    assert_same(nodes[0], fresh);
    fixture_free(fresh);
    nodes_free(nodes);
}

static void test_any_causal_order_gives_the_same(void **state)
{
    (void)state;
    const char *given = getenv("ARTEL_TEST_SEED");
    if (given) {
        run_any_order(strtoull(given, NULL, 10));
        return;
    }
    uint64_t first = 0;
    random_system(&first, sizeof first);
    first %= 1000000000;
    for (uint64_t seed = first; seed < first + 150; seed++) {
        print_message("seed %llu\n", (unsigned long long)seed);
        run_any_order(seed);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_later_change_replaces),
        cmocka_unit_test(test_concurrent_changes_are_both_kept),
        cmocka_unit_test(test_some_of_many_heads_are_replaced),
        cmocka_unit_test(test_hidden_files),
        cmocka_unit_test(test_hidden_files_move),
        cmocka_unit_test(test_unknown_content_of_others),
        cmocka_unit_test(test_directory_of_many_writers),
        cmocka_unit_test(test_any_causal_order_gives_the_same),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
