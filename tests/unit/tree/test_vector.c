/* SPDX-License-Identifier: Apache-2.0 */
#include "replicas.h"
#include "tree/rows_priv.h"

static void assert_vector(struct fixture *fixture, const char *expected)
{
    CLEANUP_BUF struct buf text = BUF_INIT;
    buf_add_string(&text, "");
    struct vector_entry entry;
    int err = tree_vector_next(fixture->tree, fixture->txn, NULL, &entry);
    for (; !err; err = tree_vector_next(fixture->tree, fixture->txn, &entry.origin, &entry)) {
        buf_add_format(&text, "%c%llu ", entry.origin.bytes[0], (unsigned long long)entry.seq);
    }
    assert_int_equal(err, -ENOENT);
    assert_string_equal(text.size ? buf_string(&text) : "", expected);
    check_vector(fixture);
}

static void test_an_empty_tree_has_an_empty_vector(void **state)
{
    struct fixture *fixture = *state;
    assert_vector(fixture, "");
    const struct origin_id own = origin_of('A');
    const struct vector_entry entry = vector_of(fixture, &own);
    assert_int_equal(entry.seq, 0);
    assert_true(origin_id_equal(&entry.origin, &own));
    const struct tree_summary summary = summary_of(fixture);
    assert_int_equal(summary.vector_sum, 0);
    assert_int_equal(summary.ops_count, 0);
    assert_int_equal(summary.origin_seq, 0);
    assert_false(summary.is_merging);
}

static void test_own_changes_count(void **state)
{
    struct fixture *fixture = *state;
    assert_int_equal(put_file(fixture, "f", '1'), 0);
    const uint64_t first_sum = summary_of(fixture).vector_sum;
    assert_int_equal(put_file(fixture, "f", '2'), 0);
    assert_vector(fixture, "A2 ");
    const struct tree_summary summary = summary_of(fixture);
    assert_int_not_equal(summary.vector_sum, first_sum);
    assert_int_equal(summary.origin_seq, 2);
    const struct vector_entry entry = vector_of(fixture, &fixture->dot.origin);
    CLEANUP_BUF struct buf bytes = BUF_INIT;
    read_op(fixture, &fixture->dot, &bytes);
    struct id hash;
    sha256_id(buf_bytes(&bytes), &hash);
    assert_true(id_equal(&hash, &entry.hash));
    assert_true(id_equal(&hash, &summary.origin_hash));
}

static void test_origins_come_in_order(void **state)
{
    struct fixture *fixture = *state;
    assert_int_equal(put_file(fixture, "f", '1'), 0);
    struct forged forged;
    const char others[] = {'z', 'B', '\xff', 'C', '\1'};
    for (size_t i = 0; i < sizeof others; i++) {
        const char path[] = {others[i] & 0x7f ? 'p' : 'q', (char)('a' + i), 0};
        forge(&forged, others[i], NULL, path, 'x');
        assert_int_equal(apply_forged(fixture, &forged).verdict, TREE_APPLIED);
    }
    assert_vector(fixture, "\1"
                           "1 A1 B1 C1 z1 \xff"
                           "1 ");
    const struct origin_id between = origin_of('K');
    struct vector_entry entry;
    assert_int_equal(tree_vector_next(fixture->tree, fixture->txn, &between, &entry), 0);
    assert_int_equal(entry.origin.bytes[0], 'z');
    assert_int_equal(vector_of(fixture, &between).seq, 0);
    uint64_t sums[TREE_VECTOR_BUCKETS];
    assert_int_equal(tree_vector_sums(fixture->tree, fixture->txn, sums), 0);
    uint64_t expected = 0;
    memcpy(&expected, entry.hash.bytes, sizeof expected);
    assert_int_equal(sums['z'], expected);
    assert_int_equal(sums['K'], 0);
}

static void test_a_new_origin_takes_the_local_changes(void **state)
{
    struct fixture *fixture = *state;
    const struct origin_id fresh = origin_of('Z');
    const struct origin_id fresher = origin_of('Y');
    assert_int_equal(put_file(fixture, "f", '1'), 0);
    assert_int_equal(tree_renew_origin(fixture->tree, fixture->txn, &fresh), 0);
    assert_int_equal(summary_of(fixture).origin.bytes[0], 'Z');
    assert_int_equal(summary_of(fixture).origin_seq, 0);
    assert_vector(fixture, "A1 ");
    /* Also if nothing was written to the log of the one before. */
    assert_int_equal(tree_renew_origin(fixture->tree, fixture->txn, &fresher), 0);
    assert_int_equal(summary_of(fixture).origin.bytes[0], 'Y');
    uint64_t origins = 0;
    assert_int_equal(kv_count(fixture->txn, TREE_ORIGINS, &origins), 0);
    assert_int_equal(origins, 2); /* which has left no trace */
    assert_int_equal(put_file(fixture, "f", '2'), 0);
    assert_vector(fixture, "A1 Y1 ");
    assert_tree(fixture, "f=2 ");
    next_txn(fixture);
    assert_int_equal(summary_of(fixture).origin.bytes[0], 'Y');
    for (int i = 0; i < 2; i++) {
        const struct origin_id used = origin_of("AY"[i]);
        assert_int_equal(tree_renew_origin(fixture->tree, fixture->txn, &used), -EEXIST);
    }
    assert_int_equal(put_file(fixture, "f", '3'), 0);
    assert_vector(fixture, "A1 Y2 ");
}

static void test_a_mark_says_that_it_is_merging(void **state)
{
    struct fixture *fixture = *state;
    const kv_table meta = 2;
    assert_int_equal(kv_put(fixture->txn, meta, bytes_of_string("merge"), bytes_of_string("m")), 0);
    assert_true(summary_of(fixture).is_merging);
    assert_int_equal(kv_delete(fixture->txn, meta, bytes_of_string("merge")), 0);
    assert_false(summary_of(fixture).is_merging);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST_BOTH(test_an_empty_tree_has_an_empty_vector),
        TEST_BOTH(test_own_changes_count),
        TEST_BOTH(test_origins_come_in_order),
        TEST_BOTH(test_a_new_origin_takes_the_local_changes),
        TEST_BOTH(test_a_mark_says_that_it_is_merging),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
