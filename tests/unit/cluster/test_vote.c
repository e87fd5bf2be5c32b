/* SPDX-License-Identifier: Apache-2.0 */
#include "net.h"

#include "base/random.h"

#define NODES 12u

/* Between these two, and between no others, nothing passes. */
static bool a_path_is_cut(struct net *net, unsigned from, unsigned to, struct bytes bytes,
                          bool is_message)
{
    (void)bytes;
    (void)is_message;
    const unsigned *pair = net->context;
    return (from == pair[0] && to == pair[1]) || (from == pair[1] && to == pair[0]);
}

static void one_that_hears_nothing_is_outvoted(void **state)
{
    (void)state;
    struct net *net = net_of(NODES);
    /* Every pair of neighbours on the ring, at least one of which watches the other, is among all
     * pairs. */
    for (unsigned i = 0; i < NODES; i++) {
        unsigned pair[2] = {i, (i + 1) % NODES};
        net->context = pair;
        net->loses = a_path_is_cut;
        net_run(net, 20 * NET_SECOND);
    }
    for (unsigned i = 0; i < NODES; i++) {
        assert_int_equal(cluster_counters(net->nodes[i].cluster)->accusations, 0);
    }
    net_free(net);
}

/* Node `*context` can send, and hears nobody. */
static bool is_deaf(struct net *net, unsigned from, unsigned to, struct bytes bytes,
                    bool is_message)
{
    (void)from;
    (void)bytes;
    (void)is_message;
    return to == *(unsigned *)net->context;
}

static void the_deaf_accuse_nobody(void **state)
{
    (void)state;
    struct net *net = net_of(NODES);
    unsigned deaf = 5;
    net->context = &deaf;
    net->loses = is_deaf;
    net_run(net, 60 * NET_SECOND);
    for (unsigned i = 0; i < NODES; i++) {
        assert_int_equal(net_sees(net, i == deaf ? 0 : i, deaf), MEMBER_UNREACHABLE);
        for (unsigned j = 0; j < NODES; j++) {
            assert_int_equal(net_count_events(net, i, CLUSTER_UNREACHABLE, j) > 0,
                             j == deaf && i != deaf);
        }
    }
    /* It knows that it is the one that is cut off. */
    assert_true(cluster_is_isolated(net->nodes[deaf].cluster));
    assert_int_equal(cluster_count(net->nodes[deaf].cluster, MEMBER_ALIVE), 1);
    net->loses = NULL;
    assert_true(net_run_until_agreed(net, 10 * NET_SECOND));
    assert_false(cluster_is_isolated(net->nodes[deaf].cluster));
    net_free(net);
}

static struct random loss_random;

static bool loses_at_random(struct net *net, unsigned from, unsigned to, struct bytes bytes,
                            bool is_message)
{
    (void)from;
    (void)to;
    (void)bytes;
    return !is_message && random_unit(&loss_random) < *(double *)net->context;
}

static void loss_of_five_percent_accuses_nobody(void **state)
{
    (void)state;
    random_init(&loss_random, 11);
    struct net *net = net_of(NODES);
    double loss = 0.05;
    net->context = &loss;
    net->loses = loses_at_random;
    net_run(net, 600 * NET_SECOND);
    for (unsigned i = 0; i < NODES; i++) {
        assert_int_equal(cluster_counters(net->nodes[i].cluster)->accusations, 0);
        assert_true(cluster_counters(net->nodes[i].cluster)->probes_sent > 600);
    }
    net_free(net);
}

static void observers_that_are_lost_too_are_replaced(void **state)
{
    (void)state;
    for (unsigned lost = 2; lost <= 9; lost++) {
        struct net *net = net_of(NODES);
        for (unsigned i = 0; i < lost; i++) {
            net_stop(net, i);
        }
        assert_true(net_run_until_agreed(net, 15 * NET_SECOND));
        net_free(net);
    }
}

static bool is_cut_in_two(struct net *net, unsigned from, unsigned to, struct bytes bytes,
                          bool is_message)
{
    (void)net;
    (void)bytes;
    (void)is_message;
    return from != to;
}

/* Counts the accusations that node 0 sends, and lets nothing through. */
static bool counts_accusations_of_0(struct net *net, unsigned from, unsigned to, struct bytes bytes,
                                    bool is_message)
{
    (void)to;
    (void)is_message;
    if (from == 0 && bytes.data[3] == DATAGRAM_ACCUSE) {
        ++*(unsigned *)net->context;
    }
    return true;
}

/* Two that hold each other for lost would go on for ever. */
static void an_accusation_is_not_answered_by_one(void **state)
{
    (void)state;
    struct net *net = net_of(2);
    struct cluster_member members[2];
    for (unsigned i = 0; i < 2; i++) {
        const struct node_id id = net_id(i);
        assert_true(cluster_find(net->nodes[0].cluster, &id, &members[i]));
    }
    net->loses = is_cut_in_two;
    net_run(net, 20 * NET_SECOND);
    assert_int_equal(net_sees(net, 0, 1), MEMBER_UNREACHABLE);
    unsigned count = 0;
    net->context = &count;
    net->loses = counts_accusations_of_0;
    struct datagram accusation = {
        .type = DATAGRAM_PING,
        .sender = net_id(1),
        .sender_nonce = members[1].record.version.boot_nonce,
        .receiver_nonce = (uint32_t)members[0].record.version.boot_nonce,
        .number = 7,
        .incarnation = 1,
        .subject_version = members[0].record.version,
    };
    const struct address from = net_address(1);
    for (unsigned i = 0; i < 2; i++) {
        struct buf bytes = BUF_INIT;
        assert_int_equal(datagram_format(&accusation, &bytes), 0);
        cluster_receive_datagram(net->nodes[0].cluster, net->now_us, &from, buf_bytes(&bytes));
        buf_done(&bytes);
        net_run(net, 10 * NET_MS);
        assert_int_equal(count, 1); /* of the ping */
        accusation.type = DATAGRAM_ACCUSE;
    }
    net_free(net);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(one_that_hears_nothing_is_outvoted),
        cmocka_unit_test(the_deaf_accuse_nobody),
        cmocka_unit_test(loss_of_five_percent_accuses_nobody),
        cmocka_unit_test(an_accusation_is_not_answered_by_one),
        cmocka_unit_test(observers_that_are_lost_too_are_replaced),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
