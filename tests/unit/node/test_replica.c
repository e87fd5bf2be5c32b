/* SPDX-License-Identifier: Apache-2.0 */

/* What replica.h promises to those who call it. How trees of many nodes come to be the same is
 * tested with real ones (tests/integration). */

#include "real_nodes.h"

#include "node/replica.h"
#include "tree/change.h"

#define LONG_MS ((uint64_t)10 * 60 * 1000)

static struct replica *replica_of(const struct one *one)
{
    return network_replica(one->network);
}

static struct tree_summary summary_of(const struct one *one)
{
    struct kv_txn *txn = NULL;
    struct tree_summary summary;
    assert_int_equal(node_snapshot(one->node, &txn), 0);
    assert_int_equal(tree_summary(node_tree(one->node), txn, &summary), 0);
    kv_abort(txn);
    return summary;
}

static bool have_same_tree(const struct one *a, const struct one *b)
{
    const struct tree_summary left = summary_of(a);
    const struct tree_summary right = summary_of(b);
    return left.vector_sum == right.vector_sum &&
           memcmp(left.fingerprint, right.fingerprint, sizeof left.fingerprint) == 0;
}

/* ---- changes and answers -----------------------------------------------------------------------
 */

struct making {
    struct waiting *waiting;
    char name[16];
    bool fails;
    struct dot dot;
    int err;
};

static int make(void *context, const struct tree *tree, struct kv_txn *txn,
                const struct store_put_result *results)
{
    (void)results;
    struct making *making = context;
    const struct tree_put put = {
        .path = bytes_of_string(making->name), .kind = TREE_DIRECTORY, .mode = 0755};
    const int err = tree_change_put(tree, txn, &put, &making->dot);
    return making->fails ? -ESTALE : err;
}

static void made(void *context, int err, const struct store_put_result *results)
{
    (void)results;
    struct making *making = context;
    making->err = err;
    answer(making->waiting);
}

/* Directories by these names, asked for at once. */
static void make_all(const struct one *one, struct making *makings, size_t count)
{
    struct waiting waiting = WAITING_INIT;
    for (size_t i = 0; i < count; i++) {
        makings[i].waiting = &waiting;
        const struct node_change change = {.apply = make, .done = made, .context = &makings[i]};
        node_change_async(one->node, &change);
    }
    wait_for_answers(&waiting, (int)count);
}

static struct dot make_directory(const struct one *one, const char *name)
{
    struct making making = {.fails = false};
    snprintf(making.name, sizeof making.name, "%s", name);
    make_all(one, &making, 1);
    assert_int_equal(making.err, 0);
    return making.dot;
}

struct awaiting {
    struct waiting waiting;
    size_t count;
};

static void awaited(void *context, size_t count)
{
    struct awaiting *awaiting = context;
    awaiting->count = count;
    answer(&awaiting->waiting);
}

struct asking {
    struct waiting waiting;
    struct tree_sync_state own;
    size_t members_count;
    size_t answers_count;
    struct replica_member first;
};

static void asked(void *context, const struct tree_sync_state *own,
                  const struct replica_member *members, size_t count)
{
    struct asking *asking = context;
    asking->own = *own;
    asking->members_count = count;
    for (size_t i = 0; i < count; i++) {
        asking->answers_count += members[i].has_answered;
    }
    if (count > 0) {
        asking->first = members[0];
    }
    answer(&asking->waiting);
}

/* ---- the tests ---------------------------------------------------------------------------------
 */

static void others_are_awaited(void **state)
{
    (void)state;
    struct one pair[2];
    open_pair(pair);
    const struct dot dot = make_directory(&pair[0], "a");
    struct awaiting one = {.waiting = WAITING_INIT};
    replica_await(replica_of(&pair[0]), &dot, 1, LONG_MS, awaited, &one);
    wait_for_answers(&one.waiting, 1);
    assert_int_equal(one.count, 1);
    assert_int_equal(summary_of(&pair[1]).entries_count, 1);

    /* There is only one other: the time ends it. */
    struct awaiting two = {.waiting = WAITING_INIT};
    replica_await(replica_of(&pair[0]), &dot, 2, 100, awaited, &two);
    wait_for_answers(&two.waiting, 1);
    assert_int_equal(two.count, 1);

    /* The other way, too. */
    const struct dot back = make_directory(&pair[1], "b");
    struct awaiting other = {.waiting = WAITING_INIT};
    replica_await(replica_of(&pair[1]), &back, 1, LONG_MS, awaited, &other);
    wait_for_answers(&other.waiting, 1);
    assert_int_equal(other.count, 1);
    WAIT_FOR(have_same_tree(&pair[0], &pair[1]));
    close_one(&pair[1]);
    close_one(&pair[0]);
}

static void others_are_asked(void **state)
{
    (void)state;
    struct one pair[2];
    open_pair(pair);
    make_directory(&pair[0], "a");
    WAIT_FOR(have_same_tree(&pair[0], &pair[1]));
    struct asking asking = {.waiting = WAITING_INIT};
    replica_ask_all(replica_of(&pair[1]), LONG_MS, asked, &asking);
    wait_for_answers(&asking.waiting, 1);
    assert_int_equal(asking.members_count, 1);
    assert_int_equal(asking.answers_count, 1);
    assert_true(node_id_equal(&asking.first.id, node_identity(pair[0].node)));
    assert_int_equal(asking.own.entries_count, 1);
    assert_int_equal(asking.own.ops_count, 1);
    assert_int_equal(asking.first.state.vector_sum, asking.own.vector_sum);
    assert_int_equal(asking.first.state.entries_count, 1);
    assert_memory_equal(asking.first.state.fingerprint, asking.own.fingerprint,
                        sizeof asking.own.fingerprint);
    struct replica_summary summary;
    WAIT_FOR((replica_summarise(replica_of(&pair[1]), &summary), summary.agrees));
    assert_int_equal(summary.counters.ops_applied, 1);
    assert_false(summary.is_merging);
    close_one(&pair[1]);
    close_one(&pair[0]);
}

static void alone_there_is_nobody_to_ask(void **state)
{
    (void)state;
    struct one one;
    open_one(&one, NULL);
    const struct dot dot = make_directory(&one, "a");
    struct asking asking = {.waiting = WAITING_INIT};
    replica_ask_all(replica_of(&one), LONG_MS, asked, &asking);
    wait_for_answers(&asking.waiting, 1);
    assert_int_equal(asking.members_count, 0);
    assert_int_equal(asking.own.entries_count, 1);
    struct awaiting awaiting = {.waiting = WAITING_INIT};
    replica_await(replica_of(&one), &dot, 1, 50, awaited, &awaiting);
    wait_for_answers(&awaiting.waiting, 1);
    assert_int_equal(awaiting.count, 0);
    close_one(&one);
}

static void who_waits_is_answered_at_the_end(void **state)
{
    (void)state;
    struct one one;
    open_one(&one, NULL);
    const struct dot dot = make_directory(&one, "a");
    struct awaiting early = {.waiting = WAITING_INIT};
    replica_await(replica_of(&one), &dot, 1, LONG_MS, awaited, &early);
    /* An answer to the next one shows that the first was taken up. */
    struct awaiting next = {.waiting = WAITING_INIT};
    replica_await(replica_of(&one), &dot, 1, 0, awaited, &next);
    wait_for_answers(&next.waiting, 1);
    assert_int_equal(early.waiting.answers, 0);
    struct awaiting late = {.waiting = WAITING_INIT};
    struct asking asking = {.waiting = WAITING_INIT};
    replica_await(replica_of(&one), &dot, 1, LONG_MS, awaited, &late);
    replica_ask_all(replica_of(&one), LONG_MS, asked, &asking);
    close_one(&one);
    assert_int_equal(early.waiting.answers, 1);
    assert_int_equal(early.count, 0);
    assert_int_equal(late.waiting.answers, 1);
    assert_int_equal(asking.waiting.answers, 1);
}

#define CHANGES 200u

static void changes_at_once_are_one_log_and_none_is_used_again(void **state)
{
    (void)state;
    struct one one;
    open_one(&one, NULL);
    struct making *makings = mem_alloc_array(CHANGES, sizeof *makings);
    for (size_t i = 0; i < CHANGES; i++) {
        snprintf(makings[i].name, sizeof makings[i].name, "%zu", i);
        makings[i].fails = i % 50 == 0;
    }
    make_all(&one, makings, CHANGES);
    const struct origin_id origin = summary_of(&one).origin;
    uint64_t seq = 0;
    for (size_t i = 0; i < CHANGES; i++) {
        assert_int_equal(makings[i].err, makings[i].fails ? -ESTALE : 0);
        if (!makings[i].fails) {
            assert_true(origin_id_equal(&makings[i].dot.origin, &origin));
            assert_int_equal(makings[i].dot.seq, ++seq);
        }
    }
    free(makings);
    stop_one(&one);
    start_one(&one, NULL);
    const struct dot dot = make_directory(&one, "more");
    assert_false(origin_id_equal(&dot.origin, &origin));
    assert_int_equal(dot.seq, 1);
    assert_int_equal(summary_of(&one).ops_count, seq + 1);
    close_one(&one);
}

int main(void)
{
    log_set_level(LOG_OFF);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(others_are_awaited),
        cmocka_unit_test(others_are_asked),
        cmocka_unit_test(alone_there_is_nobody_to_ask),
        cmocka_unit_test(who_waits_is_answered_at_the_end),
        cmocka_unit_test(changes_at_once_are_one_log_and_none_is_used_again),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
