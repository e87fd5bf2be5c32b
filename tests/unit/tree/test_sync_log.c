/* SPDX-License-Identifier: Apache-2.0 */
#include "sync_net.h"

#include "kv_copy.h"

/* All that a node has on its disk, as it is now, and back again. */
static struct copy *copy_disk(struct net *net, uint32_t index)
{
    return kv_copy_out(net->nodes[index].fixture->kv, TREE_TABLES);
}

static void put_back(struct net *net, uint32_t index, struct copy *copy)
{
    net_stop(net, index);
    kv_copy_in(net->nodes[index].fixture->kv, TREE_TABLES, copy);
    net_restart(net, index);
}

static void test_a_copied_back_directory_uses_no_name_again(void **state)
{
    (void)state;
    struct net *net = net_new(3, 1);
    net_put(net, 0, "a", '1');
    net_run(net, 10);
    struct copy *copy = copy_disk(net, 0);
    net_put(net, 0, "a", '2');
    net_put(net, 0, "b", '2');
    net_run(net, 10);
    put_back(net, 0, copy);
    /* At once, before anybody has said anything. */
    net_put(net, 0, "c", '3');
    net_run_until_agreed(net, 15000);
    assert_node_tree(net, 0, "a=2 b=2 c=3 ");
    assert_false(
        origin_id_equal(&net->nodes[0].fixture->dot.origin, &(struct origin_id){.bytes = {'A'}}));
    for (uint32_t i = 0; i < 3; i++) {
        assert_int_equal(tree_sync_counters(net->nodes[i].sync)->ops_forked, 0);
    }
    net_free(net);
}

static void test_a_peer_cannot_make_us_give_up_our_log(void **state)
{
    (void)state;
    struct net *net = net_new(2, 6);
    net_put(net, 0, "a", '1');
    net_put(net, 0, "b", '2');
    net_run(net, 10);
    /* Another op of the name of our first. */
    struct fixture *forger = fixture_new(false, 'A');
    assert_int_equal(put_file(forger, "forged", 'f'), 0);
    CLEANUP_BUF struct buf op = BUF_INIT;
    assert_int_equal(tree_op_read(forger->tree, forger->txn, &forger->dot, &op), 0);
    CLEANUP_BUF struct buf payload = BUF_INIT;
    const struct tree_message message = {.type = TREE_MESSAGE_SPREAD_OPS};
    tree_message_format(&message, &payload);
    tree_message_put_op(&payload, buf_bytes(&op));
    const struct node_id from = node_id_of(1);
    for (uint32_t i = 0; i < 2; i++) {
        tree_sync_broadcast(net->nodes[i].sync, net->now_us, &from, buf_bytes(&payload));
        tree_sync_apply(net->nodes[i].sync, net->now_us);
        assert_int_equal(tree_sync_counters(net->nodes[i].sync)->ops_forked, 1);
    }
    net_put(net, 0, "c", '3');
    net_run(net, 5000);
    assert_node_tree(net, 1, "a=1 b=2 c=3 ");
    const struct origin_id own = origin_of('A');
    assert_true(origin_id_equal(&net->nodes[0].fixture->dot.origin, &own));
    fixture_free(forger);
    net_free(net);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_copied_back_directory_uses_no_name_again),
        cmocka_unit_test(test_a_peer_cannot_make_us_give_up_our_log),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
