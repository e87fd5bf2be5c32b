/* SPDX-License-Identifier: Apache-2.0 */
#include "sync_net.h"

/* Node 0 writes, node 1 is the one that is lied to, node 2 lies. */
enum { WRITER = 0, VICTIM = 1, LIAR = 2 };

/* What the liar says that it has, and how often it was asked for it. */
static struct fixture *forged;
static uint64_t claimed_seq;
static uint8_t ops_flags;
static unsigned wants_count;

static void send_part(struct net *net, uint32_t index)
{
    struct net_node *node = &net->nodes[index];
    const struct node_id to = node_id_of(VICTIM);
    const struct tree_message part = {.type = TREE_MESSAGE_PART};
    const struct tree_message_entry entry = {origin_of('A'), claimed_seq, 4711};
    CLEANUP_BUF struct buf bytes = BUF_INIT;
    tree_message_format(&part, &bytes);
    tree_message_put_entry(&bytes, &entry);
    net_send(node, &to, buf_bytes(&bytes));
}

static void send_forged(struct net *net, uint32_t index, const struct tree_lack *lack)
{
    const struct node_id to = node_id_of(VICTIM);
    const struct tree_message ops = {.type = TREE_MESSAGE_OPS, .flags = ops_flags};
    CLEANUP_BUF struct buf bytes = BUF_INIT;
    tree_message_format(&ops, &bytes);
    begin(forged);
    for (uint64_t seq = lack->after_seq + 1; seq <= forged->dot.seq; seq++) {
        CLEANUP_BUF struct buf op = BUF_INIT;
        const struct dot dot = {lack->origin, seq};
        assert_int_equal(tree_op_read(forged->tree, forged->txn, &dot, &op), 0);
        tree_message_put_op(&bytes, buf_bytes(&op));
    }
    kv_abort(STEAL_PTR(forged->txn));
    net_send(&net->nodes[index], &to, buf_bytes(&bytes));
}

static void lie(struct net *net, uint32_t index, uint32_t from, const struct tree_message *message)
{
    assert_int_equal(from, VICTIM);
    if (message->type == TREE_MESSAGE_SUMS) {
        send_part(net, index);
    } else if (message->type == TREE_MESSAGE_WANT) {
        wants_count++;
        struct bytes list = message->list;
        struct tree_lack lack;
        assert_true(tree_message_next_lack(&list, &lack));
        send_forged(net, index, &lack);
    }
}

/* A network in which the writer has written one op that all have, and the liar another log by the
 * same name. */
static struct net *net_with_liar(uint64_t seed)
{
    struct net *net = net_new(3, seed);
    net_stop(net, LIAR);
    net->nodes[LIAR].puppet = lie;
    net->nodes[LIAR].digests = (struct digests){.vector = 4711, .tree = 4711};
    net->cut[LIAR][WRITER] = net->cut[WRITER][LIAR] = true;
    net_put(net, WRITER, "a", '1');
    net_run(net, 10);
    forged = fixture_new(false, 'A');
    commit(forged);
    for (char i = 0; i < 3; i++) {
        begin(forged);
        assert_int_equal(put_file(forged, (char[]){'f', (char)('0' + i), '\0'}, 'f'), 0);
        commit(forged);
    }
    claimed_seq = forged->dot.seq;
    ops_flags = 0;
    wants_count = 0;
    return net;
}

static void net_with_liar_free(struct net *net)
{
    fixture_free(STEAL_PTR(forged));
    net_free(net);
}

static void test_a_log_that_forks_is_left_alone_for_a_while(void **state)
{
    (void)state;
    struct net *net = net_with_liar(1);
    net_pass(net, 60000);
    assert_true(wants_count >= 2);
    assert_true(wants_count <= 4);
    assert_int_equal(tree_sync_counters(net->nodes[VICTIM].sync)->ops_forked, wants_count);
    net_with_liar_free(net);
}

static void test_who_forges_a_log_does_not_keep_it_from_us(void **state)
{
    (void)state;
    struct net *net = net_with_liar(2);
    while (wants_count == 0) {
        net_step(net);
    }
    net_run(net, 100);
    net->broadcast_loss_percent = 100;
    net_put(net, WRITER, "a", '2');
    net_run(net, 7000);
    assert_node_tree(net, VICTIM, "a=2 ");
    net_with_liar_free(net);
}

static void test_ops_behind_a_refused_one_do_not_wait(void **state)
{
    (void)state;
    struct net *net = net_with_liar(3);
    while (wants_count == 0) {
        net_step(net);
    }
    net_run(net, 5);
    /* The third waits for the second, which forks: nothing is asked for in its name. */
    const uint64_t wants = net->messages_count[TREE_MESSAGE_WANT];
    net_run(net, 1500);
    assert_int_equal(net->messages_count[TREE_MESSAGE_WANT], wants);
    assert_true(tree_sync_counters(net->nodes[VICTIM].sync)->ops_dropped > 0);
    net_with_liar_free(net);
}

static void test_another_op_of_the_same_name_is_told(void **state)
{
    (void)state;
    struct net *net = net_with_liar(6);
    claimed_seq = 1; /* with another hash */
    net_run(net, 8000);
    assert_int_equal(count_events(&net->nodes[VICTIM], TREE_SYNC_FORK), 1);
    assert_int_equal(wants_count, 0);
    net_with_liar_free(net);
}

static void test_news_of_what_never_comes_hold_back_nobody(void **state)
{
    (void)state;
    struct net *net = net_with_liar(4);
    net->nodes[LIAR].puppet = NULL;
    net->broadcast_loss_percent = 100;
    net_put(net, WRITER, "a", '2');
    const struct node_id from = node_id_of(LIAR);
    const struct tree_message news = {
        .type = TREE_MESSAGE_SPREAD_NEWS,
        .dot = {origin_of('A'), 2},
        .last_seq = UINT64_C(1) << 40,
    };
    CLEANUP_BUF struct buf payload = BUF_INIT;
    tree_message_format(&news, &payload);
    for (int i = 0; i < 30; i++) {
        tree_sync_broadcast(net->nodes[VICTIM].sync, net->now_us, &from, buf_bytes(&payload));
        net_run(net, 500);
    }
    assert_node_tree(net, VICTIM, "a=2 ");
    net_with_liar_free(net);
}

static void test_who_differs_always_holds_back_nobody(void **state)
{
    (void)state;
    struct net *net = net_with_liar(5);
    claimed_seq = UINT64_C(1) << 40;
    forged->dot.seq = 0; /* it sends nothing */
    ops_flags = TREE_OPS_MORE;
    net->broadcast_loss_percent = 100;
    net_put(net, WRITER, "a", '2');
    const struct node_id from = node_id_of(LIAR);
    for (int i = 0; i < 100; i++) {
        tree_sync_digests(net->nodes[VICTIM].sync, net->now_us, &from, &net->nodes[LIAR].digests);
        net_run(net, 100);
    }
    assert_node_tree(net, VICTIM, "a=2 ");
    assert_true(wants_count < 20);
    net_with_liar_free(net);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_log_that_forks_is_left_alone_for_a_while),
        cmocka_unit_test(test_who_forges_a_log_does_not_keep_it_from_us),
        cmocka_unit_test(test_ops_behind_a_refused_one_do_not_wait),
        cmocka_unit_test(test_another_op_of_the_same_name_is_told),
        cmocka_unit_test(test_news_of_what_never_comes_hold_back_nobody),
        cmocka_unit_test(test_who_differs_always_holds_back_nobody),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
