/* SPDX-License-Identifier: Apache-2.0 */
#include "net.h"

static void a_network_finds_itself_by_its_rosters(void **state)
{
    (void)state;
    struct net *net = net_of(8);
    struct buf saved[8] = {0};
    for (unsigned i = 0; i < 8; i++) {
        cluster_save(net->nodes[i].cluster, &saved[i]);
        net_stop(net, i);
    }
    net_run(net, 60 * NET_SECOND);
    for (unsigned i = 0; i < 8; i++) {
        struct cluster_options options = net_options(&net->nodes[i]);
        options.incarnation = 2;
        struct cluster *cluster = net_start(net, i, &options);
        cluster_set_seeds(cluster, NULL, 0);
        assert_int_equal(cluster_restore(cluster, net->now_us, buf_bytes(&saved[i])), 0);
        buf_done(&saved[i]);
    }
    assert_true(net_run_until_agreed(net, 10 * NET_SECOND));
    net_free(net);
}

static void members_lost_meanwhile_are_noticed(void **state)
{
    (void)state;
    struct net *net = net_of(8);
    struct buf saved = BUF_INIT;
    cluster_save(net->nodes[7].cluster, &saved);
    net_stop(net, 7);
    for (unsigned i = 2; i < 5; i++) {
        net_stop(net, i);
    }
    net_run(net, 60 * NET_SECOND);
    struct cluster_options options = net_options(&net->nodes[7]);
    options.incarnation = 2;
    struct cluster *cluster = net_start(net, 7, &options);
    assert_int_equal(cluster_restore(cluster, net->now_us, buf_bytes(&saved)), 0);
    buf_done(&saved);
    assert_int_equal(net_sees(net, 7, 3), MEMBER_ALIVE);
    assert_true(net_run_until_agreed(net, 5 * NET_SECOND));
    net_free(net);
}

static void a_damaged_roster_is_refused_whole(void **state)
{
    (void)state;
    struct net *net = net_of(5);
    struct buf saved = BUF_INIT;
    cluster_save(net->nodes[0].cluster, &saved);
    struct cluster *cluster = net_start(net, 0, NULL);
    for (size_t size = 0; size < saved.size; size++) {
        assert_int_equal(cluster_restore(cluster, net->now_us, BYTES(saved.data, size)), -EPROTO);
    }
    for (size_t i = 0; i < saved.size; i++) {
        saved.data[i] ^= 0x10;
        assert_int_equal(cluster_restore(cluster, net->now_us, buf_bytes(&saved)), -EPROTO);
        saved.data[i] ^= 0x10;
    }
    assert_int_equal(cluster_count(cluster, MEMBER_ALIVE), 1);
    assert_int_equal(cluster_restore(cluster, net->now_us, buf_bytes(&saved)), 0);
    assert_int_equal(cluster_count(cluster, MEMBER_ALIVE), 5);
    buf_done(&saved);
    net_free(net);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_network_finds_itself_by_its_rosters),
        cmocka_unit_test(members_lost_meanwhile_are_noticed),
        cmocka_unit_test(a_damaged_roster_is_refused_whole),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
