/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A log that went two ways: what stood in one of them is made again under another name.
 */
#include "replicas.h"

struct fork {
    struct fixture *node; /* wrote under the name A, as others know it */
    struct fixture *twin; /* a copy, which went another way after A2 */
    struct fixture *peer; /* knows the node */
};

static int setup_fork(void **state)
{
    struct fork *fork = mem_alloc(sizeof *fork);
    fork->node = fixture_new(false, 'A');
    fork->twin = fixture_new(false, 'A');
    fork->peer = fixture_new(false, 'B');
    assert_int_equal(put_file(fork->peer, "d/old", '0'), 0);
    (void)pull_all(fork->peer, fork->node);
    assert_int_equal(put_file(fork->node, "e", '1'), 0);
    assert_int_equal(put_file(fork->node, "f", '2'), 0);
    (void)pull_all(fork->node, fork->twin);
    assert_int_equal(summary_of(fork->twin).origin_seq, 2);
    assert_int_equal(put_file(fork->node, "f", '3'), 0);
    assert_int_equal(put_file(fork->node, "g", '4'), 0);
    exchange(fork->node, fork->peer);
    *state = fork;
    return 0;
}

static int teardown_fork(void **state)
{
    struct fork *fork = *state;
    fixture_free(fork->node);
    fixture_free(fork->twin);
    fixture_free(fork->peer);
    free(fork);
    return 0;
}

static void renew(struct fixture *fixture, char origin)
{
    const struct origin_id fresh = origin_of(origin);
    assert_int_equal(tree_renew_origin(fixture->tree, fixture->txn, &fresh), 0);
}

static int issue_again(struct fixture *fixture, char origin, uint64_t seq)
{
    const struct dot from = {origin_of(origin), seq};
    return tree_issue_again(fixture->tree, fixture->txn, &from);
}

/* Ops of the log Z of `from`, at `to`. */
static void pull_log(struct fixture *from, struct fixture *to, uint64_t count)
{
    for (uint64_t seq = 1; seq <= count; seq++) {
        assert_int_equal(deliver(from, (struct dot){origin_of('Z'), seq}, to), TREE_APPLIED);
    }
    const struct origin_id log = origin_of('Z');
    assert_int_equal(vector_of(from, &log).seq, count);
}

static void test_the_branch_is_made_again(void **state)
{
    struct fork *fork = *state;
    struct fixture *twin = fork->twin;
    assert_int_equal(put_file(twin, "f", '5'), 0);
    assert_int_equal(deliver(fork->node, (struct dot){origin_of('A'), 3}, twin), TREE_FORKED);
    assert_int_equal(put_file(twin, "h", '6'), 0);
    assert_int_equal(put_file(twin, "h", '7'), 0);
    assert_int_equal(delete_path(twin, "e", false), 0);
    assert_int_equal(rename_path(twin, "d", "moved"), 0);
    assert_int_equal(put_file(twin, "gone", '8'), 0);
    assert_int_equal(delete_path(twin, "gone", false), 0);
    assert_int_equal(put_file(twin, "g", '9'), 0);
    renew(twin, 'Z');
    assert_int_equal(issue_again(twin, 'A', 3), 0);
    check_sums(twin);
    check_vector(twin);
    pull_log(twin, fork->peer, 8);
    /* What both did to f and g is a conflict, the rest is the branch's. */
    assert_tree(fork->peer, "f=5*2 g=9*2 h=7 moved(/) moved/old=0 ");
    check_sums(fork->peer);
    check_vector(fork->peer);
    exchange(fork->peer, fork->node);
    assert_same(fork->peer, fork->node);
    /* Here the old heads stay beside the new ones for now. */
    assert_tree(twin, "f=5*2 g=9*2 h=7*2 moved(/) moved/old=0*2 ");
    /* Local changes go on in the new log. */
    assert_int_equal(put_file(twin, "i", '1'), 0);
    assert_int_equal(twin->dot.seq, 9);
    assert_int_equal(deliver(twin, twin->dot, fork->peer), TREE_APPLIED);
}

static void test_it_goes_on_a_log_that_was_written_to(void **state)
{
    struct fork *fork = *state;
    struct fixture *twin = fork->twin;
    assert_int_equal(put_file(twin, "h", '5'), 0);
    assert_int_equal(put_file(twin, "h", '6'), 0);
    renew(twin, 'Z');
    assert_int_equal(put_file(twin, "i", '7'), 0);
    assert_int_equal(issue_again(twin, 'A', 3), 0);
    pull_log(twin, fork->peer, 3);
    assert_tree(fork->peer, "d(/) d/old=0 e=1 f=3 g=4 h=6 i=7 ");
}

static void test_only_what_comes_behind_the_fork(void **state)
{
    struct fork *fork = *state;
    struct fixture *twin = fork->twin;
    assert_int_equal(put_file(twin, "f", '3'), 0);
    assert_int_equal(put_file(twin, "f", '5'), 0);
    renew(twin, 'Z');
    /* A3 is the same for all then: the context of what was A4 names it. */
    assert_int_equal(issue_again(twin, 'A', 4), 0);
    CLEANUP_BUF struct buf bytes = BUF_INIT;
    struct tree_op_parsed parsed;
    const struct dot again = {origin_of('Z'), 1};
    read_op(twin, &again, &bytes);
    assert_int_equal(tree_op_parse(buf_bytes(&bytes), &parsed), 0);
    assert_int_equal(parsed.op.changes_count, 1);
    assert_int_equal(parsed.op.changes[0].context_count, 1);
    assert_int_equal(parsed.op.changes[0].context[0].seq, 3);
    assert_int_equal(parsed.op.changes[0].context[0].origin.bytes[0], 'A');
    assert_true(parsed.op.lamport > 4);
    tree_op_parsed_done(&parsed);
    pull_log(twin, fork->peer, 1);
    assert_tree(fork->peer, "d(/) d/old=0 e=1 f=5 g=4 ");
}

static void test_content_may_be_gone(void **state)
{
    struct fork *fork = *state;
    struct forged forged;
    forge(&forged, 'W', NULL, "u", UNKNOWN_CONTENT);
    assert_int_equal(apply_forged(fork->twin, &forged).verdict, TREE_APPLIED);
    renew(fork->twin, 'Z');
    assert_int_equal(issue_again(fork->twin, 'W', 1), 0);
    pull_log(fork->twin, fork->peer, 1);
    check_sums(fork->twin);
}

static void test_what_can_not_be_made_again(void **state)
{
    struct fork *fork = *state;
    struct fixture *twin = fork->twin;
    assert_int_equal(put_file(twin, "f", '5'), 0);
    assert_int_equal(issue_again(twin, 'A', 3), -EINVAL);
    renew(twin, 'Z');
    assert_int_equal(issue_again(twin, 'A', 0), -EINVAL);
    assert_int_equal(issue_again(twin, 'A', 4), -EINVAL);
    assert_int_equal(issue_again(twin, 'Q', 1), -EINVAL);
    bool more = false;
    assert_int_equal(tree_expire(twin->tree, twin->txn, 5000, 100, &more), 0);
    const struct id before = dump_tables(twin->txn);
    assert_int_equal(issue_again(twin, 'A', 3), -EIO);
    const struct id after = dump_tables(twin->txn);
    assert_memory_equal(&before, &after, sizeof before);
}

#define TEST_FORK(test)                                                                            \
    {                                                                                              \
#test, test, setup_fork, teardown_fork, NULL                                               \
    }

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST_FORK(test_the_branch_is_made_again),
        TEST_FORK(test_it_goes_on_a_log_that_was_written_to),
        TEST_FORK(test_only_what_comes_behind_the_fork),
        TEST_FORK(test_content_may_be_gone),
        TEST_FORK(test_what_can_not_be_made_again),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
