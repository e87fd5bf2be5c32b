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

/* The sum over all nodes of the counter at `offset`. */
static uint64_t count_of(const struct net *net, size_t offset)
{
    uint64_t count = 0;
    for (unsigned i = 0; i < net->count; i++) {
        if (net->nodes[i].cluster) {
            const char *counters = (const char *)cluster_counters(net->nodes[i].cluster);
            uint64_t one;
            memcpy(&one, counters + offset, sizeof one);
            count += one;
        }
    }
    return count;
}

static uint64_t count_forwarded(const struct net *net)
{
    return count_of(net, offsetof(struct cluster_counters, broadcasts_forwarded));
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

static bool loses_a_fifth_of_broadcasts(struct net *net, unsigned from, unsigned to,
                                        struct bytes bytes, bool is_message)
{
    (void)from;
    (void)to;
    (void)is_message;
    unsigned *count = net->context;
    return bytes.size > 3 && bytes.data[3] == DATAGRAM_BROADCAST && (*count)++ % 5 == 0;
}

static void a_lost_part_goes_again(void **state)
{
    (void)state;
    struct net *net = net_that_listens(100);
    unsigned count = 0;
    net->context = &count;
    net->loses = loses_a_fifth_of_broadcasts;
    begin(net, 50);
    net_run(net, NET_SECOND);
    for (unsigned j = 0; j < 100; j++) {
        assert_int_equal(heard_counts[j], j != 50);
    }
    assert_true(count > 99);
    assert_true(count_of(net, offsetof(struct cluster_counters, broadcast_parts_resent)) > 0);
    assert_int_equal(count_of(net, offsetof(struct cluster_counters, broadcast_parts_lost)), 0);
    net_free(net);
}

static unsigned lost_left[NET_NODES_MAX];

/* Of each node, the first broadcasts to it, as many as it has left. */
static bool loses_the_first(struct net *net, unsigned from, unsigned to, struct bytes bytes,
                            bool is_message)
{
    (void)net;
    (void)from;
    (void)is_message;
    if (bytes.size <= 3 || bytes.data[3] != DATAGRAM_BROADCAST || lost_left[to] == 0) {
        return false;
    }
    lost_left[to]--;
    return true;
}

/* Its part goes on without it, and it is told in the end. */
static void a_delegate_that_is_passed_over_is_told_too(void **state)
{
    (void)state;
    struct net *net = net_that_listens(100);
    net->loses = loses_the_first;
    for (unsigned j = 0; j < 100; j += 10) {
        lost_left[j] = 4;
    }
    begin(net, 55);
    net_run(net, 250 * NET_MS);
    unsigned heard = 0;
    for (unsigned j = 0; j < 100; j++) {
        heard += heard_counts[j];
        assert_true(j % 10 != 0 || heard_counts[j] == 0);
    }
    assert_true(heard > 80); /* where one that hears nothing follows another, it takes longer */
    net_run(net, 600 * NET_MS);
    for (unsigned j = 0; j < 100; j++) {
        assert_int_equal(heard_counts[j], j != 55);
    }
    net_free(net);
}

static bool loses_receipts(struct net *net, unsigned from, unsigned to, struct bytes bytes,
                           bool is_message)
{
    (void)net;
    (void)from;
    (void)to;
    (void)is_message;
    return bytes.size > 3 && bytes.data[3] == DATAGRAM_RECEIPT;
}

/* As many as the tree begins in a second, and each of their parts comes several times. */
static void hundreds_at_once_are_told_once_each(void **state)
{
    (void)state;
    struct net *net = net_that_listens(10);
    net->loses = loses_receipts;
    for (unsigned i = 0; i < 150; i++) {
        begin(net, 5);
    }
    net_run(net, 100 * NET_MS);
    net->loses = NULL;
    net_run(net, 2 * NET_SECOND);
    unsigned more = 0;
    for (unsigned j = 0; j < 10; j++) {
        assert_true(j == 5 || heard_counts[j] >= 150);
        more += j == 5 ? 0 : heard_counts[j] - 150;
    }
    /* A place in the table of what was seen is shared by chance. */
    assert_true(more < 9 * 150 / 10);
    net_free(net);
}

static void beyond_the_bound_parts_are_sent_once_and_counted(void **state)
{
    (void)state;
    struct net *net = net_that_listens(10);
    for (unsigned i = 0; i < 300; i++) {
        begin(net, 5);
    }
    assert_true(cluster_counters(net->nodes[5].cluster)->broadcast_parts_unwatched > 0);
    net_run(net, NET_SECOND);
    for (unsigned j = 0; j < 10; j++) {
        assert_int_equal(heard_counts[j] >= 300, j != 5);
    }
    net_free(net);
}

/* What waited in its socket was passed on by others in the meantime. */
static void who_was_held_up_passes_nothing_on(void **state)
{
    (void)state;
    struct net *net = net_that_listens(30);
    uint64_t before[30];
    for (unsigned j = 0; j < 30; j++) {
        before[j] = cluster_counters(net->nodes[j].cluster)->broadcasts_forwarded;
    }
    for (unsigned j = 0; j < 30; j += 3) {
        net->nodes[j].is_paused = true;
    }
    net_run(net, 500 * NET_MS);
    begin(net, 5);
    net_run(net, 20 * NET_SECOND);
    for (unsigned j = 0; j < 30; j += 3) {
        net->nodes[j].is_paused = false;
    }
    net_run(net, 20 * NET_MS);
    for (unsigned j = 0; j < 30; j++) {
        const uint64_t after = cluster_counters(net->nodes[j].cluster)->broadcasts_forwarded;
        assert_true(j == 5 || heard_counts[j] > 0);
        assert_true(j % 3 != 0 || after == before[j]);
    }
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
        cmocka_unit_test(a_delegate_that_is_passed_over_is_told_too),
        cmocka_unit_test(hundreds_at_once_are_told_once_each),
        cmocka_unit_test(beyond_the_bound_parts_are_sent_once_and_counted),
        cmocka_unit_test(who_was_held_up_passes_nothing_on),
        cmocka_unit_test(a_lost_delegate_costs_its_part_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
