/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Ops that come from elsewhere: the verdict on each, and the order in which others get them.
 */
#include "replicas.h"

#define LAMPORT_MAX (TREE_LAMPORT_JUMP_MAX + 1) /* seen from a tree whose clock stands at 1 */

/* Nothing but the verdict comes of it. */
static struct tree_remote apply_in_vain(struct fixture *to, const struct forged *forged)
{
    const struct id before = dump_tables(to->txn);
    const struct tree_remote remote = apply_forged(to, forged);
    const struct id after = dump_tables(to->txn);
    assert_memory_equal(&before, &after, sizeof before);
    return remote;
}

static void test_ops_of_a_log_come_in_order(void **state)
{
    struct pair *pair = *state;
    assert_int_equal(put_file(pair->a, "f", '1'), 0);
    const struct dot first = pair->a->dot;
    assert_int_equal(put_file(pair->a, "f", '2'), 0);
    const struct dot second = pair->a->dot;
    assert_int_equal(put_file(pair->a, "f", '3'), 0);
    const struct dot third = pair->a->dot;
    CLEANUP_BUF struct buf bytes = BUF_INIT;
    read_op(pair->a, &third, &bytes);
    const struct tree_remote early = apply_bytes(pair->b, buf_bytes(&bytes));
    assert_int_equal(early.verdict, TREE_EARLY);
    assert_int_equal(early.dot.seq, 3);
    assert_int_equal(early.missing.seq, 2);
    assert_int_equal(deliver(pair->a, second, pair->b), TREE_EARLY);
    assert_true(origin_id_equal(&early.missing.origin, &first.origin));
    assert_int_equal(deliver(pair->a, first, pair->b), TREE_APPLIED);
    assert_tree(pair->b, "f=1 ");
    assert_int_equal(deliver(pair->a, second, pair->b), TREE_APPLIED);
    assert_tree(pair->b, "f=2 ");
    assert_int_equal(deliver(pair->a, third, pair->b), TREE_APPLIED);
    assert_same(pair->a, pair->b);
    check_sums(pair->b);
    check_vector(pair->b);
}

static void test_causes_come_first(void **state)
{
    struct pair *pair = *state;
    struct fixture *c = fixture_new(false, 'C');
    assert_int_equal(put_file(pair->a, "e", '1'), 0);
    assert_int_equal(put_file(pair->a, "f", '1'), 0);
    (void)pull_all(pair->a, pair->b);
    assert_int_equal(put_file(pair->b, "f", '2'), 0);
    CLEANUP_BUF struct buf bytes = BUF_INIT;
    read_op(pair->b, &pair->b->dot, &bytes);
    const struct tree_remote early = apply_bytes(c, buf_bytes(&bytes));
    assert_int_equal(early.verdict, TREE_EARLY);
    assert_int_equal(early.missing.origin.bytes[0], 'A');
    assert_int_equal(early.missing.seq, 2);
    assert_int_equal(pull_all(pair->a, c), 2);
    assert_int_equal(apply_bytes(c, buf_bytes(&bytes)).verdict, TREE_APPLIED);
    assert_same(pair->b, c);
    fixture_free(c);
}

static void test_what_is_known_stays(void **state)
{
    struct pair *pair = *state;
    assert_int_equal(put_file(pair->a, "f", '1'), 0);
    const struct dot first = pair->a->dot;
    assert_int_equal(put_file(pair->a, "f", '2'), 0);
    const struct dot second = pair->a->dot;
    (void)pull_all(pair->a, pair->b);
    const struct id before = dump_tables(pair->b->txn);
    assert_int_equal(deliver(pair->a, first, pair->b), TREE_KNOWN);
    assert_int_equal(deliver(pair->a, second, pair->b), TREE_KNOWN);
    assert_int_equal(deliver(pair->a, second, pair->a), TREE_KNOWN);
    const struct id after = dump_tables(pair->b->txn);
    assert_memory_equal(&before, &after, sizeof before);
}

/* Another op of the same name: seen for what is kept, and for the last one in any case. */
static void test_forks_are_seen(void **state)
{
    struct pair *pair = *state;
    struct forged ops[2];
    struct forged other;
    forge(&ops[0], 'X', NULL, "f", '1');
    assert_int_equal(apply_forged(pair->a, &ops[0]).verdict, TREE_APPLIED);
    const struct vector_entry one = vector_of(pair->a, &ops[0].op.origin);
    forge(&ops[1], 'X', &one, "g", '1');
    ops[1].op.lamport = 2;
    assert_int_equal(apply_forged(pair->a, &ops[1]).verdict, TREE_APPLIED);
    const struct vector_entry two = vector_of(pair->a, &ops[0].op.origin);

    for (int i = 0; i < 2; i++) {
        other = ops[i];
        other.op.changes = &other.change;
        other.change.size_bytes++;
        const struct tree_remote remote = apply_in_vain(pair->a, &other);
        assert_int_equal(remote.verdict, TREE_FORKED);
        assert_int_equal(remote.dot.seq, i + 1);
        assert_int_equal(remote.dot.origin.bytes[0], 'X');
    }
    /* One that goes on from elsewhere. */
    forge(&other, 'X', &two, "h", '1');
    other.op.lamport = 3;
    other.op.previous.bytes[31] ^= 1;
    assert_int_equal(apply_in_vain(pair->a, &other).verdict, TREE_FORKED);
    other.op.previous.bytes[31] ^= 1;
    assert_int_equal(apply_in_vain(pair->b, &other).verdict, TREE_EARLY);
    assert_int_equal(apply_forged(pair->a, &other).verdict, TREE_APPLIED);
    forge(&other, 'W', NULL, "h", '1');
    other.op.previous.bytes[0] = 1;
    assert_int_equal(apply_in_vain(pair->a, &other).verdict, TREE_FORKED);

    /* Forgotten ones can't be compared, but the last can. */
    bool more = false;
    assert_int_equal(tree_expire(pair->a->tree, pair->a->txn, 5000, 100, &more), 0);
    assert_int_equal(apply_in_vain(pair->a, &ops[0]).verdict, TREE_KNOWN);
    ops[0].change.size_bytes++;
    assert_int_equal(apply_in_vain(pair->a, &ops[0]).verdict, TREE_KNOWN);
    forge(&other, 'X', &two, "h", '1');
    other.op.lamport = 3;
    assert_int_equal(apply_in_vain(pair->a, &other).verdict, TREE_KNOWN);
    other.change.size_bytes++;
    assert_int_equal(apply_in_vain(pair->a, &other).verdict, TREE_FORKED);
}

static void test_nobody_else_writes_our_log(void **state)
{
    struct pair *pair = *state;
    struct fixture *twin = fixture_new(false, 'A');
    assert_int_equal(put_file(pair->a, "f", '1'), 0);
    assert_int_equal(deliver(pair->a, pair->a->dot, twin), TREE_REFUSED);
    /* Unless it was ours in another life. */
    const struct origin_id fresh = origin_of('R');
    assert_int_equal(put_file(twin, "f", '1'), 0);
    assert_int_equal(tree_renew_origin(twin->tree, twin->txn, &fresh), 0);
    assert_int_equal(deliver(pair->a, pair->a->dot, twin), TREE_KNOWN);
    assert_int_equal(put_file(pair->a, "g", '2'), 0);
    assert_int_equal(deliver(pair->a, pair->a->dot, twin), TREE_APPLIED);
    fixture_free(twin);
}

static void test_its_own_cause_is_refused(void **state)
{
    struct pair *pair = *state;
    struct forged forged;
    forge(&forged, 'X', NULL, "f", '1');
    forged.change.context_count = 1;
    for (uint64_t seq = 1; seq < 3; seq++) {
        forged.context[0] = (struct dot){forged.op.origin, seq};
        assert_int_equal(apply_in_vain(pair->a, &forged).verdict, TREE_REFUSED);
    }
    forged.context[0] = (struct dot){origin_of('Y'), 1};
    assert_int_equal(apply_in_vain(pair->a, &forged).verdict, TREE_EARLY);
}

static void test_more_heads_than_a_change_replaces(void **state)
{
    struct pair *pair = *state;
    const size_t count = TREE_OP_CONTEXT_MAX + 10;
    for (size_t i = 0; i < count; i++) {
        struct forged forged;
        forge(&forged, 'X', NULL, "f", '1');
        forged.op.origin.bytes[14] = (uint8_t)(i >> 8);
        forged.op.origin.bytes[15] = (uint8_t)i;
        assert_int_equal(apply_forged(pair->a, &forged).verdict, TREE_APPLIED);
    }
    struct tree_entry entry;
    assert_int_equal(find(pair->a, "f", &entry), 0);
    assert_int_equal(entry.heads_count, count);
    assert_int_equal(put_file(pair->a, "f", '2'), 0);
    assert_tree(pair->a, "f=2*11 ");
    assert_int_equal(find(pair->a, "f", &entry), 0);
    assert_int_equal(entry.heads_count, 11);
    assert_int_equal(delete_path(pair->a, "f", false), 0);
    assert_tree(pair->a, "");
    exchange(pair->a, pair->b);
    assert_same(pair->a, pair->b);
}

static void test_lamport_has_bounds(void **state)
{
    struct pair *pair = *state;
    struct forged forged;
    forge(&forged, 'X', NULL, "f", '1');
    assert_int_equal(apply_forged(pair->a, &forged).verdict, TREE_APPLIED);
    forge(&forged, 'Y', NULL, "g", '1');
    const uint64_t refused[] = {0, LAMPORT_MAX + 1, UINT64_MAX};
    for (size_t i = 0; i < ARRAY_SIZE(refused); i++) {
        forged.op.lamport = refused[i];
        assert_int_equal(apply_in_vain(pair->a, &forged).verdict, TREE_REFUSED);
    }
    forged.op.lamport = LAMPORT_MAX;
    assert_int_equal(apply_forged(pair->a, &forged).verdict, TREE_APPLIED);
    assert_int_equal(summary_of(pair->a).lamport, LAMPORT_MAX);
    /* Lower than what is here is an op that did not know of it. */
    forge(&forged, 'Z', NULL, "h", '1');
    assert_int_equal(apply_forged(pair->a, &forged).verdict, TREE_APPLIED);
    assert_int_equal(summary_of(pair->a).lamport, LAMPORT_MAX);
}

static void test_what_is_no_op_is_refused(void **state)
{
    struct pair *pair = *state;
    assert_int_equal(put_file(pair->a, "f", '1'), 0);
    CLEANUP_BUF struct buf bytes = BUF_INIT;
    read_op(pair->a, &pair->a->dot, &bytes);
    assert_int_equal(apply_bytes(pair->b, BYTES(NULL, 0)).verdict, TREE_REFUSED);
    assert_int_equal(apply_bytes(pair->b, BYTES(bytes.data, bytes.size - 1)).verdict, TREE_REFUSED);
    bytes.data[0] = TREE_OP_VERSION + 1;
    assert_int_equal(apply_bytes(pair->b, buf_bytes(&bytes)).verdict, TREE_REFUSED);
    assert_tree(pair->b, "");
    assert_int_equal(summary_of(pair->b).ops_count, 0);
}

static void test_a_path_twice_is_refused(void **state)
{
    struct pair *pair = *state;
    struct forged forged;
    forge(&forged, 'X', NULL, "f", '1');
    struct tree_change changes[3] = {forged.change, forged.change, forged.change};
    forged.op.changes = changes;
    forged.op.changes_count = 3;
    changes[1].path = bytes_of_string("e");
    changes[2].path = bytes_of_string("f");
    assert_int_equal(apply_in_vain(pair->a, &forged).verdict, TREE_REFUSED);
    changes[2].path = bytes_of_string("d");
    assert_int_equal(apply_forged(pair->a, &forged).verdict, TREE_APPLIED);
    assert_tree(pair->a, "d=1 e=1 f=1 ");
}

static void test_a_merge_holds_ops_up(void **state)
{
    struct pair *pair = *state;
    const kv_table meta = 2;
    assert_int_equal(put_file(pair->a, "f", '1'), 0);
    const struct dot first = pair->a->dot;
    (void)pull_all(pair->a, pair->b);
    assert_int_equal(put_file(pair->a, "f", '2'), 0);
    const struct dot second = pair->a->dot;
    assert_int_equal(put_file(pair->a, "f", '3'), 0);
    const struct dot third = pair->a->dot;
    assert_int_equal(kv_put(pair->b->txn, meta, bytes_of_string("merge"), BYTES(NULL, 0)), 0);
    const struct id before = dump_tables(pair->b->txn);
    assert_int_equal(deliver(pair->a, first, pair->b), TREE_KNOWN);
    assert_int_equal(deliver(pair->a, second, pair->b), TREE_HELD_UP);
    assert_int_equal(deliver(pair->a, third, pair->b), TREE_HELD_UP);
    const struct id after = dump_tables(pair->b->txn);
    assert_memory_equal(&before, &after, sizeof before);
    assert_int_equal(put_file(pair->b, "g", '1'), 0);
    assert_int_equal(kv_delete(pair->b->txn, meta, bytes_of_string("merge")), 0);
    assert_int_equal(deliver(pair->a, second, pair->b), TREE_APPLIED);
}

static void test_content_that_is_not_known_is_kept(void **state)
{
    struct pair *pair = *state;
    struct forged forged;
    forge(&forged, 'X', NULL, "f", UNKNOWN_CONTENT);
    assert_int_equal(apply_forged(pair->a, &forged).verdict, TREE_APPLIED);
    assert_tree(pair->a, "f=? ");
    assert_int_equal(delete_path(pair->a, "f", false), 0);
    bool more = false;
    assert_int_equal(tree_expire(pair->a->tree, pair->a->txn, 5000, 100, &more), 0);
}

/* ---- batches ---- */

/* What one op of a batch did, the next one sees. */
static void test_a_batch_does_as_its_ops(void **state)
{
    struct pair *pair = *state;
    assert_int_equal(make_directory(pair->a, "d"), 0);
    assert_int_equal(put_file(pair->a, "d/e/f", '1'), 0);
    (void)pull_all(pair->a, pair->b);
    assert_int_equal(rename_path(pair->b, "d/e", "d/g"), 0);
    assert_int_equal(delete_path(pair->b, "d", true), 0);
    assert_int_equal(put_file(pair->b, "d/g/h", '2'), 0);
    struct fixture *singly = fixture_new(false, 'C');
    struct fixture *together = fixture_new(false, 'D');
    const char origins[] = "AABBB";
    struct tree_batch *batch = NULL;
    assert_int_equal(tree_apply_begin(together->tree, together->txn, &batch), 0);
    for (int i = 0; i < 5; i++) {
        const struct dot dot = {origin_of(origins[i]), (uint64_t)(i < 2 ? i + 1 : i - 1)};
        assert_int_equal(deliver(pair->b, dot, singly), TREE_APPLIED);
        CLEANUP_BUF struct buf bytes = BUF_INIT;
        read_op(pair->b, &dot, &bytes);
        struct tree_remote remote;
        for (int again = 0; again < 2; again++) {
            assert_int_equal(tree_apply_next(batch, buf_bytes(&bytes), &remote), 0);
            assert_int_equal(remote.verdict, again ? TREE_KNOWN : TREE_APPLIED);
        }
    }
    assert_int_equal(tree_apply_end(batch), 0);
    assert_same(singly, together);
    assert_same(pair->b, together);
    check_sums(together);
    check_vector(together);
    fixture_free(singly);
    fixture_free(together);
}

static void test_a_batch_of_many_writers(void **state)
{
    struct pair *pair = *state;
    enum { WRITERS = 9000 };
    struct tree_batch *batch = NULL;
    assert_int_equal(tree_apply_begin(pair->a->tree, pair->a->txn, &batch), 0);
    for (int round = 0; round < 2; round++) {
        for (uint32_t i = 0; i < WRITERS; i++) {
            struct forged forged;
            char path[16];
            snprintf(path, sizeof path, "%u", i % 100);
            forge(&forged, 'X', NULL, path, 'x');
            memcpy(forged.op.origin.bytes, &i, sizeof i);
            if (round == 1) {
                forged.context[0] = (struct dot){forged.op.origin, 1};
                forged.change.context_count = 1;
                forged.op.origin.bytes[15] = 'Y';
                forged.op.lamport = 2;
            }
            CLEANUP_BUF struct buf bytes = BUF_INIT;
            assert_int_equal(tree_op_format(&forged.op, &bytes), 0);
            struct tree_remote remote;
            assert_int_equal(tree_apply_next(batch, buf_bytes(&bytes), &remote), 0);
            assert_int_equal(remote.verdict, TREE_APPLIED);
        }
    }
    assert_int_equal(tree_apply_end(batch), 0);
    assert_int_equal(summary_of(pair->a).ops_count, 2 * WRITERS);
    check_vector(pair->a);
    check_sums(pair->a);
}

static void test_a_batch_that_is_dropped_leaves_nothing(void **state)
{
    struct pair *pair = *state;
    assert_int_equal(put_file(pair->a, "d/f", '1'), 0);
    next_txn(pair->b);
    const struct id before = dump_tables(pair->b->txn);
    struct tree_batch *batch = NULL;
    assert_int_equal(tree_apply_begin(pair->b->tree, pair->b->txn, &batch), 0);
    CLEANUP_BUF struct buf bytes = BUF_INIT;
    read_op(pair->a, &pair->a->dot, &bytes);
    struct tree_remote remote;
    assert_int_equal(tree_apply_next(batch, buf_bytes(&bytes), &remote), 0);
    tree_apply_drop(batch);
    tree_apply_drop(NULL);
    kv_abort(STEAL_PTR(pair->b->txn));
    begin(pair->b);
    const struct id after = dump_tables(pair->b->txn);
    assert_memory_equal(&before, &after, sizeof before);
    assert_int_equal(pull_all(pair->a, pair->b), 1);
    assert_same(pair->a, pair->b);
}

/* ---- replaced before they came ---- */

/* As a merge that was given up leaves it: the head of an op of X that was not applied. */
static void bring_head(struct fixture *fixture, const struct forged *forged)
{
    assert_int_equal(apply_forged(fixture, forged).verdict, TREE_APPLIED);
    /* The row of X as it was before. Only what is about the vector differs from a merge. */
    const kv_table meta = 2;
    const kv_table origins = 3;
    uint8_t number[4] = {0, 0, 0, 2};
    uint8_t row[16 + 8 + ID_BYTES] = {0};
    memcpy(row, forged->op.origin.bytes, 16);
    assert_int_equal(kv_put(fixture->txn, origins, BYTES(number, 4), BYTES(row, sizeof row)), 0);
    struct bytes value;
    assert_int_equal(kv_get(fixture->txn, meta, bytes_of_string("state"), &value), 0);
    uint8_t state[256];
    assert_true(value.size <= sizeof state);
    const size_t size = value.size;
    memcpy(state, value.data, size);
    memset(state + 88, 0, 16);
    assert_int_equal(kv_put(fixture->txn, meta, bytes_of_string("state"), BYTES(state, size)), 0);
    check_vector(fixture);
    check_sums(fixture);
}

static uint64_t replaced_rows(struct fixture *fixture)
{
    uint64_t rows = 0;
    assert_int_equal(kv_count(fixture->txn, TREE_TABLES - 1, &rows), 0);
    return rows;
}

static void test_a_head_is_not_added_twice(void **state)
{
    struct pair *pair = *state;
    struct forged forged;
    forge(&forged, 'X', NULL, "d/f", '1');
    bring_head(pair->a, &forged);
    assert_int_equal(holds_of(&pair->a->host, '1'), 1);
    assert_int_equal(apply_forged(pair->a, &forged).verdict, TREE_APPLIED);
    assert_tree(pair->a, "d(/) d/f=1 ");
    assert_int_equal(holds_of(&pair->a->host, '1'), 1);
    assert_int_equal(replaced_rows(pair->a), 0);
    check_sums(pair->a);
    check_vector(pair->a);
}

static void test_what_was_replaced_does_not_come_back(void **state)
{
    struct pair *pair = *state;
    struct forged forged;
    forge(&forged, 'X', NULL, "d/f", '1');
    struct tree_change changes[3] = {forged.change, forged.change, forged.change};
    changes[1].path = bytes_of_string("d/g");
    changes[2].path = bytes_of_string("h/i");
    forged.op.changes = changes;
    forged.op.changes_count = 3;
    bring_head(pair->a, &forged);
    /* One is replaced, one deleted with all on the way to it, one stays. */
    assert_int_equal(put_file(pair->a, "d/f", '2'), 0);
    assert_int_equal(delete_path(pair->a, "h", true), 0);
    const struct dot deletion = pair->a->dot;
    assert_int_equal(replaced_rows(pair->a), 2);
    assert_int_equal(apply_forged(pair->a, &forged).verdict, TREE_APPLIED);
    assert_tree(pair->a, "d(/) d/f=2 d/g=1 ");
    assert_int_equal(replaced_rows(pair->a), 0);
    check_sums(pair->a);
    check_vector(pair->a);
    /* Others come to the same. */
    assert_int_equal(deliver(pair->a, (struct dot){deletion.origin, 1}, pair->b), TREE_EARLY);
    assert_int_equal(apply_forged(pair->b, &forged).verdict, TREE_APPLIED);
    (void)pull_all(pair->a, pair->b);
    assert_same(pair->a, pair->b);
}

/* A path that the merge had not come to is made by the op, although another path of the same op
 * was replaced. */
static void test_replaced_is_one_path_of_an_op(void **state)
{
    struct pair *pair = *state;
    struct forged forged;
    forge(&forged, 'X', NULL, "f", '1');
    bring_head(pair->a, &forged);
    assert_int_equal(delete_path(pair->a, "f", false), 0);
    struct tree_change changes[2] = {forged.change, forged.change};
    changes[1].path = bytes_of_string("g");
    forged.op.changes = changes;
    forged.op.changes_count = 2;
    assert_int_equal(apply_forged(pair->a, &forged).verdict, TREE_APPLIED);
    assert_tree(pair->a, "g=1 ");
    assert_int_equal(replaced_rows(pair->a), 0);
    check_sums(pair->a);
}

/* ---- pulling ---- */

static void assert_pull(struct fixture *from, const struct tree_lack *lacks, size_t count,
                        const char *expected, int expected_end)
{
    CLEANUP(tree_pull_close) struct tree_pull *pull = NULL;
    assert_int_equal(tree_pull_open(from->tree, from->txn, lacks, count, &pull), 0);
    CLEANUP_BUF struct buf text = BUF_INIT;
    buf_add_string(&text, "");
    struct dot dot;
    struct bytes op;
    int err;
    while ((err = tree_pull_next(pull, &dot, &op)) == 0) {
        buf_add_format(&text, "%c%llu ", dot.origin.bytes[0], (unsigned long long)dot.seq);
        CLEANUP_BUF struct buf bytes = BUF_INIT;
        read_op(from, &dot, &bytes);
        assert_true(bytes_equal(buf_bytes(&bytes), op));
    }
    assert_int_equal(err, expected_end);
    assert_int_equal(tree_pull_next(pull, &dot, &op), expected_end);
    assert_string_equal(text.size ? buf_string(&text) : "", expected);
}

/* Three writers that take turns: a log each, in the order of their clocks. */
static struct fixture *make_logs(void)
{
    struct fixture *nodes[3];
    for (int i = 0; i < 3; i++) {
        nodes[i] = fixture_new(false, (char)('A' + i));
    }
    const int turns[] = {2, 2, 0, 1, 1, 0, 2};
    for (size_t i = 0; i < ARRAY_SIZE(turns); i++) {
        assert_int_equal(put_file(nodes[turns[i]], "f", (char)('0' + i)), 0);
        for (int j = 0; j < 3; j++) {
            if (j != turns[i]) {
                assert_int_equal(pull_all(nodes[turns[i]], nodes[j]), 1);
            }
        }
    }
    fixture_free(nodes[1]);
    fixture_free(nodes[2]);
    return nodes[0];
}

static void test_logs_are_merged_by_their_clocks(void **state)
{
    (void)state;
    struct fixture *node = make_logs();
    const struct tree_lack all[] = {
        {origin_of('A'), 0, 100},
        {origin_of('B'), 0, UINT64_MAX},
        {origin_of('C'), 0, 3},
        {origin_of('D'), 0, 3},
    };
    assert_pull(node, all, 4, "C1 C2 A1 B1 B2 A2 C3 ", -ENOENT);
    assert_pull(node, all, 0, "", -ENOENT);
    const struct tree_lack some[] = {
        {origin_of('C'), 1, 2},
        {origin_of('B'), 1, 2},
        {origin_of('A'), 2, 9},
    };
    assert_pull(node, some, 3, "C2 B2 ", -ENOENT);
    const struct tree_lack none[] = {{origin_of('C'), 3, 2}, {origin_of('A'), UINT64_MAX, 9}};
    assert_pull(node, none, 2, "", -ENOENT);
    fixture_free(node);
}

static void test_forgotten_ops_need_a_snapshot(void **state)
{
    (void)state;
    struct fixture *node = make_logs();
    bool more = false;
    node->host.now_ms = 2000;
    assert_int_equal(put_file(node, "g", '1'), 0);
    assert_int_equal(tree_expire(node->tree, node->txn, 1500, 100, &more), 0);
    const struct tree_lack forgotten[] = {{origin_of('A'), 2, 3}, {origin_of('C'), 2, 3}};
    assert_pull(node, forgotten, 1, "A3 ", -ENOENT);
    assert_pull(node, forgotten, 2, "", -ESTALE);
    const struct dot dot = {origin_of('C'), 3};
    CLEANUP_BUF struct buf bytes = BUF_INIT;
    assert_int_equal(tree_op_read(node->tree, node->txn, &dot, &bytes), -ENOENT);
    fixture_free(node);
}

static void test_pulls_have_a_bound(void **state)
{
    struct pair *pair = *state;
    struct tree_lack *lacks = mem_alloc_array(TREE_WANT_LACKS_MAX + 1, sizeof *lacks);
    for (uint32_t i = 0; i <= TREE_WANT_LACKS_MAX; i++) {
        memcpy(lacks[i].origin.bytes, &i, sizeof i);
        lacks[i].through_seq = 1;
    }
    struct tree_pull *pull = NULL;
    assert_int_equal(
        tree_pull_open(pair->a->tree, pair->a->txn, lacks, TREE_WANT_LACKS_MAX + 1, &pull), -EFBIG);
    assert_null(pull);
    assert_pull(pair->a, lacks, TREE_WANT_LACKS_MAX, "", -ENOENT);
    free(lacks);
}

/* An op of many parts is one op again. */
static void test_large_ops_are_whole(void **state)
{
    struct pair *pair = *state;
    enum { FILES = 200 };
    char paths[FILES][16];
    struct tree_put puts[FILES];
    for (int i = 0; i < FILES; i++) {
        snprintf(paths[i], sizeof paths[i], "d/%d", i);
        puts[i] = file_put(paths[i], 'x');
    }
    assert_int_equal(tree_change_put_many(pair->a->tree, pair->a->txn, puts, FILES, &pair->a->dot),
                     0);
    assert_int_equal(delete_path(pair->a, "d", true), 0);
    assert_int_equal(pull_all(pair->a, pair->b), 2);
    assert_same(pair->a, pair->b);
    assert_tree(pair->b, "");
}

#define TEST_PAIR(test)                                                                            \
    {                                                                                              \
#test, test, setup_pair, teardown_pair, NULL                                               \
    }

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST_PAIR(test_ops_of_a_log_come_in_order),
        TEST_PAIR(test_causes_come_first),
        TEST_PAIR(test_what_is_known_stays),
        TEST_PAIR(test_forks_are_seen),
        TEST_PAIR(test_nobody_else_writes_our_log),
        TEST_PAIR(test_its_own_cause_is_refused),
        TEST_PAIR(test_more_heads_than_a_change_replaces),
        TEST_PAIR(test_lamport_has_bounds),
        TEST_PAIR(test_what_is_no_op_is_refused),
        TEST_PAIR(test_a_path_twice_is_refused),
        TEST_PAIR(test_a_merge_holds_ops_up),
        TEST_PAIR(test_content_that_is_not_known_is_kept),
        TEST_PAIR(test_a_batch_does_as_its_ops),
        TEST_PAIR(test_a_batch_of_many_writers),
        TEST_PAIR(test_a_batch_that_is_dropped_leaves_nothing),
        TEST_PAIR(test_a_head_is_not_added_twice),
        TEST_PAIR(test_what_was_replaced_does_not_come_back),
        TEST_PAIR(test_replaced_is_one_path_of_an_op),
        cmocka_unit_test(test_logs_are_merged_by_their_clocks),
        cmocka_unit_test(test_forgotten_ops_need_a_snapshot),
        TEST_PAIR(test_pulls_have_a_bound),
        TEST_PAIR(test_large_ops_are_whole),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
