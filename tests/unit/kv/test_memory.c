/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What only the treap in memory does; the rest is test_kv and test_kv_model.
 */
#include "helpers.h"

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

int main(void)
{
    const struct CMUnitTest tests[] = {
        IN_MEMORY(memory_is_never_read_only),
        IN_MEMORY(memory_counts_what_it_holds),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
