/* SPDX-License-Identifier: Apache-2.0 */
#include "sync_net.h"
#include "tree/rows_priv.h"

/* So many ops that who has none is given a snapshot. */
enum { MANY = 12000 };

static void fill(struct net *net, uint32_t index, int count)
{
    change_begin(net, index);
    for (int i = 0; i < count; i++) {
        char name[32];
        snprintf(name, sizeof name, "d%d/f%d", i % 100, i);
        assert_int_equal(put_file(net->nodes[index].fixture, name, 'x'), 0);
    }
    change_end(net, index);
}

/* The others hear of nothing while node 0 is filled. */
static struct net *net_with_one_full(uint32_t count, uint64_t seed, int entries)
{
    struct net *net = net_new(count, seed);
    net->broadcast_loss_percent = 100;
    fill(net, 0, entries);
    net_run(net, 10);
    net->broadcast_loss_percent = 0;
    return net;
}

static void forget_log(struct net *net, uint32_t index)
{
    struct fixture *fixture = net->nodes[index].fixture;
    bool more = true;
    while (more) {
        begin(fixture);
        assert_int_equal(
            tree_expire(fixture->tree, fixture->txn, fixture->host.now_ms + 1, 1000, &more), 0);
        commit(fixture);
    }
}

static void test_an_empty_node_takes_a_snapshot(void **state)
{
    (void)state;
    struct net *net = net_with_one_full(2, 1, MANY);
    net_run_until_agreed(net, 10000);
    assert_int_equal(tree_sync_counters(net->nodes[1].sync)->snapshots_merged, 1);
    assert_int_equal(tree_sync_counters(net->nodes[1].sync)->ops_applied, 0);
    assert_int_equal(count_events(&net->nodes[1], TREE_SYNC_MERGE_DONE), 1);
    assert_false(net->nodes[1].has_inbox);
    /* It lives on. */
    net_put(net, 1, "later", 'y');
    net_run(net, 100);
    assert_true(net_agrees(net));
    net_free(net);
}

static void test_several_share_one_snapshot(void **state)
{
    (void)state;
    struct net *net = net_with_one_full(5, 2, MANY);
    net_run_until_agreed(net, 20000);
    uint64_t merged = 0;
    for (uint32_t i = 1; i < 5; i++) {
        merged += tree_sync_counters(net->nodes[i].sync)->snapshots_merged;
    }
    assert_int_equal(merged, 4);
    net_free(net);
}

static void test_who_comes_soon_is_given_the_same_one(void **state)
{
    (void)state;
    struct net *net = net_with_one_full(3, 10, MANY);
    for (uint32_t i = 0; i < 2; i++) { /* 2 hears of nobody */
        net->cut[i][2] = net->cut[2][i] = true;
    }
    while (tree_sync_counters(net->nodes[1].sync)->snapshots_merged == 0) {
        net_step(net);
    }
    net->cut[0][2] = net->cut[2][0] = false; /* of 0 alone now */
    net_run_until_agreed(net, 20000);
    assert_int_equal(tree_sync_counters(net->nodes[2].sync)->snapshots_merged, 1);
    assert_int_equal(net->nodes[0].spools_count, 1);
    net_free(net);
}

static void test_few_ops_come_as_ops(void **state)
{
    (void)state;
    struct net *net = net_with_one_full(2, 3, 500);
    net_run_until_agreed(net, 10000);
    assert_int_equal(tree_sync_counters(net->nodes[1].sync)->snapshots_merged, 0);
    net_free(net);
}

static void test_what_is_forgotten_comes_as_a_snapshot(void **state)
{
    (void)state;
    struct net *net = net_new(3, 4);
    net_put(net, 2, "kept", 'k');
    net_put(net, 0, "goes", 'g');
    net_run(net, 100);
    net->cut[0][2] = net->cut[2][0] = net->cut[1][2] = net->cut[2][1] = true;
    begin(net->nodes[0].fixture);
    assert_int_equal(delete_path(net->nodes[0].fixture, "goes", false), 0);
    change_end(net, 0);
    net_put(net, 2, "here", 'h');
    net_put(net, 0, "there", 't');
    net_run(net, 3000);
    forget_log(net, 0);
    forget_log(net, 1);
    memset(net->cut, 0, sizeof net->cut);
    net_run_until_agreed(net, 15000);
    assert_node_tree(net, 2, "here=h kept=k there=t ");
    assert_int_equal(tree_sync_counters(net->nodes[2].sync)->snapshots_merged, 1);
    net_free(net);
}

static void test_a_restart_in_the_middle_goes_on(void **state)
{
    (void)state;
    struct net *net = net_with_one_full(2, 5, MANY);
    while (count_events(&net->nodes[1], TREE_SYNC_MERGE_BEGUN) == 0) {
        net_step(net);
    }
    assert_true(summary_of(&net->nodes[1]).is_merging);
    net_stop(net, 1);
    net_put(net, 0, "meanwhile", 'm');
    net_restart(net, 1);
    net_run_until_agreed(net, 10000);
    assert_int_equal(net->messages_count[TREE_MESSAGE_SNAPSHOT_ASK], 1);
    net_free(net);
}

static void test_an_error_that_passes_costs_no_other_snapshot(void **state)
{
    (void)state;
    const int errs[] = {-ENOSPC, -EIO};
    for (size_t i = 0; i < ARRAY_SIZE(errs); i++) {
        struct net *net = net_with_one_full(2, 13 + i, MANY);
        while (!net->nodes[1].has_inbox) {
            net_step(net);
        }
        net->nodes[1].write_err = errs[i];
        net_run(net, 3000);
        assert_false(summary_of(&net->nodes[1]).is_merging);
        assert_int_equal(count_events(&net->nodes[1], TREE_SYNC_MERGE_DONE), 0);
        net->nodes[1].write_err = 0;
        net_run_until_agreed(net, 10000);
        assert_int_equal(net->messages_count[TREE_MESSAGE_SNAPSHOT_ASK], 1);
        net_free(net);
    }
}

static void test_a_lost_file_costs_another_snapshot(void **state)
{
    (void)state;
    struct net *net = net_with_one_full(2, 6, MANY);
    while (count_events(&net->nodes[1], TREE_SYNC_MERGE_BEGUN) == 0) {
        net_step(net);
    }
    net_stop(net, 1);
    net_inbox_drop(&net->nodes[1]);
    net_restart(net, 1);
    net_run_until_agreed(net, 20000);
    assert_int_equal(net->messages_count[TREE_MESSAGE_SNAPSHOT_ASK], 2);
    net_free(net);
}

static void test_local_changes_go_on_during_a_merge(void **state)
{
    (void)state;
    struct net *net = net_with_one_full(3, 7, MANY);
    while (count_events(&net->nodes[1], TREE_SYNC_MERGE_BEGUN) == 0) {
        net_step(net);
    }
    assert_true(summary_of(&net->nodes[1]).is_merging);
    net_put(net, 1, "d0/f0", 'l'); /* perhaps merged already, perhaps not */
    net_put(net, 1, "d99/f99", 'l');
    net_put(net, 1, "own", 'o');
    net_run_until_agreed(net, 20000);
    struct tree_entry entry;
    begin(net->nodes[0].fixture);
    assert_int_equal(find(net->nodes[0].fixture, "own", &entry), 0);
    kv_abort(STEAL_PTR(net->nodes[0].fixture->txn));
    net_free(net);
}

static void test_a_lost_connection_costs_what_was_on_its_way(void **state)
{
    (void)state;
    struct net *net = net_with_one_full(2, 8, MANY);
    while (!net->nodes[1].has_inbox) {
        net_step(net);
    }
    net->cut[0][1] = true;
    net_run(net, 4000);
    net->cut[0][1] = false;
    net_run_until_agreed(net, 20000);
    assert_int_equal(net->messages_count[TREE_MESSAGE_SNAPSHOT_ASK], 1);
    net_free(net);
}

/* The first piece is here, and no other. */
static struct net *net_with_a_part(uint32_t count, uint64_t seed)
{
    struct net *net = net_with_one_full(count, seed, MANY);
    net->lost_offset = 1;
    if (count > 2) { /* 2 hears of nobody */
        net->cut[0][2] = net->cut[1][2] = net->cut[2][0] = net->cut[2][1] = true;
    }
    while (net->nodes[1].inbox.size == 0) {
        net_step(net);
    }
    assert_true(net->nodes[1].inbox.size < net->nodes[0].spool.size);
    return net;
}

static void test_who_comes_back_within_minutes_goes_on(void **state)
{
    (void)state;
    struct net *net = net_with_a_part(2, 20);
    net->cut[0][1] = net->cut[1][0] = true;
    net_pass(net, 120000);
    net_put(net, 0, "meanwhile", 'm');
    net->cut[0][1] = net->cut[1][0] = false;
    net->lost_offset = 0;
    net->messages_count[TREE_MESSAGE_SNAPSHOT_PIECE] = 0;
    net_run_until_agreed(net, 20000);
    assert_int_equal(net->messages_count[TREE_MESSAGE_SNAPSHOT_PIECE], 1);
    assert_int_equal(net->nodes[0].spools_count, 1);
    net_free(net);
}

static void test_who_asks_later_shares_what_is_read(void **state)
{
    (void)state;
    struct net *net = net_with_a_part(3, 21);
    net_pass(net, 700000);
    net->broadcast_loss_percent = 100;
    net_put(net, 0, "meanwhile", 'm');
    net->cut[0][2] = net->cut[2][0] = false; /* of 0 alone */
    net_run(net, 10000);
    net->lost_offset = 0;
    net_run_until_agreed(net, 30000);
    assert_int_equal(net->nodes[0].spools_count, 1);
    assert_int_equal(tree_sync_counters(net->nodes[1].sync)->snapshots_merged, 1);
    assert_int_equal(tree_sync_counters(net->nodes[2].sync)->snapshots_merged, 1);
    net_free(net);
}

/* Takes the entry of a file at the root out of the tables, as decay might, with its fingerprint. */
static void damage_entry(struct fixture *fixture, const char *name)
{
    begin(fixture);
    struct entry_row row = {0};
    struct tree_state tree_state;
    assert_int_equal(
        entry_get(fixture->tree, fixture->txn, DIRECTORY_ROOT, bytes_of_string(name), &row), 0);
    assert_int_equal(row.heads_count, 1);
    struct origin_row origin;
    assert_int_equal(origin_get(fixture->tree, fixture->txn, row.heads[0].origin, &origin), 0);
    row.heads[0].version.dot.origin = origin.id;
    uint64_t part[4];
    fingerprint_of(bytes_of_string(name), &row.heads[0].version, part);
    entry_row_done(&row);
    assert_int_equal(
        entry_remove(fixture->tree, fixture->txn, DIRECTORY_ROOT, bytes_of_string(name)), 0);
    struct directory_row root;
    assert_int_equal(directory_get(fixture->tree, fixture->txn, DIRECTORY_ROOT, &root), 0);
    root.entries_count--;
    assert_int_equal(directory_put(fixture->tree, fixture->txn, DIRECTORY_ROOT, &root), 0);
    assert_int_equal(state_get(fixture->tree, fixture->txn, &tree_state), 0);
    fingerprint_subtract(tree_state.fingerprint, part);
    tree_state.entries_count--;
    assert_int_equal(state_put(fixture->tree, fixture->txn, &tree_state), 0);
    commit(fixture);
}

static void test_a_divergence_is_told_and_repaired(void **state)
{
    (void)state;
    struct net *net = net_new(3, 9);
    net_put(net, 0, "a", 'x');
    net_put(net, 1, "b", 'y');
    net_run(net, 3000);
    assert_true(net_agrees(net));
    /* A row is damaged behind everybody's back: the head of "a" is gone from one tree. */
    damage_entry(net->nodes[2].fixture, "a");
    tree_sync_changed(net->nodes[2].sync, net->now_us);
    assert_false(net_agrees(net));
    net_run_until_agreed(net, 15000);
    assert_node_tree(net, 0, "a=x b=y ");
    uint64_t divergences = 0;
    for (uint32_t i = 0; i < 3; i++) {
        divergences += tree_sync_counters(net->nodes[i].sync)->divergences;
    }
    assert_true(divergences > 0);
    net_free(net);
}

/* Another content of the file at the root, as decay might leave it, and a sum that fits to it. */
static void alter_entry(struct fixture *fixture, const char *name, uint32_t mode)
{
    begin(fixture);
    struct entry_row row = {0};
    struct tree_state tree_state;
    struct origin_row origin;
    assert_int_equal(
        entry_get(fixture->tree, fixture->txn, DIRECTORY_ROOT, bytes_of_string(name), &row), 0);
    assert_int_equal(row.heads_count, 1);
    struct tree_version *version = &row.heads[0].version;
    assert_int_equal(origin_get(fixture->tree, fixture->txn, row.heads[0].origin, &origin), 0);
    assert_int_equal(state_get(fixture->tree, fixture->txn, &tree_state), 0);
    version->dot.origin = origin.id;
    uint64_t part[4];
    fingerprint_of(bytes_of_string(name), version, part);
    fingerprint_subtract(tree_state.fingerprint, part);
    version->mode = mode;
    fingerprint_of(bytes_of_string(name), version, part);
    fingerprint_add(tree_state.fingerprint, part);
    assert_int_equal(
        entry_put(fixture->tree, fixture->txn, DIRECTORY_ROOT, bytes_of_string(name), &row), 0);
    assert_int_equal(state_put(fixture->tree, fixture->txn, &tree_state), 0);
    entry_row_done(&row);
    commit(fixture);
}

static uint32_t mode_of(struct net *net, uint32_t index, const char *path)
{
    struct tree_entry entry;
    struct fixture *fixture = net->nodes[index].fixture;
    begin(fixture);
    assert_int_equal(find(fixture, path, &entry), 0);
    const uint32_t mode = entry.version.mode;
    kv_abort(STEAL_PTR(fixture->txn));
    return mode;
}

static void test_of_two_contents_that_of_the_op_stays(void **state)
{
    (void)state;
    for (uint32_t mode = 0600; mode <= 0777; mode += 25) { /* sums above and below */
        struct net *net = net_new(3, mode);
        net_put(net, 0, "a", 'x');
        net_run(net, 3000);
        assert_true(net_agrees(net));
        const uint32_t right = mode_of(net, 0, "a");
        alter_entry(net->nodes[2].fixture, "a", mode == right ? 0 : mode);
        tree_sync_changed(net->nodes[2].sync, net->now_us);
        assert_false(net_agrees(net));
        net_run_until_agreed(net, 15000);
        assert_int_equal(mode_of(net, 0, "a"), right);
        assert_int_equal(mode_of(net, 2, "a"), right);
        net_free(net);
    }
}

static void test_of_two_contents_all_choose_one(void **state)
{
    (void)state;
    for (uint32_t mode = 0600; mode <= 0777; mode += 25) {
        struct net *net = net_new(3, mode);
        net_put(net, 0, "a", 'x');
        net_run(net, 3000);
        for (uint32_t i = 0; i < 3; i++) {
            forget_log(net, i);
        }
        alter_entry(net->nodes[2].fixture, "a", mode);
        tree_sync_changed(net->nodes[2].sync, net->now_us);
        net_run_until_agreed(net, 15000);
        assert_node_tree(net, 0, "a=x ");
        net_free(net);
    }
}

static void test_a_wrong_sum_is_counted_anew(void **state)
{
    (void)state;
    struct net *net = net_new(3, 11);
    net_put(net, 0, "a", 'x');
    net_run(net, 3000);
    struct fixture *fixture = net->nodes[2].fixture;
    struct tree_state tree_state;
    begin(fixture);
    assert_int_equal(state_get(fixture->tree, fixture->txn, &tree_state), 0);
    tree_state.fingerprint[0] ^= 1;
    tree_state.entries_count += 7;
    assert_int_equal(state_put(fixture->tree, fixture->txn, &tree_state), 0);
    commit(fixture);
    tree_sync_changed(net->nodes[2].sync, net->now_us);
    net_run_until_agreed(net, 15000);
    assert_int_equal(count_events(&net->nodes[2], TREE_SYNC_DIVERGED), 1);
    assert_node_tree(net, 2, "a=x ");
    net_free(net);
}

static void test_a_divergence_without_end_costs_little(void **state)
{
    (void)state;
    struct net *net = net_new(2, 12);
    net_put(net, 0, "a", 'x');
    net_run(net, 3000);
    net->cut[1][0] = true;
    const struct node_id from = node_id_of(1);
    for (int i = 0; i < 300; i++) { /* ten minutes */
        const struct digests digests = {.vector = net->nodes[0].digests.vector, .tree = 4711};
        tree_sync_digests(net->nodes[0].sync, net->now_us, &from, &digests);
        net_pass(net, 2000);
    }
    /* Each is asked for twice. */
    assert_true(net->messages_count[TREE_MESSAGE_SNAPSHOT_ASK] >= 2 * 2);
    assert_true(net->messages_count[TREE_MESSAGE_SNAPSHOT_ASK] <= 2 * 5);
    assert_int_equal(count_events(&net->nodes[0], TREE_SYNC_DIVERGED), 1);
    net_free(net);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_an_empty_node_takes_a_snapshot),
        cmocka_unit_test(test_several_share_one_snapshot),
        cmocka_unit_test(test_who_comes_soon_is_given_the_same_one),
        cmocka_unit_test(test_few_ops_come_as_ops),
        cmocka_unit_test(test_what_is_forgotten_comes_as_a_snapshot),
        cmocka_unit_test(test_a_restart_in_the_middle_goes_on),
        cmocka_unit_test(test_an_error_that_passes_costs_no_other_snapshot),
        cmocka_unit_test(test_a_lost_file_costs_another_snapshot),
        cmocka_unit_test(test_local_changes_go_on_during_a_merge),
        cmocka_unit_test(test_a_lost_connection_costs_what_was_on_its_way),
        cmocka_unit_test(test_who_comes_back_within_minutes_goes_on),
        cmocka_unit_test(test_who_asks_later_shares_what_is_read),
        cmocka_unit_test(test_a_divergence_is_told_and_repaired),
        cmocka_unit_test(test_of_two_contents_that_of_the_op_stays),
        cmocka_unit_test(test_of_two_contents_all_choose_one),
        cmocka_unit_test(test_a_wrong_sum_is_counted_anew),
        cmocka_unit_test(test_a_divergence_without_end_costs_little),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
