/* SPDX-License-Identifier: Apache-2.0 */
#include "net.h"

#include "base/random.h"

static void idle_traffic_is_two_probes_a_second(void **state)
{
    (void)state;
    static const unsigned counts[] = {5, 20, 100};
    for (size_t i = 0; i < ARRAY_SIZE(counts); i++) {
        struct net *net = net_of(counts[i]);
        net_run(net, 10 * NET_SECOND);
        uint64_t datagrams = 0;
        uint64_t bytes = 0;
        for (unsigned round = 0; round < 2; round++) {
            uint64_t datagrams_now = 0;
            uint64_t bytes_now = 0;
            for (unsigned j = 0; j < counts[i]; j++) {
                const struct cluster_counters *counters = cluster_counters(net->nodes[j].cluster);
                datagrams_now += counters->datagrams_sent;
                bytes_now += counters->datagram_bytes_sent;
            }
            datagrams = datagrams_now - datagrams;
            bytes = bytes_now - bytes;
            net_run(net, 100 * NET_SECOND);
        }
        /* Two pings and two answers each second; with IP and UDP headers below 500 bytes. */
        assert_in_range(datagrams, 395 * counts[i], 405 * counts[i]);
        assert_true((bytes + 28 * datagrams) / counts[i] / 100 <= 500);
        net_free(net);
    }
}

static void round_trips_are_measured(void **state)
{
    (void)state;
    struct net *net = net_of(3);
    net_run(net, 10 * NET_SECOND);
    const struct node_id id = net_id(1);
    struct cluster_member member;
    assert_true(cluster_find(net->nodes[0].cluster, &id, &member));
    assert_int_equal(member.rtt_us, 2 * NET_LATENCY_US);
    assert_true(net->now_us - member.proof_us <= 3 * NET_SECOND);
    net_free(net);
}

static bool loses_to_and_from_0(struct net *net, unsigned from, unsigned to, struct bytes bytes,
                                bool is_message)
{
    (void)net;
    (void)bytes;
    (void)is_message;
    return from == 0 || to == 0;
}

/* One of eight, by chance, whatever it is. */
static bool loses_an_eighth(struct net *net, unsigned from, unsigned to, struct bytes bytes,
                            bool is_message)
{
    (void)from;
    (void)to;
    (void)bytes;
    (void)is_message;
    return random_below(net->context, 8) == 0;
}

/* Pings that had to be sent again say nothing of how long answers take. Did they count, answers
 * would be waited for longer and longer. */
static void lost_datagrams_make_nobody_slower_to_notice(void **state)
{
    (void)state;
    struct random random;
    random_init(&random, 1);
    struct net *net = net_of(20);
    net->context = &random;
    net->loses = loses_an_eighth;
    net_run(net, 300 * NET_SECOND);
    for (unsigned victim = 3; victim < 8; victim++) {
        const uint64_t begin_us = net->now_us;
        net_stop(net, victim);
        bool is_noticed = false;
        while (!is_noticed && net->now_us < begin_us + 20 * NET_SECOND) {
            net_run(net, 100 * NET_MS);
            is_noticed = net_sees(net, 0, victim) == MEMBER_UNREACHABLE &&
                         net_sees(net, 19, victim) == MEMBER_UNREACHABLE;
        }
        assert_true(net->now_us - begin_us <= 4 * NET_SECOND);
    }
    net_free(net);
}

static void who_hears_nobody_is_isolated_and_says_so(void **state)
{
    (void)state;
    struct net *net = net_of(10);
    net->loses = loses_to_and_from_0;
    net_run(net, 30 * NET_SECOND);
    assert_true(cluster_is_isolated(net->nodes[0].cluster));
    assert_int_equal(net_sees(net, 0, 5), MEMBER_UNREACHABLE);
    assert_int_equal(cluster_counters(net->nodes[0].cluster)->accusations, 0);
    net->loses = NULL;
    assert_true(net_run_until_agreed(net, 10 * NET_SECOND));
    assert_int_equal(net_count_events(net, 0, CLUSTER_ISOLATED, 0), 1);
    assert_int_equal(net_count_events(net, 0, CLUSTER_CONNECTED, 0), 1);
    /* The nine others had nothing to refute. */
    for (unsigned i = 1; i < 10; i++) {
        assert_int_equal(cluster_counters(net->nodes[i].cluster)->refutations, 0);
    }
    net_free(net);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(idle_traffic_is_two_probes_a_second),
        cmocka_unit_test(round_trips_are_measured),
        cmocka_unit_test(lost_datagrams_make_nobody_slower_to_notice),
        cmocka_unit_test(who_hears_nobody_is_isolated_and_says_so),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
