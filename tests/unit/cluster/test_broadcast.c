/* SPDX-License-Identifier: Apache-2.0 */
#include "net.h"

#define KIND 77

static unsigned heard_counts[NET_NODES_MAX];

static void on_broadcast(void *context, const struct node_id *from, uint8_t kind,
                         struct bytes payload)
{
    (void)from;
    const struct net_node *node = context;
    assert_int_equal(kind, KIND);
    assert_true(bytes_equal(payload, bytes_of_string("news")));
    heard_counts[node->index]++;
}

static struct net *net_that_listens(unsigned count)
{
    struct net *net = net_new();
    for (unsigned i = 0; i < count; i++) {
        net_start(net, i, NULL);
        struct cluster_options options = net_options(&net->nodes[i]);
        options.host.broadcast = on_broadcast;
        net_start(net, i, &options);
        heard_counts[i] = 0;
    }
    assert_true(net_run_until_agreed(net, 20 * NET_SECOND));
    return net;
}

static uint64_t count_forwarded(const struct net *net)
{
    uint64_t count = 0;
    for (unsigned i = 0; i < net->count; i++) {
        count += net->nodes[i].cluster
                     ? cluster_counters(net->nodes[i].cluster)->broadcasts_forwarded
                     : 0;
    }
    return count;
}

static void begin(struct net *net, unsigned at)
{
    cluster_broadcast(net->nodes[at].cluster, net_clock(&net->nodes[at]), KIND,
                      bytes_of_string("news"));
}

static void each_gets_it_once_in_few_steps(void **state)
{
    (void)state;
    static const unsigned counts[] = {1, 2, 3, 8, 9, 10, 73, 100};
    for (size_t i = 0; i < ARRAY_SIZE(counts); i++) {
        struct net *net = net_that_listens(counts[i]);
        const uint64_t before = count_forwarded(net);
        begin(net, counts[i] / 2);
        /* 8 in the first step, 72 with the second, 584 with the third. */
        net_run(net, 3 * NET_LATENCY_US);
        for (unsigned j = 0; j < counts[i]; j++) {
            assert_int_equal(heard_counts[j], j != counts[i] / 2);
        }
        assert_int_equal(count_forwarded(net) - before, counts[i] - 1);
        net_free(net);
    }
}

static bool loses_a_third_of_broadcasts(struct net *net, unsigned from, unsigned to,
                                        struct bytes bytes, bool is_message)
{
    (void)from;
    (void)to;
    (void)is_message;
    unsigned *count = net->context;
    return bytes.size > 3 && bytes.data[3] == DATAGRAM_BROADCAST && (*count)++ % 3 == 0;
}

static void a_lost_part_goes_again(void **state)
{
    (void)state;
    struct net *net = net_that_listens(100);
    unsigned count = 0;
    net->context = &count;
    net->loses = loses_a_third_of_broadcasts;
    begin(net, 50);
    net_run(net, 2 * NET_SECOND);
    unsigned missing = 0;
    for (unsigned j = 0; j < 100; j++) {
        missing += j != 50 && heard_counts[j] == 0;
    }
    /* A delegate that is passed over hears nothing: it may be lost. */
    assert_true(missing < 40);
    assert_true(count > 99);
    net_free(net);
}

static void a_lost_delegate_costs_its_part_nothing(void **state)
{
    (void)state;
    struct net *net = net_that_listens(60);
    for (unsigned i = 0; i < 6; i++) {
        net_stop(net, 10 * i);
    }
    begin(net, 5); /* nobody has noticed yet */
    net_run(net, 3 * NET_SECOND);
    for (unsigned j = 0; j < 60; j++) {
        assert_int_equal(heard_counts[j] > 0, j != 5 && j % 10 != 0);
    }
    net_free(net);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_gets_it_once_in_few_steps),
        cmocka_unit_test(a_lost_part_goes_again),
        cmocka_unit_test(a_lost_delegate_costs_its_part_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
