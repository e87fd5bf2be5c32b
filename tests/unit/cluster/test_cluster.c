/* SPDX-License-Identifier: Apache-2.0 */
#include "net.h"

static void one_node_is_alone(void **state)
{
    (void)state;
    struct net *net = net_of(1);
    assert_true(cluster_is_alone(net->nodes[0].cluster));
    assert_int_equal(cluster_count(net->nodes[0].cluster, MEMBER_ALIVE), 1);
    net_free(net);
}

static void all_see_all(void **state)
{
    (void)state;
    static const unsigned counts[] = {2, 3, 4, 5, 10, 40, 100};
    for (size_t i = 0; i < ARRAY_SIZE(counts); i++) {
        struct net *net = net_of(counts[i]);
        net_run(net, 60 * NET_SECOND);
        assert_true(net_agrees(net));
        for (unsigned j = 0; j < counts[i]; j++) {
            const struct cluster_counters *counters = cluster_counters(net->nodes[j].cluster);
            assert_int_equal(counters->accusations, 0);
            assert_int_equal(counters->alerts, 0);
        }
        net_free(net);
    }
}

static void a_lost_node_is_noticed_by_all(void **state)
{
    (void)state;
    static const unsigned counts[] = {2, 3, 4, 5, 10, 40, 100};
    for (size_t i = 0; i < ARRAY_SIZE(counts); i++) {
        struct net *net = net_of(counts[i]);
        net_run(net, 5 * NET_SECOND);
        net_stop(net, 1);
        assert_true(net_run_until_agreed(net, 4 * NET_SECOND));
        net_start(net, 1, NULL);
        net_run(net, 10 * NET_SECOND);
        net_free(net);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(one_node_is_alone),
        cmocka_unit_test(all_see_all),
        cmocka_unit_test(a_lost_node_is_noticed_by_all),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
