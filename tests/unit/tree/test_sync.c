/* SPDX-License-Identifier: Apache-2.0 */
#include "sync_net.h"

static void test_a_change_is_everywhere_by_one_broadcast(void **state)
{
    (void)state;
    struct net *net = net_new(4, 1);
    net_put(net, 0, "a/b", 'x');
    net_run(net, 10);
    for (uint32_t i = 0; i < 4; i++) {
        assert_node_tree(net, i, "a(/) a/b=x ");
    }
    assert_int_equal(tree_sync_counters(net->nodes[0].sync)->broadcasts, 1);
    assert_int_equal(tree_sync_counters(net->nodes[3].sync)->ops_applied, 1);
    assert_int_equal(net->message_bytes, 0);
    net_free(net);
}

static void test_a_lost_broadcast_is_found_by_comparing(void **state)
{
    (void)state;
    struct net *net = net_new(3, 2);
    net->broadcast_loss_percent = 100;
    net_put(net, 0, "a", 'x');
    net_put(net, 1, "b", 'y');
    net_run(net, 100);
    assert_node_tree(net, 2, "");
    net_run_until_agreed(net, 8000);
    assert_node_tree(net, 2, "a=x b=y ");
    assert_true(tree_sync_counters(net->nodes[2].sync)->pulls > 0);
    /* Sums, and the entries that differ; nothing of the whole vector. */
    assert_true(net->message_bytes < 12 * TREE_SUMS * 8);
    net_free(net);
}

static void test_who_is_ahead_does_not_compare(void **state)
{
    (void)state;
    struct net *net = net_new(2, 3);
    net->cut[0][1] = true; /* 1 hears nothing, and is heard */
    net_put(net, 0, "a", 'x');
    net_run(net, 10000);
    assert_int_equal(tree_sync_counters(net->nodes[0].sync)->pulls, 0);
    net_free(net);
}

static void test_an_early_op_waits_for_its_cause(void **state)
{
    (void)state;
    struct net *net = net_new(3, 4);
    /* 2 does not hear of the first op of 0, and hears of the second of 1, which replaces it. */
    net->cut[0][2] = true;
    net_put(net, 0, "a", 'x');
    net_run(net, 10);
    net_put(net, 1, "a", 'y');
    net_run(net, 10);
    assert_node_tree(net, 2, "");
    assert_int_equal(tree_sync_counters(net->nodes[2].sync)->ops_early, 1);
    /* It asks the one who sent it, before any digest tells of a difference. */
    net_run(net, 200);
    assert_node_tree(net, 2, "a=y ");
    net_free(net);
}

static void test_ops_in_reverse_order_are_all_applied(void **state)
{
    (void)state;
    struct net *net = net_new(2, 5);
    net->broadcast_loss_percent = 100;
    for (char i = 0; i < 50; i++) {
        char name[32];
        snprintf(name, sizeof name, "f%02d", i);
        net_put(net, 0, name, 'x');
    }
    struct kv_txn *txn = NULL;
    assert_int_equal(net_read(&net->nodes[0], &txn), 0);
    const struct node_id from = node_id_of(0);
    for (uint64_t seq = 50; seq >= 1; seq--) {
        CLEANUP_BUF struct buf op = BUF_INIT;
        CLEANUP_BUF struct buf payload = BUF_INIT;
        const struct dot dot = {origin_of('A'), seq};
        assert_int_equal(tree_op_read(net->nodes[0].fixture->tree, txn, &dot, &op), 0);
        const struct tree_message message = {.type = TREE_MESSAGE_SPREAD_OPS};
        tree_message_format(&message, &payload);
        tree_message_put_op(&payload, buf_bytes(&op));
        tree_sync_broadcast(net->nodes[1].sync, net->now_us, &from, buf_bytes(&payload));
        tree_sync_apply(net->nodes[1].sync, net->now_us); /* each alone */
    }
    kv_abort(txn);
    assert_true(net_agrees(net));
    assert_int_equal(tree_sync_counters(net->nodes[1].sync)->ops_early, 49);
    net_free(net);
}

static void test_many_ops_are_named_and_pulled(void **state)
{
    (void)state;
    struct net *net = net_new(3, 6);
    change_begin(net, 0);
    for (int i = 0; i < 3000; i++) {
        char name[32];
        snprintf(name, sizeof name, "d%d/f%d", i % 10, i);
        assert_int_equal(put_file(net->nodes[0].fixture, name, 'x'), 0);
    }
    change_end(net, 0);
    net_run(net, 50);
    assert_true(net_agrees(net));
    assert_int_equal(tree_sync_counters(net->nodes[0].sync)->broadcasts, 1);
    assert_int_equal(tree_sync_counters(net->nodes[1].sync)->pulls, 0);
    assert_int_equal(tree_sync_counters(net->nodes[1].sync)->ops_known, 0);
    net_free(net);
}

static void test_an_op_longer_than_a_message_comes_in_pieces(void **state)
{
    (void)state;
    struct net *net = net_new(3, 7);
    struct fixture *fixture = net->nodes[0].fixture;
    enum { PUTS = 20000 };
    struct tree_put *puts = mem_alloc_array(PUTS, sizeof *puts);
    char(*names)[32] = mem_alloc_array(PUTS, sizeof *names);
    for (int i = 0; i < PUTS; i++) {
        snprintf(names[i], sizeof names[i], "top/directory/file-%06d", i);
        puts[i] = file_put(names[i], 'x');
    }
    change_begin(net, 0);
    const struct tree_put top = directory_put_of("top");
    assert_int_equal(
        tree_change_replace_directory(fixture->tree, fixture->txn, &top, puts, PUTS, &fixture->dot),
        0);
    change_end(net, 0);
    net_run(net, 100);
    assert_true(net_agrees(net));
    /* In one op. */
    assert_int_equal(tree_sync_counters(net->nodes[2].sync)->ops_applied, 1);
    free(names);
    free(puts);
    net_free(net);
}

static void test_who_is_told_first_waits_for_its_teller(void **state)
{
    (void)state;
    struct net *net = net_new(2, 8);
    net->broadcast_loss_percent = 100;
    /* 1 is told by somebody who does not have it yet. */
    const struct node_id from = node_id_of(0);
    const struct tree_message news = {
        .type = TREE_MESSAGE_SPREAD_NEWS,
        .dot = {origin_of('A'), 1},
        .last_seq = 2,
    };
    CLEANUP_BUF struct buf payload = BUF_INIT;
    tree_message_format(&news, &payload);
    tree_sync_broadcast(net->nodes[1].sync, net->now_us, &from, buf_bytes(&payload));
    net_run(net, 10);
    assert_node_tree(net, 1, "");
    net_put(net, 0, "a", 'x');
    net_run(net, 10);
    assert_node_tree(net, 1, "a=x ");
    net_put(net, 0, "b", 'y');
    net_run(net, 10);
    assert_node_tree(net, 1, "a=x b=y ");
    net_free(net);
}

static void test_news_of_two_tellers_are_pulled_once(void **state)
{
    (void)state;
    struct net *net = net_new(3, 15);
    const struct tree_message news = {
        .type = TREE_MESSAGE_SPREAD_NEWS,
        .dot = {origin_of('Z'), 1},
        .last_seq = 2,
    };
    CLEANUP_BUF struct buf payload = BUF_INIT;
    tree_message_format(&news, &payload);
    for (uint32_t teller = 0; teller < 2; teller++) {
        const struct node_id from = node_id_of(teller);
        tree_sync_broadcast(net->nodes[2].sync, net->now_us, &from, buf_bytes(&payload));
    }
    assert_int_equal(net->messages_count[TREE_MESSAGE_WANT], 1);
    net_free(net);
}

static void wish_for(struct net *net, uint32_t from, uint8_t first, unsigned count)
{
    const struct node_id peer = node_id_of(from);
    const struct tree_message want = {.type = TREE_MESSAGE_WANT, .flags = TREE_WANT_WHEN_HERE};
    CLEANUP_BUF struct buf bytes = BUF_INIT;
    tree_message_format(&want, &bytes);
    for (unsigned i = 0; i < count; i++) {
        struct tree_lack lack = {origin_of((char)first), 0, 5};
        lack.origin.bytes[14] ^= (uint8_t)(i >> 8);
        lack.origin.bytes[15] ^= (uint8_t)i;
        tree_message_put_lack(&bytes, &lack);
    }
    tree_sync_message(net->nodes[0].sync, net->now_us, &peer, buf_bytes(&bytes));
}

static void test_who_wishes_much_pushes_out_its_own(void **state)
{
    (void)state;
    struct net *net = net_new(3, 17);
    net->broadcast_loss_percent = 100;
    wish_for(net, 1, 'A', 1); /* of what node 0 is about to write */
    for (uint8_t i = 0; i < 8; i++) {
        wish_for(net, 2, (uint8_t)('a' + i), 1000);
    }
    net_put(net, 0, "a", 'x');
    net_run(net, 10);
    assert_node_tree(net, 1, "a=x ");
    net_free(net);
}

static void test_what_is_wished_again_is_sent_once(void **state)
{
    (void)state;
    struct net *net = net_new(2, 18);
    net->broadcast_loss_percent = 100;
    for (int i = 0; i < 10; i++) {
        wish_for(net, 1, 'A', 1);
    }
    net_put(net, 0, "a", 'x');
    net_run(net, 10);
    assert_node_tree(net, 1, "a=x ");
    assert_int_equal(net->messages_count[TREE_MESSAGE_OPS], 1);
    net_free(net);
}

static void test_wishes_for_two_parts_of_a_log_are_one(void **state)
{
    (void)state;
    struct net *net = net_new(2, 19);
    net->broadcast_loss_percent = 100;
    const struct node_id peer = node_id_of(1);
    for (uint64_t after = 0; after < 4; after += 2) {
        const struct tree_message want = {.type = TREE_MESSAGE_WANT, .flags = TREE_WANT_WHEN_HERE};
        const struct tree_lack lack = {origin_of('A'), after, after + 2};
        CLEANUP_BUF struct buf bytes = BUF_INIT;
        tree_message_format(&want, &bytes);
        tree_message_put_lack(&bytes, &lack);
        tree_sync_message(net->nodes[0].sync, net->now_us, &peer, buf_bytes(&bytes));
    }
    for (unsigned i = 0; i < 4; i++) {
        net_put(net, 0, (char[]){"abcd"[i], '\0'}, 'x');
    }
    net_run(net, 10);
    assert_node_tree(net, 1, "a=x b=x c=x d=x ");
    net_free(net);
}

static void test_others_are_awaited(void **state)
{
    (void)state;
    struct net *net = net_new(4, 9);
    net_put(net, 0, "a", 'x');
    tree_sync_await(net->nodes[0].sync, net->now_us, &net->nodes[0].fixture->dot, 2,
                    net->now_us + 5000000, 77);
    assert_int_equal(count_events(&net->nodes[0], TREE_SYNC_AWAITED), 0);
    net_run(net, 20);
    assert_int_equal(count_events(&net->nodes[0], TREE_SYNC_AWAITED), 1);
    const struct tree_sync_event *event = &net->nodes[0].events[net->nodes[0].events_count - 1];
    assert_int_equal(event->number, 77);
    assert_int_equal(event->count, 2);
    net_free(net);
}

static void test_an_await_ends_with_who_has_it(void **state)
{
    (void)state;
    struct net *net = net_new(4, 10);
    net_stop(net, 2);
    net_stop(net, 3);
    net_put(net, 0, "a", 'x');
    tree_sync_await(net->nodes[0].sync, net->now_us, &net->nodes[0].fixture->dot, 2,
                    net->now_us + 3000000, 5);
    net_run(net, 2500);
    assert_int_equal(count_events(&net->nodes[0], TREE_SYNC_AWAITED), 0);
    net_run(net, 600);
    assert_int_equal(count_events(&net->nodes[0], TREE_SYNC_AWAITED), 1);
    const struct tree_sync_event *event = &net->nodes[0].events[net->nodes[0].events_count - 1];
    assert_int_equal(event->count, 1);
    net_free(net);
}

static void test_an_answer_to_an_earlier_life_counts_for_nothing(void **state)
{
    (void)state;
    struct net *net = net_new(2, 16);
    net->broadcast_loss_percent = 100;
    net_put(net, 0, "a", 'x');
    const struct dot first = net->nodes[0].fixture->dot;
    tree_sync_await(net->nodes[0].sync, net->now_us, &first, 1, net->now_us + 9000000, 7);
    net_run(net, 5);
    net_stop(net, 0);
    net_restart(net, 0);
    net_put(net, 0, "b", 'y');
    tree_sync_await(net->nodes[0].sync, net->now_us, &net->nodes[0].fixture->dot, 1,
                    net->now_us + 9000000, 8);
    net_run(net, 5);
    /* The other one gets the first of them alone, and tells so. */
    struct kv_txn *txn = NULL;
    CLEANUP_BUF struct buf op = BUF_INIT;
    assert_int_equal(net_read(&net->nodes[0], &txn), 0);
    assert_int_equal(tree_op_read(net->nodes[0].fixture->tree, txn, &first, &op), 0);
    kv_abort(txn);
    const struct node_id from = node_id_of(0);
    CLEANUP_BUF struct buf payload = BUF_INIT;
    const struct tree_message message = {.type = TREE_MESSAGE_SPREAD_OPS};
    tree_message_format(&message, &payload);
    tree_message_put_op(&payload, buf_bytes(&op));
    tree_sync_broadcast(net->nodes[1].sync, net->now_us, &from, buf_bytes(&payload));
    net_run(net, 20);
    assert_int_equal(net->messages_count[TREE_MESSAGE_HAS], 1);
    assert_int_equal(count_events(&net->nodes[0], TREE_SYNC_AWAITED), 0);
    net_run_until_agreed(net, 8000);
    net_run(net, 10);
    assert_int_equal(count_events(&net->nodes[0], TREE_SYNC_AWAITED), 1);
    net_free(net);
}

static void test_a_member_tells_its_state(void **state)
{
    (void)state;
    struct net *net = net_new(2, 11);
    net_put(net, 1, "a", 'x');
    net_run(net, 10);
    const struct node_id member = node_id_of(1);
    tree_sync_ask(net->nodes[0].sync, net->now_us, &member, 3);
    net_run(net, 10);
    const struct tree_sync_event *event = &net->nodes[0].events[net->nodes[0].events_count - 1];
    assert_int_equal(event->kind, TREE_SYNC_STATE);
    assert_int_equal(event->number, 3);
    assert_int_equal(event->state.ops_count, 1);
    assert_int_equal(event->state.entries_count, 1);
    assert_memory_equal(event->state.fingerprint, summary_of(&net->nodes[0]).fingerprint,
                        TREE_FINGERPRINT_BYTES);
    net_free(net);
}

static void test_garbage_is_refused_and_counted(void **state)
{
    (void)state;
    struct net *net = net_new(2, 12);
    const struct node_id from = node_id_of(0);
    net_put(net, 0, "a", 'x');
    net_run(net, 10);
    struct random random;
    random_init(&random, 12);
    for (int i = 0; i < 2000; i++) {
        uint8_t bytes[64] = {1, 0, (uint8_t)(1 + i % 16)};
        random_fill(&random, bytes + 3, sizeof bytes - 3);
        tree_sync_message(net->nodes[1].sync, net->now_us, &from,
                          BYTES(bytes, random_below(&random, sizeof bytes)));
    }
    tree_sync_apply(net->nodes[1].sync, net->now_us);
    net_run(net, 5000);
    assert_true(tree_sync_counters(net->nodes[1].sync)->messages_refused > 0);
    assert_node_tree(net, 1, "a=x ");
    net_free(net);
}

static void test_a_failing_disk_is_told_and_tried_again(void **state)
{
    (void)state;
    struct net *net = net_new(2, 13);
    net->nodes[1].write_err = -ENOSPC;
    net_put(net, 0, "a", 'x');
    net_run(net, 3000);
    assert_true(count_events(&net->nodes[1], TREE_SYNC_FAILED) > 0);
    assert_node_tree(net, 1, "");
    net->nodes[1].write_err = 0;
    net_run_until_agreed(net, 8000);
    net_free(net);
}

static void test_with_losses_all_come_to_the_same(void **state)
{
    (void)state;
    struct net *net = net_new(6, 14);
    net->broadcast_loss_percent = 30;
    for (int round = 0; round < 200; round++) {
        const uint32_t index = (uint32_t)random_below(&net->random, net->count);
        char name[32];
        snprintf(name, sizeof name, "n%d", (int)random_below(&net->random, 10));
        net_put(net, index, name, (char)('a' + round % 26));
        net_run(net, random_below(&net->random, 30));
    }
    net_run_until_agreed(net, 15000);
    net_free(net);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_change_is_everywhere_by_one_broadcast),
        cmocka_unit_test(test_a_lost_broadcast_is_found_by_comparing),
        cmocka_unit_test(test_who_is_ahead_does_not_compare),
        cmocka_unit_test(test_an_early_op_waits_for_its_cause),
        cmocka_unit_test(test_ops_in_reverse_order_are_all_applied),
        cmocka_unit_test(test_many_ops_are_named_and_pulled),
        cmocka_unit_test(test_an_op_longer_than_a_message_comes_in_pieces),
        cmocka_unit_test(test_who_is_told_first_waits_for_its_teller),
        cmocka_unit_test(test_news_of_two_tellers_are_pulled_once),
        cmocka_unit_test(test_who_wishes_much_pushes_out_its_own),
        cmocka_unit_test(test_what_is_wished_again_is_sent_once),
        cmocka_unit_test(test_wishes_for_two_parts_of_a_log_are_one),
        cmocka_unit_test(test_others_are_awaited),
        cmocka_unit_test(test_an_await_ends_with_who_has_it),
        cmocka_unit_test(test_an_answer_to_an_earlier_life_counts_for_nothing),
        cmocka_unit_test(test_a_member_tells_its_state),
        cmocka_unit_test(test_garbage_is_refused_and_counted),
        cmocka_unit_test(test_a_failing_disk_is_told_and_tried_again),
        cmocka_unit_test(test_with_losses_all_come_to_the_same),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
